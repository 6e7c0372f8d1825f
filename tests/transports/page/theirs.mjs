/** js-libp2p in a page, as `window.side` with the functions that ours has: it does the same work. */

import { noise } from "@chainsafe/libp2p-noise";
import { yamux } from "@chainsafe/libp2p-yamux";
import { circuitRelayTransport } from "@libp2p/circuit-relay-v2";
import { identify } from "@libp2p/identify";
import { byteStream } from "@libp2p/utils";
import { webRTC, webRTCDirect } from "@libp2p/webrtc";
import { webSockets } from "@libp2p/websockets";
import { multiaddr } from "@multiformats/multiaddr";
import { createLibp2p } from "libp2p";

const BLOCK = new Uint8Array(64 * 1024).map((_, index) => (index * 2_654_435_761) >>> 13);
/** Their default of 32 streams at once would be measured instead of the transport. */
const WIDELY = { maxInboundStreams: 2_000, maxOutboundStreams: 2_000, runOnLimitedConnection: true };

const links = new Map();
let libp2p;

const protocol = (name) => `/cpc-probe/${name}/1`;

function number(count) {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(count));
  return bytes;
}

/**
 * Writes, and waits where the stream asks to. Its own `onDrain` waits only the first time (its promise is never renewed);
 * without waiting yamux sends frames of several MB, which other implementations refuse.
 */
async function write(stream, bytes) {
  if (!stream.send(bytes) && stream.writableNeedsDrain) {
    await new Promise((resolve, reject) => {
      stream.addEventListener("drain", resolve, { once: true });
      stream.addEventListener("close", ({ error }) => reject(error ?? new Error("closed")), { once: true });
    });
  }
}

async function writeAll(stream, count) {
  for (let left = count; left > 0; left -= BLOCK.length) {
    await write(stream, left < BLOCK.length ? BLOCK.subarray(0, left) : BLOCK);
  }
}

async function readAll(stream) {
  let count = 0;
  for await (const piece of stream) {
    count += piece.byteLength;
  }
  return count;
}

async function readNumber(stream) {
  const bytes = new Uint8Array(8);
  let filled = 0;
  for await (const piece of stream) {
    bytes.set(piece.subarray(), filled);
    filled += piece.byteLength;
  }
  return Number(new DataView(bytes.buffer).getBigUint64(0));
}

async function start(listen) {
  libp2p = await createLibp2p({
    addresses: { listen },
    transports: [
      webSockets(),
      webRTC({ rtcConfiguration: { iceServers: [] } }),
      webRTCDirect({ rtcConfiguration: { iceServers: [] } }),
      circuitRelayTransport(),
    ],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    // Pages may not dial machines next to them by default.
    connectionGater: { denyDialMultiaddr: () => false },
    services: { identify: identify() },
  });
  const serve = async (name, work) =>
    await libp2p.handle(protocol(name), (stream) => work(stream).catch((error) => console.error(name, error)), WIDELY);
  await serve("echo", async (stream) => {
    for await (const piece of stream) {
      await write(stream, piece);
    }
    await stream.close();
  });
  await serve("sink", async (stream) => {
    await write(stream, number(await readAll(stream)));
    await stream.close();
  });
  await serve("source", async (stream) => {
    await writeAll(stream, await readNumber(stream));
    await stream.close();
  });
}

async function thereAndBack(bytes, size) {
  await bytes.write(BLOCK.subarray(0, size));
  await bytes.read({ bytes: size });
}

const WORKS = {
  async upload({ connection }, count) {
    const begun = performance.now();
    const stream = await connection.newStream(protocol("sink"), WIDELY);
    await writeAll(stream, count);
    await stream.close();
    const said = await readNumber(stream);
    const taken = performance.now() - begun;
    if (said !== count) {
      throw new Error(`${count} bytes were sent, and ${said} came`);
    }
    return taken;
  },
  async download({ connection }, count) {
    const begun = performance.now();
    const stream = await connection.newStream(protocol("source"), WIDELY);
    await write(stream, number(count));
    await stream.close();
    const came = await readAll(stream);
    const taken = performance.now() - begun;
    if (came !== count) {
      throw new Error(`${count} bytes were asked for, and ${came} came`);
    }
    return taken;
  },
  async roundTrips({ connection }, times, size) {
    const stream = await connection.newStream(protocol("echo"), WIDELY);
    const bytes = byteStream(stream);
    const taken = [];
    for (let time = 0; time < times; time += 1) {
      const begun = performance.now();
      await thereAndBack(bytes, size);
      taken.push(performance.now() - begun);
    }
    await stream.close();
    return taken;
  },
  async openings({ connection }, times, size) {
    const taken = [];
    for (let time = 0; time < times; time += 1) {
      const begun = performance.now();
      const stream = await connection.newStream(protocol("echo"), WIDELY);
      await thereAndBack(byteStream(stream), size);
      taken.push(performance.now() - begun);
      await stream.close();
    }
    return taken;
  },
  async hangUp({ connection }) {
    await libp2p.hangUp(connection.remotePeer);
  },
};

window.side = {
  listen: async (relay) => {
    await start([relay, "/webrtc"]);
    window.side.peerId = libp2p.peerId.toString();
    // The place at the relay is asked for in the background.
    while (!libp2p.getMultiaddrs().some((address) => address.toString().includes("/webrtc"))) {
      await new Promise((resolve) => libp2p.addEventListener("self:peer:update", resolve, { once: true }));
    }
    return libp2p.getMultiaddrs().map(String);
  },
  dial: async (address) => {
    if (libp2p === undefined) {
      await start([]);
    }
    const begun = performance.now();
    const connection = await libp2p.dial(multiaddr(address), { signal: AbortSignal.timeout(5_000) });
    const connecting = performance.now() - begun;
    links.set(links.size, { connection });
    return { link: links.size - 1, connecting };
  },
  work: async (link, what, ...words) => await WORKS[what](links.get(link), ...words),
};
