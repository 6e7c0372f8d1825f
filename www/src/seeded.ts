/** What a page makes of a peer id so that people tell peers apart: a nickname, and numbers to draw a picture from. */

/** An endless series of numbers from 0 to below 1 that is always the same for the same text. */
export function numbersFrom(text: string): () => number {
  // FNV-1a spreads the text over 32 bits, mulberry32 makes a series of them.
  let state = 0x811c9dc5;
  for (let index = 0; index < text.length; index += 1) {
    state = Math.imul(state ^ text.charCodeAt(index), 0x01000193);
  }
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const manners =
  "Amber Autumn Blue Brave Bright Calm Clever Coral Cosy Early Gentle Golden Green Happy Hazel Honest " +
  "Ivory Jolly Kind Lively Lucky Mellow Merry Misty Patient Quiet Rapid Rosy Silver Sunny Warm Witty";
const animals =
  "Badger Beaver Bison Crane Curlew Dolphin Falcon Finch Fox Gecko Hare Heron Ibis Koala Lark Lynx " +
  "Magpie Marten Moose Newt Otter Owl Panda Puffin Robin Seal Sparrow Stork Swift Tapir Turtle Wren";

function pick(words: string, number: number): string {
  const list = words.split(" ");
  return list[Math.floor(number * list.length)] as string;
}

/** A friendly name for a peer that has not said its own. */
export function nickname(peer: string): string {
  const next = numbersFrom(`name ${peer}`);
  return `${pick(manners, next())} ${pick(animals, next())}`;
}
