/** Hostile bytes on `/cpc/1.0.0`: each a rejection with its reason, counted and answered, and the node lives on. */

import assert from "node:assert/strict";

import { generateKeyPair } from "@libp2p/crypto/keys";

import { CpcNode } from "../support/cpc-node.mjs";
import { story } from "../support/story.mjs";
import { within } from "../support/waiting.mjs";
import {
  KIND_ERROR,
  concatenated,
  framed,
  readErrorReport,
  readMoreFields,
  varint,
  writeFiveFields,
  writeMoreFields,
  writeSigned,
} from "./frames.mjs";
import { connect, openLane, pingOf, startStrangerWithLane } from "./stranger.mjs";

const text = (words) => new TextEncoder().encode(words);
const good = (nonce) => framed(writeFiveFields({ nonce, payload: text(`good ${nonce}`) }));

const [privateKey, somebodyElse] = await Promise.all([generateKeyPair("Ed25519"), generateKeyPair("Ed25519")]);

/**
 * What is sent, and the reason it has to be rejected for. `nonce` is what the ERROR reply names, where it can be
 * believed. After an `unreadable` one nobody can tell where the next frame begins, so the node has to give that stream
 * up; else the lane goes on.
 */
const CASES = [
  {
    name: "a frame that is no protobuf",
    reason: "malformed",
    bytes: () => framed(new Uint8Array(9).fill(0xff)),
  },
  {
    name: "a frame with a field of the wrong wire type",
    reason: "malformed",
    // Field 4, a number instead of bytes.
    bytes: () => framed(Uint8Array.of(0x20, 0x07)),
  },
  {
    name: "a frame with a field that claims more bytes than the frame has",
    reason: "malformed",
    bytes: () => framed(Uint8Array.of(0x22, 0xff, 0x7f, 0x00)),
  },
  {
    name: "a frame of a priority that does not exist",
    reason: "malformed",
    bytes: () => framed(writeFiveFields({ nonce: 1, priority: 99 })),
  },
  {
    name: "a length prefix that claims 4 GB",
    reason: "oversized",
    unreadable: true,
    bytes: () => varint(0xffff_ffff),
  },
  {
    name: "a length prefix that never ends",
    reason: "oversized",
    unreadable: true,
    bytes: () => new Uint8Array(10).fill(0xff),
  },
  {
    name: "a payload above the limit",
    reason: "oversized",
    nonce: 2n,
    bytes: () => framed(writeFiveFields({ nonce: 2, payload: new Uint8Array(65_537) })),
  },
  {
    name: "a frame of ours with the signature of other content",
    reason: "wrong_signature",
    bytes: async () => {
      const { signature } = readMoreFields(
        await writeSigned(privateKey, { nonce: 3, payload: text("what was signed") }),
      );
      const { sender } = readMoreFields(await writeSigned(privateKey, { nonce: 3 }));
      return framed(writeMoreFields({ nonce: 3, payload: text("what was not"), sender, signature }));
    },
  },
  {
    name: "a frame of ours in which one bit has changed on the way",
    reason: "wrong_signature",
    bytes: async () => {
      const frame = await writeSigned(privateKey, { nonce: 4, payload: text("pay 1 to Bob") });
      frame[Buffer.from(frame).indexOf("Bob")] ^= 1;
      return framed(frame);
    },
  },
  {
    name: "a frame of ours that claims somebody else for its author",
    reason: "wrong_signature",
    bytes: async () => {
      const { sender } = readMoreFields(await writeSigned(somebodyElse, { nonce: 5 }));
      return framed(await writeSigned(privateKey, { nonce: 5, sender }));
    },
  },
  {
    name: "a frame of ours without a signature",
    reason: "wrong_signature",
    bytes: async () => {
      const { sender } = readMoreFields(await writeSigned(privateKey, { nonce: 6 }));
      return framed(writeMoreFields({ nonce: 6, sender }));
    },
  },
  {
    name: "a frame of ours for somebody else",
    reason: "wrong_recipient",
    nonce: 7n,
    bytes: async () => {
      const { sender: recipient } = readMoreFields(await writeSigned(somebodyElse, { nonce: 7 }));
      return framed(await writeSigned(privateKey, { nonce: 7, recipient }));
    },
  },
  {
    name: "fields that need an author's signature, without an author",
    reason: "unsigned",
    bytes: () => framed(writeMoreFields({ nonce: 8, created_at: 1_700_000_000_000 })),
  },
  {
    name: "a stream that ends inside a frame",
    reason: "truncated",
    unreadable: true,
    ends: true,
    bytes: () => good(9).subarray(0, 5),
  },
  {
    name: "a stream that ends inside a length prefix",
    reason: "truncated",
    unreadable: true,
    ends: true,
    bytes: () => Uint8Array.of(0x80),
  },
];

for (const { name, reason, nonce, unreadable = false, ends = false, bytes } of CASES) {
  story(`${name}: ${reason}`, async (scope) => {
    const node = await CpcNode.start(scope);
    const { libp2p, frames } = await startStrangerWithLane(scope, { privateKey });
    const address = node.address("tcp");
    const me = libp2p.peerId.toString();
    const counter = `cpc_rejections_total{reason="${reason}"}`;
    await connect(libp2p, address);
    assert.equal(await node.metric(counter), 0);

    // What was sent before is not lost, whatever comes after it.
    const lane = await openLane(libp2p, address);
    lane.send(concatenated(good(100), await bytes()));
    if (ends) {
      await within(lane.close(), "the stream is closed");
    }
    await node.message(({ id }) => id === `${me}/100`, "the good message before");
    const { network } = await node.event(({ type }) => type === "messageRejected", `the rejection of ${name}`);
    assert.equal(network.peer, me);
    assert.equal(network.reason, reason);
    assert.notEqual(network.detail, "");
    assert.equal(await node.metric(counter), 1);

    const frame = readMoreFields(
      await frames.first((bytes) => readMoreFields(bytes).kind === KIND_ERROR, "an ERROR reply"),
    );
    const report = readErrorReport(frame.payload);
    assert.equal(report.reason, reason);
    assert.equal(report.detail, network.detail);
    if (nonce !== undefined) {
      assert.equal(report.nonce, nonce);
    }

    assert.ok((await pingOf(libp2p, address)) >= 0);
    // Where the node can still tell where the next frame begins, the same lane goes on.
    const next = unreadable ? await openLane(libp2p, address) : lane;
    next.send(good(101));
    const { message } = await node.message(({ id }) => id === `${me}/101`, "the good message after");
    assert.equal(message.payload, "good 101");
    assert.equal(node.lines().filter((line) => line.network?.type === "messageRejected").length, 1);
    const [known] = await (await node.get("/api/peers")).json();
    assert.equal(known.peer, me);
    assert.ok(known.score < 1, `the score stays at ${known.score}`);
  });
}

/** Asks for the counter until it has reached a number. */
async function counted(node, number) {
  let count = 0;
  while (count < number) {
    count = await node.metric('cpc_rejections_total{reason="oversized"}');
  }
  assert.equal(count, number);
}

story("a peer that sends nothing but rubbish uses nothing up", async (scope) => {
  const node = await CpcNode.start(scope);
  const { libp2p, frames } = await startStrangerWithLane(scope);
  const address = node.address("tcp");
  await connect(libp2p, address);

  const streams = 40;
  for (let count = 1; count <= streams; count += 1) {
    const lane = await openLane(libp2p, address);
    lane.send(count % 2 === 0 ? varint(0xffff_ffff) : new Uint8Array(10).fill(0xff));
    // Each is counted; told of are only the first, while the peer has some standing left.
    await within(counted(node, count), `rejection ${count}`);
  }

  const lane = await openLane(libp2p, address);
  lane.send(good(1));
  await node.message(({ payload }) => payload === "good 1", "a good message after all that");
  assert.ok((await pingOf(libp2p, address)) >= 0);
  // Whoever is a nuisance gets no more answers: they would only cost the node.
  assert.ok(frames.length > 0 && frames.length < 10, `${frames.length} answers`);

  const { libp2p: other } = await startStrangerWithLane(scope);
  await connect(other, address);
  (await openLane(other, address)).send(good(2));
  await node.message(({ payload }) => payload === "good 2", "a message of another peer");
});
