/** js-libp2p's own WebRTC (libdatachannel under it) and ours, over WebRTC-direct. */

import assert from "node:assert/strict";

import { webRTCDirect } from "@libp2p/webrtc";

import { CpcNode } from "../support/cpc-node.mjs";
import { story } from "../support/story.mjs";
import { within } from "../support/waiting.mjs";
import { Priority, Type, framed, writeFiveFields } from "./frames.mjs";
import { connect, openLane, pingOf, startStranger } from "./stranger.mjs";

story("js-libp2p dials a cpc-node over WebRTC-direct: identify, ping, a message", async (scope) => {
  const node = await CpcNode.start(scope);
  const stranger = await startStranger(scope, { transports: [webRTCDirect()] });
  const address = node.address("webrtc-direct");

  const facts = await connect(stranger, address);
  assert.equal(facts.peerId.toString(), node.ready.peerId);
  assert.match(facts.agentVersion, /^cpc-net\//);
  const latency = await pingOf(stranger, address);
  assert.ok(latency >= 0 && latency < 5000, `${latency} ms`);

  const lane = await openLane(stranger, address);
  const payload = "over js-libp2p's data channels ".repeat(400);
  lane.send(
    framed(
      writeFiveFields({
        nonce: 1,
        priority: Priority.HIGH,
        message_type: Type.EVENT,
        payload: new TextEncoder().encode(payload),
      }),
    ),
  );
  const { message: heard } = await node.message(({ payload: text }) => text === payload, "the message");
  assert.equal(heard.priority, "high");
  await lane.close();

  await stranger.hangUp(facts.peerId);
  await node.event(
    ({ type, peer, to }) => type === "stateChanged" && peer === stranger.peerId.toString() && to === "disconnected",
    "the node notices that we are gone",
  );
});

story("a cpc-node dials js-libp2p over WebRTC-direct", async (scope) => {
  const stranger = await startStranger(scope, {
    transports: [webRTCDirect()],
    listen: ["/ip4/127.0.0.1/udp/0/webrtc-direct"],
  });
  const identified = new Promise((resolve) => {
    stranger.addEventListener("peer:identify", ({ detail }) => resolve(detail));
  });
  const [address] = stranger.getMultiaddrs();
  const node = await CpcNode.start(scope, { words: ["--bootstrap", address.toString()] });
  const facts = await within(identified, "the node identifies itself");
  assert.equal(facts.peerId.toString(), node.ready.peerId);
  const latency = await within(stranger.services.ping.ping(facts.peerId), "the node answers a ping");
  assert.ok(latency >= 0 && latency < 5000, `${latency} ms`);
});
