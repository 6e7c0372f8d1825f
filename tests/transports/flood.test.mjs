/** A reader that doesn't read: where the way can slow the sender down it does, else the stream breaks, with a reason. */

import assert from "node:assert/strict";

import { story } from "../support/story.mjs";
import { Lab, WAYS } from "./lab.mjs";

const MB = 1_000_000;

/** Much more than any window. */
const FLOOD = 48 * MB;

/**
 * For how long nothing is read, in milliseconds. Where the stream breaks it does so as soon as too much has come, however
 * slow the machine; where it waits, the pause has to end for the rest to come.
 */
const UNREAD_FOR = { websocket: 2_000, "webrtc-direct": 30_000, webrtc: 30_000, relayed: 2_000 };

const MOST_MEMORY = 40 * MB;

/** Data channels know no back-pressure from the reader (W3C WebRTC): there the reader's side ends the stream. */
const BREAKS = { websocket: false, "webrtc-direct": true, webrtc: true, relayed: false };

for (const way of WAYS) {
  const outcome = BREAKS[way] ? "breaks a stream, with a reason, and nothing else" : "waits, and arrives";
  story(`${way}: a flood that nobody reads ${outcome}`, async (scope) => {
    const lab = await Lab.start(scope);
    const { one, other, address } = await lab.way(way);
    const link = await one.dial(address);
    await link.work("streams", 1);
    const before = { one: await one.memory(), other: await other.memory() };
    const error = await link.work("flood", FLOOD, UNREAD_FOR[way]);
    const grown = { one: (await one.memory()) - before.one, other: (await other.memory()) - before.other };
    assert.ok(grown.one < MOST_MEMORY, `the sender's memory has grown by ${grown.one} bytes`);
    assert.ok(grown.other < MOST_MEMORY, `the reader's memory has grown by ${grown.other} bytes`);
    if (BREAKS[way]) {
      assert.match(error ?? "no error at all", /given up/);
    } else {
      assert.equal(error, null);
    }
    // The connection and its other streams are none the worse for it.
    await link.work("upload", MB, true);
    await link.work("download", MB, true);
    assert.deepEqual(one.uncaught, []);
  });
}

story("webrtc: a flood on many streams at once is bounded all the same", async (scope) => {
  const lab = await Lab.start(scope);
  const { one, other, address } = await lab.way("webrtc");
  const link = await one.dial(address);
  await link.work("streams", 1);
  const before = await other.memory();
  // Each alone stays within what one stream may hold unread; together they are 70 MB.
  const floods = Array.from({ length: 10 }, () => link.work("flood", 7 * MB, 30_000));
  // Those that are not broken end with their pages.
  floods.forEach((flood) => flood.catch(() => {}));
  const broken = floods.map((flood) => flood.then((error) => error ?? Promise.reject(new Error("it was read"))));
  assert.match(await Promise.any(broken), /given up/);
  const grown = (await other.memory()) - before;
  assert.ok(grown < 60 * MB, `the reader's memory has grown by ${grown} bytes`);
});
