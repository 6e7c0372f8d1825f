/** Pages that talk with each other for a while, as their people would. */

import { setTimeout as pause } from "node:timers/promises";

/** People don't write faster. In milliseconds. */
const BETWEEN_ROUNDS = 150;

/**
 * All pages talk for so many milliseconds: in every round each posts once and writes to each of the others, and nothing
 * goes on before every post and every message has arrived and every receipt is there. The pages' messages are kept
 * already. Gives how many rounds there were, and how long the slowest took.
 */
export async function talk(pages, milliseconds, occasion) {
  const ids = await Promise.all(pages.map((page) => page.peerId()));
  const until = Date.now() + milliseconds;
  let [rounds, slowest] = [0, 0];
  do {
    const began = Date.now();
    await Promise.all(pages.map((page, at) => round(page, at, ids, pages, `${occasion}, round ${rounds}, of ${at}`)));
    slowest = Math.max(slowest, Date.now() - began);
    rounds += 1;
    await pause(BETWEEN_ROUNDS);
  } while (Date.now() < until);
  return { rounds, slowest };
}

async function round(page, at, ids, pages, words) {
  const others = ids.map((id, other) => ({ id, page: pages[other], other })).filter(({ other }) => other !== at);
  await page.api((net, words) => net.broadcast({ payload: `${words} to all` }), words);
  await Promise.all(
    others.map(async ({ id, page: recipient, other }) => {
      await page.api(
        (net, { id, words }) => net.sendMessage(id, { payload: words }).delivered,
        { id, words: `${words} to ${other}` },
      );
      await recipient.received(`${words} to ${other}`);
      await recipient.received(`${words} to all`);
    }),
  );
}
