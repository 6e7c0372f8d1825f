/** Reads out what arrives, for people who don't see it: shortly, and not more often than can be listened to. */

import type { State } from "../state.js";
import { count } from "../words.js";
import { byId } from "./dom.js";

const PAUSE = 3000;

/** Watches the state for posts and messages of others; the result looks for new ones. */
export function mountAnnouncer(state: State): () => void {
  const voice = byId("announcer");
  let lastPost: string | undefined;
  let unread = 0;
  let waiting = 0;
  let latest = "";
  let timer: ReturnType<typeof setTimeout> | undefined;

  const speak = () => {
    timer = undefined;
    voice.textContent = waiting > 1 ? `${count(waiting, "new message", "new messages")}. ${latest}` : latest;
    waiting = 0;
  };

  return () => {
    const newest = state.posts[0];
    if (newest !== undefined && newest.id !== lastPost) {
      const known = state.posts.findIndex(({ id }) => id === lastPost);
      const fresh = state.posts.slice(0, known < 0 ? 1 : known).filter(({ sender }) => sender !== state.me);
      lastPost = newest.id;
      if (fresh[0] !== undefined) {
        waiting += fresh.length;
        latest = `Post by ${state.nameOf(fresh[0].sender)}: ${fresh[0].text.slice(0, 120)}`;
      }
    }
    const nowUnread = state.unread();
    if (nowUnread > unread) {
      waiting += nowUnread - unread;
      const last = [...state.conversations.values()].at(-1);
      latest = last === undefined ? latest : `Direct message from ${state.nameOf(last.peer)}`;
    }
    unread = nowUnread;
    if (state.saying !== "") {
      waiting += 1;
      latest = state.saying;
      state.saying = "";
    }
    if (waiting > 0) {
      timer ??= setTimeout(speak, voice.textContent === "" ? 0 : PAUSE);
    }
  };
}
