/** Strangers get to know a cpc-node: a connection, identify, ping. */

import assert from "node:assert/strict";

import { CpcNode } from "../support/cpc-node.mjs";
import { story } from "../support/story.mjs";
import { AGENT, LANE, connect, pingOf, startStranger } from "./stranger.mjs";

for (const transport of ["tcp", "ws"]) {
  story(`js-libp2p connects over ${transport}, is told who that is, and pings`, async (scope) => {
    const node = await CpcNode.start(scope);
    const stranger = await startStranger(scope);
    const address = node.address(transport);

    const facts = await connect(stranger, address);
    assert.equal(facts.peerId.toString(), node.ready.peerId);
    assert.match(facts.agentVersion, /^cpc-net\/\d+\.\d+\.\d+/);
    assert.equal(facts.protocolVersion, `cpc/1.0.0/${node.network}`);
    for (const protocol of [
      LANE,
      "/ipfs/ping/1.0.0",
      "/ipfs/id/1.0.0",
      "/meshsub/1.1.0",
      `/cpc/${node.network}/kad/1.0.0`,
      "/libp2p/circuit/relay/0.2.0/hop",
    ]) {
      assert.ok(facts.protocols.includes(protocol), `${protocol} is not among ${facts.protocols.join(", ")}`);
    }

    const latency = await pingOf(stranger, address);
    assert.ok(latency >= 0 && latency < 5000, `${latency} ms`);

    const me = stranger.peerId.toString();
    await node.event(
      ({ type, peer, to }) => type === "stateChanged" && peer === me && to === "connected",
      "the node sees us",
    );
    const known = await whatTheNodeKnows(node, me);
    assert.equal(known.agent, AGENT);
    assert.equal(known.kind, transport === "ws" ? "websocket" : "tcp");
    assert.equal(known.state, "connected");

    await stranger.hangUp(facts.peerId);
    await node.event(
      ({ type, peer, to }) => type === "stateChanged" && peer === me && to === "disconnected",
      "we are gone",
    );
  });
}

/** What the node knows of a peer, once it has heard about its software: each side identifies the other in its time. */
async function whatTheNodeKnows(node, peer) {
  for (let place = 0; ;) {
    const from = node.place;
    const peers = await (await node.get("/api/peers")).json();
    const known = peers.find((candidate) => candidate.peer === peer);
    if (known?.agent) {
      return known;
    }
    await node.event((event) => event.type === "peerUpdated" && event.peer === peer, "more becomes known of us", {
      since: place,
    });
    place = from;
  }
}
