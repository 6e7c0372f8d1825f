/** Who I am: picture, name and peer id. */

import { cleanName } from "../payload.js";
import { nickname } from "../seeded.js";
import type { State } from "../state.js";
import { shortId } from "../words.js";
import { showAvatar } from "./avatar.js";
import { byId, setAttribute, setShown, setText } from "./dom.js";

/** Shows this page's own node; `rename` is told a new name. The result brings it up to date. */
export function mountMe(state: State, rename: (name: string) => void): () => void {
  const avatar = byId("me-avatar");
  const name = byId<HTMLInputElement>("name-input");
  const id = byId("own-peer-id");
  const copy = byId<HTMLButtonElement>("copy-id");
  const note = byId("identity-note");

  const keep = () => {
    const clean = cleanName(name.value) ?? "";
    name.value = clean;
    if (clean !== state.name) {
      rename(clean);
    }
  };
  name.addEventListener("change", keep);
  name.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.isComposing) {
      name.blur();
    } else if (event.key === "Escape") {
      name.value = state.name;
      name.blur();
    }
  });

  copy.addEventListener("click", () => {
    const done = (word: string) => {
      copy.textContent = word;
      setTimeout(() => (copy.textContent = "Copy"), 1500);
    };
    // Only secure pages have a clipboard; elsewhere the id can be marked and copied by hand.
    (navigator as { clipboard?: Clipboard }).clipboard?.writeText(state.me).then(
      () => done("Copied"),
      () => done("Not allowed"),
    ) ?? done("Not allowed");
  });

  return () => {
    if (state.me !== "") {
      showAvatar(avatar, state.me);
      setText(id, shortId(state.me));
      setAttribute(id, "title", state.me);
      name.placeholder = nickname(state.me);
    }
    setAttribute(id, "data-peer-id", state.me);
    copy.disabled = state.me === "";
    if (document.activeElement !== name && name.value !== state.name) {
      name.value = state.name;
    }
    setText(note, state.identityNote);
    setShown(note, state.identityNote !== "");
  };
}
