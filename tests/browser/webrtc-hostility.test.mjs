/** Peers that break the rules of WebRTC: pages give up what was begun, keep what stands, and go on. */

import "../strangers/node-20.mjs";

import assert from "node:assert/strict";

import { multiaddr } from "@multiformats/multiaddr";

import { story } from "../support/story.mjs";
import { Journal, within } from "../support/waiting.mjs";
import { addressOf, startStrangerBehind } from "../strangers/behind-a-relay.mjs";
import { concatenated, framed, varint, writeFiveFields } from "../strangers/frames.mjs";
import { LANE } from "../strangers/stranger.mjs";
import { startBrowser } from "./demo.mjs";
import { openPage, startRelay, twoDirectPages } from "./meeting.mjs";
import { memoryOf, openPeerConnections } from "./peer-connections.mjs";
import { talk } from "./talk.mjs";

const SIGNALING = "/webrtc-signaling/0.0.1";

/** One message of signalling: its type and its text, as protobuf, behind its length. */
const signal = (type, text) => {
  const data = new TextEncoder().encode(text);
  const message = concatenated(Uint8Array.of(0x08, type, 0x12), varint(data.length), data);
  return concatenated(varint(message.length), message);
};
const [OFFER, ANSWER, CANDIDATE] = [0, 1, 2];

/** How each SDP begins. */
const SESSION = "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n";

/** What is said where an offer or an answer is expected. */
const NONSENSE = [
  { name: "an SDP that is none", bytes: (type) => signal(type, "garbage") },
  { name: "an empty SDP", bytes: (type) => signal(type, "") },
  { name: "an SDP that goes wrong in the middle", bytes: (type) => signal(type, `${SESSION}m=application 9 UDP`) },
  { name: "an SDP without data channels", bytes: (type) => signal(type, SESSION) },
  { name: "a candidate that is none", bytes: () => signal(CANDIDATE, '{"candidate":"garbage"}') },
  { name: "the other kind of description", bytes: (type) => signal(type === OFFER ? ANSWER : OFFER, "v=0\r\n") },
  { name: "no protobuf", bytes: () => framed(new Uint8Array(40).fill(0xff)) },
  { name: "a length of 4 GB", bytes: () => varint(0xffff_ffff) },
  { name: "nothing, and the stream closed", bytes: () => new Uint8Array(), close: true },
];

/** A page, and a stranger that can be reached over circuits but knows nothing of WebRTC. */
async function pageAndStranger(scope) {
  const relay = await startRelay(scope);
  const page = await openPage(scope, await startBrowser(scope), relay, "ours");
  const libp2p = await startStrangerBehind(scope, relay.address("ws"), { webrtc: false });
  return { relay, page, id: await page.peerId(), libp2p, me: libp2p.peerId.toString() };
}

/** The stranger says something on its lane, and the page hears it: all is well. */
async function saysOnLane(libp2p, connection, page, nonce) {
  const lane = await within(connection.newStream(LANE, { runOnLimitedConnection: true }), "a lane");
  lane.send(framed(writeFiveFields({ nonce, payload: new TextEncoder().encode(`all is well ${nonce}`) })));
  const { sender } = await page.received(`all is well ${nonce}`);
  assert.equal(sender, libp2p.peerId.toString());
  await lane.close();
}

story("a peer answers signalling with nonsense: the attempt ends at once, the circuit stays", async (scope) => {
  const { page, id, libp2p, me } = await pageAndStranger(scope);
  const asked = new Journal();
  let turn = 0;
  await libp2p.handle(
    SIGNALING,
    async (stream) => {
      const { name, bytes, close } = NONSENSE[turn % NONSENSE.length];
      turn += 1;
      stream.send(bytes(ANSWER));
      if (close) {
        await stream.close();
      }
      asked.add(name);
    },
    { runOnLimitedConnection: true },
  );
  await page.api((net, address) => net.connect(address), await addressOf(libp2p, false));
  await page.known(me, { state: "connected", kind: "relayed" }, "is connected");
  const [connection] = libp2p.getConnections().filter(({ remotePeer }) => remotePeer.toString() === id);

  // The page asks again and again, after pauses that grow.
  for (const round of [0, 1]) {
    await asked.first(() => true, "the page asks for a direct connection", { since: round, patience: 30_000 });
    await openPeerConnections(page, 0, { made: round + 1 });
    await saysOnLane(libp2p, connection, page, round + 1);
  }
  await page.known(me, { state: "connected", kind: "relayed", connections: 1 }, "is connected as before");
  assert.deepEqual(page.uncaught, []);
});

story("a peer offers nonsense: nothing comes of it, and nothing stays behind", async (scope) => {
  const { page, libp2p, me, relay, id } = await pageAndStranger(scope);
  const connection = await within(
    libp2p.dial(multiaddr(`${relay.address("ws")}/p2p-circuit/p2p/${id}`)),
    "a circuit to the page",
  );
  for (const [at, { name, bytes, close }] of NONSENSE.entries()) {
    const opened = connection.newStream(SIGNALING, { runOnLimitedConnection: true });
    const stream = await within(opened, `a stream for ${name}`);
    const ended = new Promise((resolve) => stream.addEventListener("close", resolve, { once: true }));
    stream.send(bytes(OFFER));
    if (close) {
      await stream.close();
    }
    await within(ended, `the page gives up ${name}`);
    await openPeerConnections(page, 0, { made: at + 1 });
    await saysOnLane(libp2p, connection, page, at + 1);
  }
  await page.known(me, { state: "connected", kind: "relayed", connections: 1 }, "is connected as before");
  assert.deepEqual(page.uncaught, []);
});

/** What a page floods another one with, over data channels that its network knows nothing of. They run in the page. */
const FLOODS = [
  { name: "garbage instead of frames", channels: 20, messages: 100, message: () => new Uint8Array(16_384).fill(0xff) },
  {
    name: "frames far larger than those of the spec",
    channels: 20,
    messages: 20,
    // A frame of 200,000 bytes of payload.
    message: () => {
      const bytes = new Uint8Array(200_007);
      bytes.set([0xc4, 0x9a, 0x0c, 0x12, 0xc0, 0x9a, 0x0c]);
      return bytes;
    },
  },
  { name: "text", channels: 20, messages: 100, message: () => "flood ".repeat(1000) },
  {
    name: "frames of no protocol",
    channels: 20,
    messages: 200,
    // A frame of 16,000 bytes of payload.
    message: () => {
      const bytes = new Uint8Array(16_005);
      bytes.set([0x84, 0x7d, 0x12, 0x80, 0x7d]);
      return bytes;
    },
  },
  { name: "a frame's length that never ends", channels: 20, messages: 2000, message: () => Uint8Array.of(0x80) },
  { name: "more channels than may wait for anybody to take them", channels: 600, messages: 0, message: () => "" },
];

/**
 * Opens so many channels beside those of the page's network, sends so many messages on each, and waits for their end.
 * Idle ones would be waited for in turns of ten seconds; so without messages it waits until the first is refused, and
 * closes the others.
 */
async function flood(channels, messages, message) {
  const connection = window.peerConnections.made.find(({ connectionState }) => connectionState === "connected");
  let refused;
  const refusal = new Promise((resolve) => {
    refused = resolve;
  });
  await Promise.all(
    Array.from({ length: channels }, async () => {
      const channel = connection.createDataChannel("");
      channel.bufferedAmountLowThreshold = 65_536;
      const once = (event) => new Promise((resolve) => channel.addEventListener(event, resolve, { once: true }));
      const closed = once("close");
      closed.then(refused);
      await Promise.race([once("open"), closed]);
      for (let count = 0; count < messages && channel.readyState === "open"; count += 1) {
        channel.send(message());
        if (channel.bufferedAmount > 262_144) {
          await Promise.race([once("bufferedamountlow"), closed]);
        }
      }
      if (messages === 0) {
        await refusal;
        channel.close();
      }
      await closed;
    }),
  );
}

/** More than a page's memory may grow by all of it together. */
const GROWTH = 64 * 1024 * 1024;

story("a page floods the channels of another: they end, memory stays bounded, both talk on", async (scope, context) => {
  const { one, two, idOne, idTwo } = await twoDirectPages(scope);
  await talk([one, two], 0, "before");
  const before = await memoryOf(one);
  for (const { name, channels, messages, message } of FLOODS) {
    const began = Date.now();
    const flooded = two.page.evaluate(`(${flood})(${channels}, ${messages}, ${message})`);
    await within(flooded, `the channels of ${name} are closed`, 45_000, () => one.words());
    const grown = (await memoryOf(one)) - before;
    context.diagnostic(`${name}: over after ${Date.now() - began} ms, ${grown / 1e6} MB more`);
    await talk([one, two], 0, `after ${name}`);
  }
  assert.ok((await memoryOf(one)) - before < GROWTH);
  await Promise.all([one.directlyConnectedTo(idTwo), two.directlyConnectedTo(idOne)]);
  await Promise.all([openPeerConnections(one, 1), openPeerConnections(two, 1)]);
  assert.deepEqual(one.uncaught, []);
});
