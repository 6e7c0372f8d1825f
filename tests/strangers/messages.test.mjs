/** Another implementation, which knows nothing but CPC's five fields, sends messages to a cpc-node. */

import assert from "node:assert/strict";

import { CpcNode } from "../support/cpc-node.mjs";
import { story } from "../support/story.mjs";
import { Priority, Type, concatenated, framed, writeFiveFields } from "./frames.mjs";
import { connect, openLane, startStranger } from "./stranger.mjs";

const text = (words) => new TextEncoder().encode(words);

/** What the five fields may hold, and what the node has to make of it. */
const CASES = [
  {
    name: "without a signature",
    fields: { nonce: 1, priority: Priority.HIGH, message_type: Type.EVENT, payload: text("good morning") },
    expected: { priority: "high", kind: "event", payload: "good morning" },
  },
  {
    name: "with a signature of the other implementation's own making",
    fields: {
      nonce: 2,
      priority: Priority.MEDIUM,
      message_type: Type.EVENT,
      payload: text("noon"),
      signature: text("mine"),
    },
    expected: { priority: "medium", kind: "event", payload: "noon" },
  },
  {
    name: "with a signature as long as ours, over nobody knows what",
    fields: { nonce: 3, priority: Priority.LOW, payload: text("evening"), signature: new Uint8Array(64).fill(7) },
    expected: { priority: "low", kind: "event", payload: "evening" },
  },
  {
    name: "with every default written out, the signature empty",
    fields: {
      nonce: 0,
      priority: Priority.LOW,
      message_type: Type.EVENT,
      payload: text("null"),
      signature: new Uint8Array(),
    },
    expected: { priority: "low", kind: "event", payload: "null" },
  },
  {
    name: "of another type, its nonce the largest there is, its payload no text",
    fields: { nonce: "18446744073709551615", message_type: Type.DISCOVERY, payload: Uint8Array.of(0xff, 0xfe) },
    expected: { priority: "low", kind: "discovery", payloadBase64: "//4=" },
  },
  {
    name: "with nothing in it at all but a nonce",
    fields: { nonce: 5, message_type: Type.CONTROL },
    expected: { priority: "low", kind: "control", payload: "" },
  },
];

for (const transport of ["tcp", "ws"]) {
  story(`CPC's five fields, written by protobufjs, arrive as messages over ${transport}`, async (scope) => {
    const node = await CpcNode.start(scope);
    const stranger = await startStranger(scope);
    await connect(stranger, node.address(transport));
    const lane = await openLane(stranger, node.address(transport));
    const sender = stranger.peerId.toString();

    for (const { name, fields, expected } of CASES) {
      lane.send(framed(writeFiveFields(fields)));
      const id = `${sender}/${fields.nonce}`;
      const { message } = await node.message((candidate) => candidate.id === id, `the message ${name}`);
      assert.deepEqual(
        message,
        {
          ...{ id, sender, delivery: "direct", authenticity: "connection", createdAt: null },
          ...{ expiresAt: null, redelivered: false, ...expected },
        },
        `the message ${name}`,
      );
    }

    // The same nonce again is the same message again, and not handed on a second time.
    lane.send(
      concatenated(
        framed(writeFiveFields(CASES[0].fields)),
        framed(writeFiveFields({ nonce: 6, payload: text("last") })),
      ),
    );
    await node.message(({ id }) => id === `${sender}/6`, "the message after one that was repeated");
    assert.equal(node.lines().filter(({ message }) => message?.id === `${sender}/1`).length, 1);
    assert.equal(await node.metric("cpc_messages_duplicate_total"), 1);

    assert.deepEqual(
      node.lines().filter(({ network }) => network?.type === "messageRejected"),
      [],
    );
  });
}

story("frames arrive whole however the stream is cut, and by several lanes at once", async (scope) => {
  const node = await CpcNode.start(scope);
  const stranger = await startStranger(scope);
  const address = node.address("tcp");
  await connect(stranger, address);

  const large = "x".repeat(60_000);
  const bytes = concatenated(
    framed(writeFiveFields({ nonce: 1, payload: text("first") })),
    framed(writeFiveFields({ nonce: 2, payload: text(large) })),
    framed(writeFiveFields({ nonce: 3, payload: text("third") })),
  );
  const [cut, urgent] = [await openLane(stranger, address), await openLane(stranger, address)];
  let from = 0;
  for (const to of [1, 2, 3, 11, 12, 40_000, bytes.length]) {
    cut.send(bytes.subarray(from, to));
    from = to;
    // Whatever waits in the one lane, the other goes on.
    const nonce = 1000 + to;
    urgent.send(framed(writeFiveFields({ nonce, priority: Priority.HIGH, payload: text("urgent") })));
    await node.message(({ id }) => id.endsWith(`/${nonce}`), `an urgent message after ${to} bytes of the others`);
  }
  for (const [nonce, payload] of [
    [1, "first"],
    [2, large],
    [3, "third"],
  ]) {
    const { message } = await node.message(({ id }) => id.endsWith(`/${nonce}`), `message ${nonce} of the cut stream`);
    assert.equal(message.payload, payload);
  }
});
