/** Nobody waits for a timer: a small message is there and back in the time that the way takes. */

import assert from "node:assert/strict";

import { story } from "../support/story.mjs";
import { Lab, WAYS } from "./lab.mjs";

/** The most a round trip may take in the median, on loopback, on a busy machine; in milliseconds. */
const MOST = { websocket: 5, "webrtc-direct": 10, webrtc: 10, relayed: 10 };

const median = (times) => times.toSorted((a, b) => a - b)[Math.floor(times.length / 2)];

for (const way of WAYS) {
  story(`${way}: 100 round trips of 256 bytes take a few milliseconds each`, async (scope, context) => {
    const lab = await Lab.start(scope);
    const { one, address } = await lab.way(way);
    const link = await one.dial(address);
    await link.work("roundTrips", 20, 256);
    const times = await link.work("roundTrips", 100, 256);
    const opened = await link.work("openings", 100, 256);
    assert.equal(times.length, 100);
    context.diagnostic(
      `${way}: ${median(times).toFixed(2)} ms on one stream, ${median(opened).toFixed(2)} ms with a new stream each`,
    );
    assert.ok(median(times) < MOST[way], `the median is ${median(times)} ms`);
    // Opening one takes a round trip more, or two.
    assert.ok(median(opened) < 3 * MOST[way], `with a new stream each the median is ${median(opened)} ms`);
  });
}
