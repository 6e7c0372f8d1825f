/**
 * What this app puts into messages, and how it reads what others put there. Whatever comes in is made by strangers:
 * everything that leaves this module is bounded, well-formed text.
 */

const APP = "cpc-demo";

/** The longest text that is shown, in characters. */
export const MAX_TEXT = 4000;
/** The longest name, in characters. */
export const MAX_NAME = 32;
/** A payload over this many bytes is not even looked into. */
const MAX_BYTES = 256 * 1024;
const MAX_LINES = 40;

/** What a received payload says. */
export type Incoming =
  | { readonly type: "post" | "direct"; readonly text: string; readonly name?: string; readonly at?: number }
  | { readonly type: "hello"; readonly name?: string }
  /** Not of this app, but text. */
  | { readonly type: "text"; readonly text: string }
  /** Nothing that could be shown. */
  | { readonly type: "bytes"; readonly size: number };

/** The payload of a post or a direct message. */
export function encodeText(type: "post" | "direct", text: string, name: string, at: number): string {
  return JSON.stringify({ app: APP, type, text, name, at });
}

/** The payload that tells others one's name. */
export function encodeHello(name: string): string {
  return JSON.stringify({ app: APP, type: "hello", name });
}

/** Reads a payload, whoever made it. */
export function decode(payload: Uint8Array): Incoming {
  const unreadable = { type: "bytes", size: payload.length } as const;
  if (payload.length > MAX_BYTES) {
    return unreadable;
  }
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(payload);
  } catch {
    return unreadable;
  }
  return decodeOwn(text) ?? { type: "text", text: cleanText(text) };
}

function decodeOwn(text: string): Incoming | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof value !== "object" || value === null) {
    return undefined;
  }
  const fields = value as Record<string, unknown>;
  if (fields["app"] !== APP) {
    return undefined;
  }
  const name = cleanName(fields["name"]);
  const named = name === undefined ? {} : { name };
  if (fields["type"] === "hello") {
    return { type: "hello", ...named };
  }
  if ((fields["type"] === "post" || fields["type"] === "direct") && typeof fields["text"] === "string") {
    const at = fields["at"];
    const dated = typeof at === "number" && Number.isFinite(at) ? { at } : {};
    return { type: fields["type"], text: cleanText(fields["text"]), ...named, ...dated };
  }
  return undefined;
}

/**
 * Text fit to be shown: no control characters, nothing that turns the writing direction of what follows, no towers of
 * combining marks, of bounded length and height.
 */
export function cleanText(text: string): string {
  const plain = text
    .slice(0, MAX_TEXT * 4)
    .replace(/\r\n?/g, "\n")
    .replace(/\p{Cs}/gu, "\uFFFD")
    .replace(/[\u0000-\u0008\u000B-\u001F\u007F-\u009F\u202A-\u202E\u2066-\u2069\uFEFF]/g, "")
    .replace(/(\p{M}{4})\p{M}+/gu, "$1")
    .replace(/\n{3,}/g, "\n\n")
    .trim();
  const lines = plain.split("\n");
  const low = lines.length > MAX_LINES ? `${lines.slice(0, MAX_LINES).join("\n")} …` : plain;
  return shortened(low, MAX_TEXT);
}

/** A name fit to be shown on one line, or `undefined` when nothing of it is left. */
export function cleanName(name: unknown): string | undefined {
  if (typeof name !== "string") {
    return undefined;
  }
  const line = cleanText(name.slice(0, MAX_NAME * 8))
    .replace(/[\u00AD\u180E\u200B\u200E\u200F\u2028\u2029\u2060-\u2064]/g, "")
    .replace(/\s+/g, " ")
    .trim();
  return line === "" ? undefined : shortened(line, MAX_NAME);
}

/** Cuts after whole characters, not in the middle of one. */
function shortened(text: string, most: number): string {
  if (text.length <= most) {
    return text;
  }
  const characters = Array.from(text);
  return characters.length <= most ? text : `${characters.slice(0, most - 1).join("")}…`;
}
