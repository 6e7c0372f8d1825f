/** A page and js-libp2p, which share no line of code: over WebRTC, dialling in both directions, and over WebSocket. */

import "../strangers/node-20.mjs";

import assert from "node:assert/strict";

import { generateKeyPair } from "@libp2p/crypto/keys";
import { StrictSign, gossipsub } from "@libp2p/gossipsub";
import { peerIdFromString } from "@libp2p/peer-id";
import { multiaddr } from "@multiformats/multiaddr";

import { story } from "../support/story.mjs";
import { Journal, within } from "../support/waiting.mjs";
import { addressOf, dialByWebRtc, startStrangerBehind } from "../strangers/behind-a-relay.mjs";
import { framed, readFiveFields, readMoreFields, writeFiveFields, writeSigned } from "../strangers/frames.mjs";
import { AGENT, LANE, startStranger, takeLanes } from "../strangers/stranger.mjs";
import { startBrowser } from "./demo.mjs";
import { circuitTo, openPage, startRelay } from "./meeting.mjs";

const text = (words) => new TextEncoder().encode(words);

/** A page and a stranger behind one relay, not connected to each other by anybody's wish yet. */
async function meet(scope, start) {
  const relay = await startRelay(scope);
  const page = await openPage(scope, await startBrowser(scope), relay, "ours");
  const id = await page.peerId();
  const privateKey = await generateKeyPair("Ed25519");
  // js-libp2p counts circuits as limited, and refuses gossip over them unless told otherwise; but our side tells its
  // subscriptions once, as soon as there is any connection.
  const services = { gossip: gossipsub({ globalSignaturePolicy: StrictSign, runOnLimitedConnection: true }) };
  const libp2p = await start(relay, { services, privateKey });
  const identified = new Promise((resolve) => {
    libp2p.addEventListener("peer:identify", ({ detail }) => {
      if (detail.peerId.toString() === id) {
        resolve(detail);
      }
    });
  });
  const [posts, grafts, frames] = [new Journal(), new Journal(), await takeLanes(libp2p)];
  const { gossip } = libp2p.services;
  const topic = `/cpc/1.0.0/${relay.network}/all`;
  gossip.addEventListener("gossipsub:message", ({ detail }) => posts.add(detail.msg));
  gossip.addEventListener("gossipsub:graft", ({ detail }) => grafts.add(detail));
  gossip.subscribe(topic);
  await page.known(relay.ready.peerId, { state: "connected" }, "the page is at the relay");
  return { relay, page, id, libp2p, privateKey, identified, posts, grafts, frames, gossip, topic };
}

/** The stranger's connection to the page over a transport, once it stands. */
async function connectionOver(libp2p, id, transport) {
  const found = () =>
    libp2p
      .getConnections()
      .find(({ remotePeer, remoteAddr }) => remotePeer.toString() === id && transport.test(remoteAddr.toString()));
  const opened = new Promise((resolve) => {
    libp2p.addEventListener("connection:open", () => found() && resolve(found()));
  });
  return found() ?? (await within(opened, `js-libp2p's connection over ${transport}`));
}

/** Writes, closes its half, and then reads as much as it wrote. */
async function writeCloseRead(connection, protocol, bytes) {
  const stream = await connection.newStream(protocol);
  stream.send(bytes);
  await stream.close();
  const pieces = [];
  for await (const piece of stream) {
    pieces.push(piece.subarray());
    if (Buffer.concat(pieces).length >= bytes.length) {
      break;
    }
  }
  return Buffer.concat(pieces);
}

/** Everything that the two have to say to each other. */
async function talkWithStranger(met, connection) {
  const { page, id, libp2p, privateKey, identified, posts, grafts, frames, gossip, topic } = met;
  const me = libp2p.peerId.toString();

  const facts = await within(identified, "identify of the page");
  assert.match(facts.agentVersion, /^cpc-net\/\d/);
  assert.ok(facts.protocols.includes(LANE));
  await page.known(me, { agent: AGENT }, "identify of js-libp2p");

  const ping = new Uint8Array(32).map((_, at) => at);
  assert.deepEqual(
    new Uint8Array(await within(writeCloseRead(connection, "/ipfs/ping/1.0.0", ping), "a ping, half closed")),
    ping,
    "what was closed for writing still reads",
  );
  const lane = await connection.newStream(LANE);
  lane.send(framed(writeFiveFields({ nonce: 1, payload: text("from js") })));
  const heard = await page.received("from js");
  assert.equal(heard.sender, me);
  assert.equal(heard.delivery, "direct");
  // More than the page may hold of one data channel at a time, and whole.
  const long = "long ".repeat(12_000);
  lane.send(framed(writeFiveFields({ nonce: 2, payload: text(long) })));
  await page.received(long);

  const saying = (words) => (frame) => new TextDecoder().decode(readFiveFields(frame).payload) === words;
  for (const words of ["from the page", long]) {
    await page.api((net, { me, words }) => void net.sendMessage(me, { payload: words }), { me, words });
    await frames.first(saying(words), "the page's message");
  }

  await grafts.first((graft) => graft.topic === topic && graft.peerId === id, "the page is in the mesh");
  await page.api((net) => net.broadcast({ payload: "a post of the page" }));
  const post = await posts.first(({ data }) => saying("a post of the page")(data), "the post");
  // Gossipsub's `from` is whoever published it here: the page, or a node that passes on to strangers what it has heard.
  // Who wrote it stands in the frame, under the author's own signature.
  const author = peerIdFromString(id).toMultihash().bytes;
  assert.deepEqual(Buffer.from(readMoreFields(post.data).sender), Buffer.from(author));
  const created_at = Date.now();
  await gossip.publish(topic, await writeSigned(privateKey, { nonce: 77, payload: text("a post of js"), created_at }));
  const shown = await page.received("a post of js");
  assert.equal(shown.sender, me);
  assert.equal(shown.authenticity, "signed");
  assert.deepEqual(page.uncaught, []);
}

const behindRelay = (scope) => (relay, options) => startStrangerBehind(scope, relay.address("ws"), options);

story("a page dials js-libp2p by WebRTC, and they have everything to say to each other", async (scope, context) => {
  const met = await meet(scope, behindRelay(scope));
  const { page, id, libp2p } = met;
  const [address, began] = [await addressOf(libp2p, true), Date.now()];
  await page.api((net, address) => net.connect(address), address);
  const connection = await connectionOver(libp2p, id, /\/webrtc\//);
  context.diagnostic(`js-libp2p has the connection after ${Date.now() - began} ms`);
  assert.equal(connection.direction, "inbound");
  await page.directlyConnectedTo(libp2p.peerId.toString());
  await talkWithStranger(met, connection);
});

story("js-libp2p dials a page by WebRTC, and they have everything to say to each other", async (scope, context) => {
  const met = await meet(scope, behindRelay(scope));
  const { relay, page, id, libp2p } = met;
  const [address, began] = [multiaddr(circuitTo(relay, id, "webrtc")), Date.now()];
  const connection = await dialByWebRtc(libp2p, address, (words) => context.diagnostic(words));
  context.diagnostic(`js-libp2p has the connection after ${Date.now() - began} ms`);
  assert.match(connection.remoteAddr.toString(), /\/webrtc\//);
  await page.directlyConnectedTo(libp2p.peerId.toString());
  await talkWithStranger(met, connection);
});

story("a page dials js-libp2p over WebSocket, and they have everything to say to each other", async (scope) => {
  const listen = ["/ip4/127.0.0.1/tcp/0/ws"];
  const met = await meet(scope, (_, options) => startStranger(scope, { ...options, listen }));
  const { page, id, libp2p } = met;
  const me = await page.api((net, address) => net.connect(address), libp2p.getMultiaddrs()[0].toString());
  assert.equal(me, libp2p.peerId.toString());
  await page.known(me, { kind: "websocket", connections: 1 }, "is connected");
  await talkWithStranger(met, await connectionOver(libp2p, id, /./));
});
