/** Strangers: peers by js-libp2p, which share no line of code with cpc-net. */

import { noise } from "@chainsafe/libp2p-noise";
import { yamux } from "@chainsafe/libp2p-yamux";
import { identify } from "@libp2p/identify";
import { ping } from "@libp2p/ping";
import { tcp } from "@libp2p/tcp";
import { webSockets } from "@libp2p/websockets";
import { multiaddr } from "@multiformats/multiaddr";
import { createLibp2p } from "libp2p";

import { Journal, within } from "../support/waiting.mjs";
import { FrameReader } from "./frames.mjs";

/** The protocol of cpc-net's lanes. */
export const LANE = "/cpc/1.0.0";

/** What strangers call their software. */
export const AGENT = "a-stranger/1.0";

/**
 * A peer that speaks TCP, WebSocket, identify and ping, and what else it is given. With a `privateKey` it can be made
 * to sign as itself.
 */
export async function startStranger(scope, { services = {}, privateKey, transports = [], listen = [] } = {}) {
  const libp2p = await createLibp2p({
    ...(privateKey && { privateKey }),
    addresses: { listen },
    // Stories are told on loopback, which js-libp2p doesn't dial for everybody.
    connectionGater: { denyDialMultiaddr: () => false },
    transports: [tcp(), webSockets(), ...transports],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    nodeInfo: { userAgent: AGENT },
    services: { identify: identify(), ping: ping(), ...services },
  });
  scope.defer(() => libp2p.stop());
  return libp2p;
}

/** A peer that also takes what others send on lanes: its `frames` are a journal of their bytes. */
export async function startStrangerWithLane(scope, options) {
  const libp2p = await startStranger(scope, options);
  return { libp2p, frames: await takeLanes(libp2p) };
}

/** Has a peer take what others send on lanes; gives a journal of the frames' bytes. */
export async function takeLanes(libp2p) {
  const frames = new Journal();
  await libp2p.handle(LANE, async (stream) => {
    const reader = new FrameReader();
    for await (const piece of stream) {
      reader.push(piece.subarray()).forEach((frame) => frames.add(frame));
    }
  });
  return frames;
}

/** Connects, and waits until identify has told about the other side. */
export async function connect(libp2p, address) {
  const identified = new Promise((resolve) => {
    libp2p.addEventListener("peer:identify", ({ detail }) => {
      if (address.endsWith(`/p2p/${detail.peerId}`)) {
        resolve(detail);
      }
    });
  });
  await within(libp2p.dial(multiaddr(address)), `a connection to ${address}`);
  return await within(identified, `identify of ${address}`);
}

/** Opens a lane to a node. */
export async function openLane(libp2p, address) {
  return await within(libp2p.dialProtocol(multiaddr(address), LANE), `a stream of ${LANE} to ${address}`);
}

/** The node answers a ping. */
export async function pingOf(libp2p, address) {
  return await within(libp2p.services.ping.ping(multiaddr(address)), `a ping to ${address} is answered`);
}
