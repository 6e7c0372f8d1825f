/** The timeline: what everybody has written to everybody, and the field to write there. */

import type { Post, State } from "../state.js";
import { ago, shortId } from "../words.js";
import { showAvatar } from "./avatar.js";
import { byId, fromTemplate, part, setAttribute, setShown, setText, showList, submitOnEnter } from "./dom.js";

/** From how many characters left on they are counted down. */
const COUNT_FROM = 200;

/** What people do on the timeline. */
export interface TimelineActions {
  /** Sends a post; whether it was accepted. */
  post(text: string): boolean;
  /** Sends a post anew that nobody heard. */
  again(id: string): void;
  /** Opens the conversation with an author. */
  open(peer: string): void;
}

/** Shows the timeline; the result brings it up to date. */
export function mountTimeline(state: State, actions: TimelineActions): () => void {
  const list = byId("posts");
  const empty = byId("posts-empty");
  const form = byId<HTMLFormElement>("post-form");
  const input = byId<HTMLTextAreaElement>("post-input");
  const button = byId<HTMLButtonElement>("post-button");
  const counter = byId("post-counter");

  const compose = () => {
    const left = input.maxLength - input.value.length;
    setText(counter, left <= COUNT_FROM ? `${left} characters left` : "");
    button.disabled = !canWrite(state) || input.value.trim() === "";
  };
  input.addEventListener("input", compose);
  submitOnEnter(input);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = input.value.trim();
    if (text !== "" && canWrite(state) && actions.post(text)) {
      input.value = "";
      // The button is disabled in a moment, and would take the focus with it.
      if (document.activeElement === button) {
        input.focus();
      }
    }
    compose();
  });

  const create = (post: Post): HTMLElement => {
    const item = fromTemplate("post-template");
    setAttribute(item, "data-sender", post.sender);
    setAttribute(item, "data-own", String(post.sender === state.me));
    showAvatar(part(item, "avatar"), post.sender);
    setText(part(item, "text"), post.text);
    const id = part(item, "id");
    setText(id, shortId(post.sender));
    setAttribute(id, "title", post.sender);
    const scope = part(item, "scope");
    setText(scope, post.scope ?? "");
    setShown(scope, post.scope !== undefined);
    const time = part<HTMLTimeElement>(item, "time");
    time.dateTime = new Date(post.at).toISOString();
    time.title = new Date(post.at).toLocaleString();
    setShown(part(item, "foot"), post.unheard);
    part(item, "again").addEventListener("click", () => actions.again(post.id));
    const author = part<HTMLButtonElement>(item, "author");
    author.disabled = post.sender === state.me;
    author.addEventListener("click", () => actions.open(post.sender));
    return item;
  };

  const update = (item: HTMLElement, post: Post): void => {
    const name = state.nameOf(post.sender);
    const own = post.sender === state.me;
    const author = part(item, "author");
    setText(author, own ? `${name} (you)` : name);
    setAttribute(author, "title", own ? undefined : `Write to ${name} alone`);
    setText(part(item, "time"), ago(post.at, Date.now()));
  };

  return () => {
    setShown(empty, state.posts.length === 0);
    showList(list, state.posts, ({ id }) => id, create, update);
    compose();
  };
}

/** Whether the node takes messages. */
export function canWrite(state: State): boolean {
  return state.me !== "" && state.phase !== "stopped" && state.phase !== "stopping" && state.phase !== "failed";
}
