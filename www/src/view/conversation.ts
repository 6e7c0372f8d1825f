/** Direct messages: the conversations there are, and the one that is open. */

import type { Conversation, Direct, State } from "../state.js";
import { ago, kindWords, shortId, span } from "../words.js";
import { showAvatar } from "./avatar.js";
import { byId, fromTemplate, part, setAttribute, setBadge, setShown, setText, showList, submitOnEnter } from "./dom.js";
import { canWrite } from "./timeline.js";

/** What people do in conversations. */
export interface ConversationActions {
  /** Sends a text to one peer. */
  send(peer: string, text: string): void;
  /** Tries a failed message again. */
  retry(peer: string, direct: Direct): void;
  /** Opens a conversation. */
  open(peer: string): void;
  /** Closes the open one. */
  close(): void;
}

const stateWords: Record<Direct["state"], string> = {
  queued: "Queued",
  kept: "Waits in a mailbox until they come",
  sent: "Sent",
  delivered: "Delivered",
  failed: "Not delivered",
  received: "",
};

/** Shows the conversations; the result brings them up to date. */
export function mountConversations(state: State, actions: ConversationActions): () => void {
  const showOpen = mountOpen(state, actions);
  const box = byId("direct-list");
  const list = byId("conversations");
  const empty = byId("conversations-empty");

  const create = ({ peer }: Conversation): HTMLElement => {
    const item = fromTemplate("conversation-template");
    showAvatar(part(item, "avatar"), peer);
    const button = item.firstElementChild as HTMLElement;
    setAttribute(button, "data-peer-id", peer);
    button.addEventListener("click", () => actions.open(peer));
    return item;
  };
  const update = (item: HTMLElement, { peer, directs, unread }: Conversation): void => {
    setText(part(item, "name"), state.nameOf(peer));
    setText(part(item, "last"), directs.at(-1)?.text.slice(0, 120) ?? "");
    setBadge(part(item, "unread"), unread, "unread");
  };

  return () => {
    setShown(box, state.open === undefined);
    const conversations = [...state.conversations.values()].reverse();
    setShown(list, conversations.length > 0);
    setShown(empty, conversations.length === 0);
    showList(list, conversations, ({ peer }) => peer, create, update);
    showOpen();
  };
}

function mountOpen(state: State, actions: ConversationActions): () => void {
  const box = byId("conversation");
  const list = byId("directs");
  const form = byId<HTMLFormElement>("dm-form");
  const input = byId<HTMLTextAreaElement>("dm-input");
  const button = byId<HTMLButtonElement>("dm-send");
  /** What is being written to whom: another conversation must not take it along. */
  const drafts = new Map<string, string>();
  let shown: string | undefined;
  let length = 0;

  const compose = () => {
    button.disabled = !canWrite(state) || input.value.trim() === "";
  };
  input.addEventListener("input", compose);
  submitOnEnter(input);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = input.value.trim();
    if (text !== "" && state.open !== undefined && canWrite(state)) {
      input.value = "";
      actions.send(state.open, text);
      input.focus();
    }
    compose();
  });
  byId("dm-back").addEventListener("click", () => actions.close());
  box.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      actions.close();
    }
  });

  const create = (direct: Direct): HTMLElement => {
    const item = fromTemplate("direct-template");
    setAttribute(item, "data-sender", direct.sender);
    setAttribute(item, "data-own", String(direct.sender === state.me));
    setText(part(item, "text"), direct.text);
    const time = part<HTMLTimeElement>(item, "time");
    time.dateTime = new Date(direct.at).toISOString();
    time.title = new Date(direct.at).toLocaleString();
    part(item, "retry").addEventListener("click", () => {
      if (state.open !== undefined) {
        actions.retry(state.open, direct);
        input.focus();
      }
    });
    return item;
  };
  const update = (item: HTMLElement, direct: Direct): void => {
    setAttribute(item, "data-state", direct.state);
    setText(part(item, "time"), ago(direct.at, Date.now()));
    setText(part(item, "state"), stateWords[direct.state]);
    setShown(part(item, "problem"), direct.problem !== undefined);
    if (direct.problem !== undefined) {
      const reason = part(item, "reason");
      setText(reason, `${direct.problem.title} ${direct.problem.advice}`);
      setAttribute(reason, "title", direct.problem.detail);
      setShown(part(item, "retry"), direct.problem.retryable);
    }
  };

  return () => {
    const peer = state.open;
    setShown(box, peer !== undefined);
    if (peer !== shown) {
      if (shown !== undefined) {
        putDraft(drafts, shown, input.value);
      }
      input.value = drafts.get(peer ?? "") ?? "";
      shown = peer;
      length = -1;
    }
    if (peer === undefined) {
      return;
    }
    showHead(state, peer);
    const directs = state.conversations.get(peer)?.directs ?? [];
    // Whoever has scrolled back to read is left there.
    const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 80;
    const ownLast = directs.at(-1)?.sender === state.me;
    showList(list, directs, ({ key }) => key, create, update);
    if (length !== directs.length && (atEnd || ownLast || length < 0)) {
      list.scrollTop = list.scrollHeight;
    }
    length = directs.length;
    compose();
  };
}

function showHead(state: State, peer: string): void {
  const name = state.nameOf(peer);
  showAvatar(byId("dm-avatar"), peer);
  setText(byId("dm-name"), name);
  setText(byId("dm-label"), `Write to ${name}`);
  const info = state.peers.find((candidate) => candidate.peer === peer);
  const line = byId("dm-line");
  if (info?.state === "connected" && info.kind !== null) {
    const { label, meaning } = kindWords(info.kind);
    setText(line, [label, info.latency === null ? "" : span(info.latency), shortId(peer)].filter(Boolean).join(" · "));
    setAttribute(line, "title", meaning);
  } else {
    setText(line, "Not connected; messages wait a while for a way");
    setAttribute(line, "title", peer);
  }
}

const MAX_DRAFTS = 50;

function putDraft(drafts: Map<string, string>, peer: string, text: string): void {
  drafts.delete(peer);
  if (text !== "") {
    drafts.set(peer, text);
  }
  if (drafts.size > MAX_DRAFTS) {
    drafts.delete(drafts.keys().next().value as string);
  }
}
