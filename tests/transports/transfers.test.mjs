/** Bytes arrive whole, both ways, on every way there is, and what waits for them stays small. */

import assert from "node:assert/strict";

import { story } from "../support/story.mjs";
import { Lab, WAYS } from "./lab.mjs";

const MB = 1_000_000;

/** What is sent each way. A circuit is two WebSockets, whose bytes pass the machine twice: less will do there. */
const SENT = { websocket: 100 * MB, "webrtc-direct": 100 * MB, webrtc: 100 * MB, relayed: 50 * MB };

/**
 * What may be added to the memory of one side while all of it passes. Somebody who keeps what is on its way, on
 * either side, would need all of it. The largest honest need is a receiver's window: 16 MiB of yamux, 8 MiB of WebRTC.
 */
const MOST_MEMORY = 40 * MB;

/** What may wait in a socket or data channel to be sent: the high-water mark, and the write that went over it. */
const MOST_BUFFERED = 1.5 * MB;

for (const way of WAYS) {
  const ALL = SENT[way];
  story(`${way}: ${ALL / MB} MB arrive intact each way, in bounded memory`, async (scope, context) => {
    const lab = await Lab.start(scope);
    const { one, other, address } = await lab.way(way);
    const link = await one.dial(address);
    const nothing = await link.work("upload", 0, true);
    assert.ok(nothing >= 0, "a stream without a byte ends well, and is answered after its end");

    const before = { one: await one.memory(), other: await other.memory() };
    const up = await link.work("upload", ALL, true);
    const down = await link.work("download", ALL, true);
    const grown = { one: (await one.memory()) - before.one, other: (await other.memory()) - before.other };
    const buffered = Math.max(await one.spy("mostBuffered"), other.spy ? await other.spy("mostBuffered") : 0);

    const rate = (milliseconds) => `${(ALL / 1000 / milliseconds).toFixed(0)} MB/s`;
    const size = (bytes) => `${(bytes / MB).toFixed(1)} MB`;
    context.diagnostic(
      `${way}: ${rate(up)} up, ${rate(down)} down; memory +${size(grown.one)} here, +${size(grown.other)} there; ` +
        `at most ${size(buffered)} waited in the browser`,
    );
    assert.ok(grown.one < MOST_MEMORY, `the dialling page's memory has grown by ${size(grown.one)}`);
    assert.ok(grown.other < MOST_MEMORY, `the other side's memory has grown by ${size(grown.other)}`);
    assert.ok(buffered > 0, "the spy has seen nothing being sent");
    assert.ok(buffered < MOST_BUFFERED, `${size(buffered)} waited in one socket or channel`);
    assert.deepEqual(one.uncaught, []);
  });

  story(`${way}: a side that has closed for writing still reads`, async (scope) => {
    const lab = await Lab.start(scope);
    const { one, other, address } = await lab.way(way);
    const link = await one.dial(address);
    // The answer is only made once the end has come, so each of these is a half-close followed by a read.
    for (const size of [0, 1, 255, 16 * 1024, 16 * 1024 + 1, 3 * MB]) {
      await link.work("upload", size, true);
      await link.work("download", size, true);
    }
    const { failure, closed } = await other.look();
    assert.deepEqual({ failure, closed }, { failure: null, closed: null });
  });
}
