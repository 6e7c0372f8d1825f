/** What was opened and closed is gone: streams, connections, and what the browser holds for them. */

import assert from "node:assert/strict";

import { story } from "../support/story.mjs";
import { eventually } from "./eventually.mjs";
import { Lab, WAYS } from "./lab.mjs";

const STREAMS = 1_000;
const CONNECTIONS = 200;

/** What the browser makes for each connection. */
const KINDS = { websocket: "webSockets", "webrtc-direct": "peerConnections", webrtc: "peerConnections", relayed: null };

for (const way of WAYS) {
  story(`${way}: of 1,000 streams opened and closed, and of 200 abandoned, nothing is left`, async (scope, context) => {
    const lab = await Lab.start(scope);
    const { one, other, address } = await lab.way(way);
    const link = await one.dial(address);
    await link.work("streams", 10);
    const quiet = async () => ({ live: await one.call("live"), theirs: other.call ? await other.call("live") : null });
    const before = await eventually(quiet, ({ live, theirs }) => live.dataChannels + (theirs?.dataChannels ?? 0) === 0);

    const begun = performance.now();
    await link.work("streams", STREAMS);
    context.diagnostic(`${way}: ${((performance.now() - begun) / STREAMS).toFixed(2)} ms a stream`);
    const memory = await one.memory();
    await link.work("streams", STREAMS);
    await link.work("abandon", 200);

    const after = await eventually(quiet, (now) => same(now, before), `as before: ${JSON.stringify(before)}`);
    assert.deepEqual(after, before);
    const { open } = await eventually(() => one.spy("count"), ({ open }) => open.dataChannels === 0, "none is open");
    assert.equal(open.dataChannels, 0);
    await eventually(
      () => other.look(),
      ({ running }) => running === 0,
      "the other side serves none",
    );
    const grown = (await one.memory()) - memory;
    assert.ok(grown < 4_000_000, `${STREAMS} more streams have taken ${grown} bytes for good`);
    assert.deepEqual(one.uncaught, []);
    // The connection is as good as new.
    await link.work("upload", 100_000, true);
  });

  story(`${way}: of 200 connections opened and closed nothing is left`, async (scope, context) => {
    const lab = await Lab.start(scope);
    const { one, other, address } = await lab.way(way);
    // Whatever lies under the way, the circuit and the connection to the relay, is there before the first is counted.
    const first = await one.dial(address);
    await first.work("streams", 1);
    await first.close();
    const standing = async () => ({
      live: await one.call("live"),
      open: (await one.spy("count")).open,
      connections: (await one.look()).connections,
      theirs: (await other.look()).connections,
    });
    const before = await settled(standing);

    const times = [];
    for (let number = 0; number < CONNECTIONS; number += 1) {
      const link = await one.dial(address);
      times.push(link.connecting);
      await link.work("streams", 1);
      await link.close();
    }
    times.sort((a, b) => a - b);
    context.diagnostic(`${way}: connected within ${times[CONNECTIONS / 2].toFixed(1)} ms (median)`);

    const after = await eventually(standing, (now) => same(now, before), `as before: ${JSON.stringify(before)}`);
    assert.deepEqual(after, before);
    const kind = KINDS[way];
    if (kind) {
      const { made } = await one.spy("count");
      assert.ok(made[kind] > CONNECTIONS, `the spy has seen ${made[kind]} being made`);
    }
    assert.deepEqual(one.uncaught, []);
  });
}

function same(one, other) {
  return JSON.stringify(one) === JSON.stringify(other);
}

/** What `look` gives once it gives it twice in a row. */
async function settled(look) {
  let last;
  return await eventually(
    look,
    (now) => {
      const quiet = same(now, last);
      last = now;
      return quiet;
    },
    "nothing changes any more",
  );
}
