/** Two pages that dial each other at the same moment end with one connection, which both can use. */

import assert from "node:assert/strict";

import { story } from "../support/story.mjs";
import { circuitTo, twoDirectPages } from "./meeting.mjs";
import { openPeerConnections } from "./peer-connections.mjs";
import { talk } from "./talk.mjs";

/** How often; `CPC_REPETITIONS` makes it more. */
const REPETITIONS = Number(process.env.CPC_REPETITIONS ?? 3);

for (const { what, webrtc } of [
  { what: "for a direct connection", webrtc: "webrtc" },
  { what: "over the relay, and upgrade at once", webrtc: "" },
]) {
  story(`both dial at once ${what}: one connection comes of it, and it works both ways`, async (scope, context) => {
    const { relay, one, two, idOne, idTwo } = await twoDirectPages(scope);
    const took = [];
    for (let repetition = 0; repetition < REPETITIONS; repetition += 1) {
      await one.api((net, peer) => net.disconnect(peer), idTwo);
      await Promise.all([
        one.known(idTwo, { kind: null }, "is disconnected"),
        two.known(idOne, { kind: null }, "is disconnected"),
      ]);
      const began = Date.now();
      const dial = (page, peer) => page.api((net, address) => net.connect(address), circuitTo(relay, peer, webrtc));
      assert.deepEqual(await Promise.all([dial(one, idTwo), dial(two, idOne)]), [idTwo, idOne]);
      took.push(Date.now() - began);
      await Promise.all([one.directlyConnectedTo(idTwo), two.directlyConnectedTo(idOne)]);
      await Promise.all([openPeerConnections(one, 1), openPeerConnections(two, 1)]);
      await talk([one, two], 0, `after glare ${repetition}`);
    }
    context.diagnostic(`connected after ${took.toSorted((a, b) => a - b).join(", ")} ms`);
    for (const page of [one, two]) {
      assert.deepEqual(page.uncaught, []);
    }
  });
}
