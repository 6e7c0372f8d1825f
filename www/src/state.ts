/**
 * What the page knows, in one place. The network's side writes it, the views read it. Main invariant: every list has an
 * upper bound, since strangers fill them.
 */

import type { NetworkStatus, PeerInfo } from "cpc-net";

import type { Words } from "./words.js";
import { nickname } from "./seeded.js";

/** How the node of this page is doing, in one word. */
export type SignPhase = "starting" | "connecting" | "alone" | "online" | "stopping" | "stopped" | "failed";

/** The parts of the page of which a narrow screen shows one at a time. */
export type View = "timeline" | "people" | "direct";

/** A post on the timeline. */
export interface Post {
  /** The message's identity. */
  readonly id: string;
  readonly sender: string;
  readonly text: string;
  /** Milliseconds since the Unix epoch. */
  readonly at: number;
  /** Whom it was for, when that is not everybody. */
  readonly scope?: string | undefined;
  /** Nobody was connected when it was sent. */
  readonly unheard: boolean;
}

/** Where a direct message stands: one's own are under way or have ended, the others' have been received. */
export type DirectState = "queued" | "kept" | "sent" | "delivered" | "failed" | "received";

/** A direct message, one's own or the other's. */
export interface Direct {
  /** Tells it from the others; the same after another attempt. */
  readonly key: string;
  readonly sender: string;
  readonly text: string;
  /** Milliseconds since the Unix epoch. */
  readonly at: number;
  state: DirectState;
  /** Why it failed, and whether another attempt may help. */
  problem?: (Words & { readonly retryable: boolean }) | undefined;
}

/** All that was said between this node and one peer. */
export interface Conversation {
  readonly peer: string;
  readonly directs: Direct[];
  unread: number;
}

/** Something that needs people's attention. */
export interface Trouble extends Words {
  /** It goes on until it is removed: once dismissed, it is not shown again meanwhile. */
  readonly lasting?: boolean;
  readonly action?: { readonly label: string; readonly run: () => void } | undefined;
}

/** Facts for the curious. */
export type Facts = ReadonlyArray<readonly [name: string, value: string]>;

const MAX_POSTS = 500;
const MAX_CONVERSATIONS = 50;
const MAX_DIRECTS = 200;
const MAX_NAMES = 1000;
const MAX_TROUBLES = 8;

/** The state of the page. Whoever changes a field calls {@link State.changed}. */
export class State {
  /** The peer id; empty until the node has started. */
  me = "";
  /** The name that others are told. */
  name = "";
  phase: SignPhase = "starting";
  /** More on the phase, in a few words. */
  phaseDetail = "";
  /** What to say of this tab's identity, when it is not the usual one. */
  identityNote = "";
  status: NetworkStatus | undefined;
  peers: readonly PeerInfo[] = [];
  /** The peer ids of the nodes this page joined by. */
  nodes: ReadonlySet<string> = new Set();
  facts: Facts = [];
  /** To be read out next. */
  saying = "";
  view: View = "timeline";
  /** With whom a conversation is open. */
  open: string | undefined;
  /** The newest first. */
  readonly posts: Post[] = [];
  /** The one used last comes last. */
  readonly conversations = new Map<string, Conversation>();
  readonly #names = new Map<string, string>();
  readonly #troubles = new Map<string, Trouble>();
  readonly #dismissed = new Set<string>();
  readonly #listeners = new Set<() => void>();

  /** Has the listener called after each change. */
  subscribe(listener: () => void): void {
    this.#listeners.add(listener);
  }

  /** Tells the views that something has changed. */
  changed(): void {
    for (const listener of this.#listeners) {
      listener();
    }
  }

  /** What to call a peer: as it says itself, else by a nickname made of its id. */
  nameOf(peer: string): string {
    return (peer === this.me ? this.name : this.#names.get(peer)) || nickname(peer);
  }

  /** Whether the peer has said its name. */
  isNamed(peer: string): boolean {
    return this.#names.has(peer);
  }

  /** Notes the name that a peer gives itself. */
  setName(peer: string, name: string): void {
    if (this.#names.get(peer) !== name) {
      putLast(this.#names, peer, name, MAX_NAMES);
      this.changed();
    }
  }

  /** Puts a post on the timeline, unless it is there. */
  addPost(post: Post): boolean {
    if (this.posts.some(({ id }) => id === post.id)) {
      return false;
    }
    this.posts.unshift(post);
    this.posts.length = Math.min(this.posts.length, MAX_POSTS);
    this.changed();
    return true;
  }

  /** Takes a post off the timeline of this page. */
  removePost(id: string): void {
    const index = this.posts.findIndex((post) => post.id === id);
    if (index >= 0) {
      this.posts.splice(index, 1);
      this.changed();
    }
  }

  /** Adds a message to the conversation with a peer. */
  addDirect(peer: string, direct: Direct): void {
    const conversation = this.conversations.get(peer) ?? { peer, directs: [], unread: 0 };
    conversation.directs.push(direct);
    conversation.directs.splice(0, conversation.directs.length - MAX_DIRECTS);
    if (direct.state === "received" && !this.isRead(peer)) {
      conversation.unread += 1;
    }
    this.conversations.delete(peer);
    this.conversations.set(peer, conversation);
    this.#forgetConversation();
    this.changed();
  }

  /** Strangers must not push out what people have said themselves: where nobody has answered is forgotten first. */
  #forgetConversation(): void {
    if (this.conversations.size > MAX_CONVERSATIONS) {
      const closed = [...this.conversations.values()].filter(({ peer }) => peer !== this.open);
      const unanswered = closed.find(({ directs }) => directs.every(({ state }) => state === "received"));
      const forgotten = unanswered ?? closed[0];
      if (forgotten !== undefined) {
        this.conversations.delete(forgotten.peer);
      }
    }
  }

  /** Opens the conversation with a peer. */
  openConversation(peer: string): void {
    this.open = peer;
    this.view = "direct";
    this.markRead();
    this.changed();
  }

  /** Whether the conversation with a peer is before the reader's eyes. */
  isRead(peer: string): boolean {
    return this.open === peer && !document.hidden;
  }

  /** The open conversation has been looked at. */
  markRead(): void {
    const conversation = this.open === undefined ? undefined : this.conversations.get(this.open);
    if (conversation !== undefined) {
      conversation.unread = 0;
    }
  }

  /** Has a sentence read out to people who don't see the page. */
  say(sentence: string): void {
    this.saying = sentence;
    this.changed();
  }

  /** Unread direct messages, over all conversations. */
  unread(): number {
    return [...this.conversations.values()].reduce((sum, { unread }) => sum + unread, 0);
  }

  /** Tells people of a trouble; a later one of the same key takes its place. */
  addTrouble(key: string, trouble: Trouble): void {
    if (trouble.lasting && this.#dismissed.has(key)) {
      return;
    }
    putLast(this.#troubles, key, trouble, MAX_TROUBLES);
    this.changed();
  }

  /** The trouble has been read. */
  dismissTrouble(key: string): void {
    this.#dismissed.add(key);
    this.#troubles.delete(key);
    this.changed();
  }

  /** The trouble is over. */
  removeTrouble(key: string): void {
    this.#dismissed.delete(key);
    if (this.#troubles.delete(key)) {
      this.changed();
    }
  }

  /** The latest trouble. */
  trouble(): { readonly key: string; readonly trouble: Trouble } | undefined {
    const last = [...this.#troubles].at(-1);
    return last && { key: last[0], trouble: last[1] };
  }
}

/** Sets an entry, and forgets the one set longest ago when there are too many. */
function putLast<Value>(map: Map<string, Value>, key: string, value: Value, most: number): void {
  map.delete(key);
  map.set(key, value);
  if (map.size > most) {
    map.delete(map.keys().next().value as string);
  }
}
