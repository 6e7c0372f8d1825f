/** Strangers that can't be dialled, as pages can't: js-libp2p behind a relay, with its WebRTC. */

import { circuitRelayTransport } from "@libp2p/circuit-relay-v2";
import { webRTC } from "@libp2p/webrtc";
import { initLogger } from "node-datachannel";

import { within } from "../support/waiting.mjs";
import { startStranger } from "./stranger.mjs";

/**
 * A peer that has a place at a relay. With `webrtc: false` it can be reached over circuits but knows nothing of WebRTC.
 * No ICE servers: nothing leaves this machine.
 */
export async function startStrangerBehind(scope, relay, { webrtc = true, ...options } = {}) {
  const transports = [circuitRelayTransport(), ...(webrtc ? [webRTC({ rtcConfiguration: { iceServers: [] } })] : [])];
  const listen = [`${relay}/p2p-circuit`, ...(webrtc ? ["/webrtc"] : [])];
  const libp2p = await startStranger(scope, { ...options, transports, listen });
  await within(addressOf(libp2p, webrtc), "the relay has a place for js-libp2p");
  return libp2p;
}

/** Where such a peer is reached: by WebRTC, or over a circuit. */
export async function addressOf(libp2p, webrtc) {
  for (;;) {
    const changed = new Promise((resolve) => {
      libp2p.addEventListener("self:peer:update", resolve, { once: true });
    });
    const found = libp2p.getMultiaddrs().map(String);
    const address = found.find((one) => one.includes("/p2p-circuit") && one.includes("/webrtc") === webrtc);
    if (address !== undefined) {
      return address;
    }
    await changed;
  }
}

/**
 * Connects by WebRTC.
 *
 * libdatachannel, on which js-libp2p stands in Node, starts ICE with an answer before it has put the certificate's
 * fingerprint of that answer in its place. Whose checks wait at its socket by then is connected at once, and its own
 * handshake may find no fingerprint to compare with ("certificate verify failed"); js-libp2p hears nothing of it, and
 * waits until its dial times out. This one failure, told by libdatachannel's own words, is the stranger's, and dialled
 * again; `said` is told of it. Every other fails.
 */
export async function dialByWebRtc(libp2p, address, said) {
  for (let left = 5; ; left -= 1) {
    const lost = new AbortController();
    initLogger("Error", (_, words) => words.includes("certificate verify failed") && lost.abort());
    try {
      return await within(libp2p.dial(address, { signal: lost.signal }), `js-libp2p's connection by ${address}`);
    } catch (failure) {
      if (!lost.signal.aborted || left === 0) {
        throw failure;
      }
      said("libdatachannel had no fingerprint yet; js-libp2p dials again");
    }
  }
}
