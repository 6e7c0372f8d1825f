/** The page as a whole: puts the pieces together, and draws them anew at most once a frame. */

import type { Session } from "../session.js";
import type { State, View } from "../state.js";
import { mountAnnouncer } from "./announcer.js";
import { mountBanner } from "./banner.js";
import { mountConversations } from "./conversation.js";
import { byId, setAttribute, setBadge } from "./dom.js";
import { mountMe } from "./me.js";
import { mountPeople } from "./people.js";
import { mountSign } from "./sign.js";
import { mountTimeline } from "./timeline.js";

/** Shows the state. `session` is there once the node has started; `rename` is told a new name. */
export function mountPage(state: State, session: () => Session | undefined, rename: (name: string) => void): void {
  const open = (peer: string) => {
    if (peer !== state.me) {
      opener = document.activeElement;
      state.openConversation(peer);
      draw();
      byId("dm-input").focus();
    }
  };
  /** Where the focus was before a conversation was opened, and goes back to. */
  let opener: Element | null = null;
  const close = () => {
    state.open = undefined;
    if (state.view === "direct" && getComputedStyle(byId("tabs")).display === "none") {
      state.view = "timeline";
    }
    draw();
    if (opener instanceof HTMLElement && opener.isConnected) {
      opener.focus();
    }
  };

  const pieces = [
    mountSign(state),
    mountBanner(state),
    mountMe(state, rename),
    mountPeople(state, open),
    mountTimeline(state, {
      post: (text) => session()?.post(text) ?? false,
      again: (id) => session()?.postAgain(id),
      open,
    }),
    mountConversations(state, {
      send: (peer, text) => session()?.sendDirect(peer, text),
      retry: (peer, direct) => session()?.retryDirect(peer, direct),
      open,
      close,
    }),
    mountAnnouncer(state),
    mountTabs(state),
  ];

  let due = false;
  const draw = () => {
    due = false;
    for (const piece of pieces) {
      piece();
    }
  };
  state.subscribe(() => {
    if (!due) {
      due = true;
      // Pages out of sight have no frames, but their title still tells of messages.
      if (document.hidden) {
        setTimeout(draw);
      } else {
        requestAnimationFrame(draw);
      }
    }
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) {
      state.markRead();
    }
    draw();
  });
  draw();
}

function mountTabs(state: State): () => void {
  const app = byId("app");
  const tabs = [...byId("tabs").querySelectorAll<HTMLButtonElement>("button")];
  const badge = byId("tab-unread");
  for (const tab of tabs) {
    tab.addEventListener("click", () => {
      state.view = tab.dataset["view"] as View;
      state.changed();
    });
  }
  return () => {
    setAttribute(app, "data-view", state.view);
    setAttribute(app, "data-open", state.open === undefined ? "false" : "true");
    for (const tab of tabs) {
      setAttribute(tab, "aria-current", tab.dataset["view"] === state.view ? "page" : undefined);
    }
    const unread = state.unread();
    setBadge(badge, unread, "unread");
    const title = unread > 0 ? `(${unread}) cpc-net` : "cpc-net";
    if (document.title !== title) {
      document.title = title;
    }
  };
}
