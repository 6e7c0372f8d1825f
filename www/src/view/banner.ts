/** The banner: what went wrong, and what to do about it. */

import type { State } from "../state.js";
import { byId, part, setShown, setText } from "./dom.js";

/** Shows the latest trouble; the result brings it up to date. */
export function mountBanner(state: State): () => void {
  const banner = byId("banner");
  const title = part(banner, "title");
  const advice = part(banner, "advice");
  const more = part<HTMLDetailsElement>(banner, "more");
  const detail = part(banner, "detail");
  const action = part<HTMLButtonElement>(banner, "action");
  let shown = "";

  action.addEventListener("click", () => state.trouble()?.trouble.action?.run());
  part(banner, "dismiss").addEventListener("click", () => state.dismissTrouble(shown));

  return () => {
    const current = state.trouble();
    setShown(banner, current !== undefined);
    if (current === undefined) {
      return;
    }
    const { key, trouble } = current;
    if (shown !== key) {
      shown = key;
      more.open = false;
    }
    setText(title, trouble.title);
    setText(advice, trouble.advice);
    setShown(more, trouble.detail !== undefined);
    setText(detail, trouble.detail ?? "");
    setShown(action, trouble.action !== undefined);
    setText(action, trouble.action?.label ?? "");
  };
}
