/** Strangers take part in the gossip: they hear posts, and what they post is heard if it proves itself. */

import assert from "node:assert/strict";

import { generateKeyPair } from "@libp2p/crypto/keys";
import { StrictSign, gossipsub } from "@libp2p/gossipsub";

import { CpcNode, runCpcNode } from "../support/cpc-node.mjs";
import { story } from "../support/story.mjs";
import { Journal } from "../support/waiting.mjs";
import { readFiveFields, writeFiveFields, writeSigned } from "./frames.mjs";
import { connect, startStranger } from "./stranger.mjs";

const text = (words) => new TextEncoder().encode(words);

/** A peer by js-libp2p and a node, both in the mesh of the network's topic. */
async function inOneMesh(scope, transport) {
  const node = await CpcNode.start(scope);
  const topic = `/cpc/1.0.0/${node.network}/all`;
  const privateKey = await generateKeyPair("Ed25519");
  const services = { gossip: gossipsub({ globalSignaturePolicy: StrictSign }) };
  const libp2p = await startStranger(scope, { services, privateKey });
  const { gossip } = libp2p.services;
  const [posts, grafts] = [new Journal(), new Journal()];
  gossip.addEventListener("gossipsub:message", ({ detail }) => posts.add(detail.msg));
  gossip.addEventListener("gossipsub:graft", ({ detail }) => grafts.add(detail));
  gossip.subscribe(topic);
  await connect(libp2p, node.address(transport));
  await grafts.first((graft) => graft.topic === topic && graft.peerId === node.ready.peerId, "the node is in the mesh");
  return { node, topic, privateKey, libp2p, gossip, posts };
}

for (const transport of ["tcp", "ws"]) {
  story(
    `a gossipsub peer hears over ${transport} what a cpc-net node posts, and reads it with the five fields`,
    async (scope) => {
      const { node, topic, posts } = await inOneMesh(scope, transport);

      const words = ["post", "--bootstrap", node.address("tcp"), "--network", node.network, "hello, strangers"];
      const { code, errors } = await runCpcNode(words);
      assert.equal(code, 0, errors);

      const heard = await posts.first((post) => post.topic === topic, "the post");
      assert.equal(heard.type, "signed", "gossipsub's own signature is there, and js-libp2p has checked it");
      // Whoever is among strangers publishes to them what spreads among the nodes of the network by other ways.
      assert.equal(heard.from.toString(), node.ready.peerId);
      const { payload, message_type, nonce, signature } = readFiveFields(heard.data);
      assert.equal(new TextDecoder().decode(payload), "hello, strangers");
      assert.equal(message_type, "EVENT");
      assert.ok(nonce > 0n);
      assert.equal(signature.length, 64);

      const { message } = await node.message(({ delivery }) => delivery === "all", "the node gets the post as well");
      assert.equal(message.payload, "hello, strangers");
      assert.notEqual(message.sender, node.ready.peerId, "the author is the poster, as its own signature says");
      assert.equal(message.id, `${message.sender}/${nonce}`);
    },
  );
}

story("a node takes a stranger's post that is signed as proto/cpc.proto describes it", async (scope) => {
  const { node, topic, privateKey, libp2p, gossip } = await inOneMesh(scope, "tcp");
  const created_at = Date.now();
  await gossip.publish(
    topic,
    await writeSigned(privateKey, { nonce: 77, payload: text("signed by hand"), created_at }),
  );

  const { message } = await node.message(({ payload }) => payload === "signed by hand", "the stranger's post");
  assert.equal(message.sender, libp2p.peerId.toString());
  assert.equal(message.authenticity, "signed");
  assert.equal(message.delivery, "all");
  assert.equal(message.createdAt, created_at);
});

story("a node does not pass on a post that nobody vouches for", async (scope) => {
  const { node, topic, gossip, libp2p } = await inOneMesh(scope, "tcp");
  await gossip.publish(topic, writeFiveFields({ nonce: 78, payload: text("by whom?") }));

  const { network } = await node.event(({ type }) => type === "messageRejected", "the rejection of the post");
  assert.equal(network.reason, "unsigned");
  assert.equal(network.peer, libp2p.peerId.toString());
  assert.equal(await node.metric('cpc_rejections_total{reason="unsigned"}'), 1);
  assert.deepEqual(
    node.lines().filter(({ event }) => event === "message"),
    [],
  );
});
