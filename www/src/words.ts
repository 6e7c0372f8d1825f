/** The page's words for what the network says: kinds, spans of time, errors with what to do about them. */

import { CpcError, type ConnectionKind } from "cpc-net";

const kinds: Record<ConnectionKind, { label: string; meaning: string }> = {
  quic: { label: "QUIC", meaning: "connected directly over QUIC" },
  tcp: { label: "TCP", meaning: "connected directly over TCP" },
  webrtc: { label: "WebRTC", meaning: "connected directly, browser to browser" },
  "webrtc-direct": { label: "WebRTC direct", meaning: "connected directly over WebRTC" },
  websocket: { label: "WebSocket", meaning: "connected directly over WebSocket" },
  relayed: { label: "Relayed", meaning: "reached through a relay, which can't read along" },
  other: { label: "Other", meaning: "connected in a way this page has no name for" },
};

/** A short label for how a peer is connected, and a sentence on it. */
export function kindWords(kind: ConnectionKind): { label: string; meaning: string } {
  return kinds[kind] ?? kinds.other;
}

/** The part of a peer id that tells it from others; all of them begin alike. */
export function shortId(peer: string): string {
  return peer.length <= 10 ? peer : `…${peer.slice(-8)}`;
}

/** Milliseconds as people read them. */
export function span(milliseconds: number): string {
  if (milliseconds < 10) {
    return `${Math.max(milliseconds, 0.1).toFixed(1)} ms`;
  }
  if (milliseconds < 1000) {
    return `${Math.round(milliseconds)} ms`;
  }
  const seconds = Math.round(milliseconds / 1000);
  if (seconds < 60) {
    return `${seconds} s`;
  }
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** How long ago something was, in a word. */
export function ago(then: number, now: number): string {
  const seconds = (now - then) / 1000;
  if (seconds < 45) {
    return "just now";
  }
  if (seconds < 3600) {
    return `${Math.max(1, Math.round(seconds / 60))} min ago`;
  }
  const date = new Date(then);
  const time = date.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit" });
  return seconds < 20 * 3600 ? time : `${date.toLocaleDateString(undefined, { day: "numeric", month: "short" })}, ${time}`;
}

/** `1 peer`, `2 peers`. */
export function count(amount: number, one: string, many: string): string {
  return `${amount} ${amount === 1 ? one : many}`;
}

/** Something that went wrong, in words and with what to do. */
export interface Words {
  readonly title: string;
  readonly advice: string;
  /** What the network itself said. */
  readonly detail?: string;
}

const advice: Record<string, { title: string; advice: string }> = {
  wasm_unavailable: {
    title: "A part of this page did not arrive.",
    advice: "Reload the page. If it stays like this, whoever serves it should look whether the .wasm file is there.",
  },
  store_io: {
    title: "This browser does not let the page keep its identity.",
    advice: "Allow the site to store data, or join without a lasting identity.",
  },
  store_damaged: {
    title: "The identity kept in this browser can't be read.",
    advice: "Remove this site's data in the browser's settings to begin with a new one, or join without a lasting identity.",
  },
  config_syntax: { title: "The page's address holds a setting that can't be used.", advice: "Correct it, and reload." },
  queue_full: {
    title: "Too many messages are waiting.",
    advice: "Wait until some have arrived, then send this one again.",
  },
  bytes_full: {
    title: "Too many messages are waiting.",
    advice: "Wait until some have arrived, then send this one again.",
  },
  peer_full: {
    title: "Too many messages are waiting for this person.",
    advice: "They may be away; wait until some have arrived.",
  },
  too_large: { title: "That text is too long for this network.", advice: "Send it in several parts." },
  shutting_down: { title: "This page's node has stopped.", advice: "Reload the page to join again." },
  busy: { title: "The network is busy.", advice: "Try again in a moment." },
  to_self: { title: "That is you.", advice: "Choose somebody else to write to." },
  internal: { title: "The network's code has failed.", advice: "Reload the page to join again." },
  unreachable: { title: "Not reachable.", advice: "They may be away; try again when they are connected." },
  unacknowledged: { title: "No answer.", advice: "It may have arrived all the same." },
  rejected: { title: "Refused by the recipient.", advice: "Sending it again won't change that." },
  expired: { title: "Too late.", advice: "It was no longer worth delivering." },
  shed: { title: "Too much was to be sent.", advice: "More urgent messages went first; try this one again." },
  shut_down: { title: "This page's node stopped first.", advice: "Reload the page, and send it again." },
};

/** What to tell people of an error. */
export function errorWords(error: unknown): Words {
  const detail = error instanceof Error ? error.message : String(error);
  const code = error instanceof CpcError ? error.code : "";
  const known = Object.hasOwn(advice, code.startsWith("config_") ? "config_syntax" : code)
    ? advice[code.startsWith("config_") ? "config_syntax" : code]
    : undefined;
  return { title: "Something did not work.", advice: "Try again; reload the page if it stays like this.", ...known, detail };
}
