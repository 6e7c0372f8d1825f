/** Where pages meet: a relay, and pages whose peer connections are watched. */

import { CpcNode } from "../support/cpc-node.mjs";
import { Demo, builtPage, newPerson, startBrowser } from "./demo.mjs";
import { beforeEachStep, watchPeerConnections } from "./peer-connections.mjs";

/** Without WebRTC-direct, so that every peer connection is one between pages. */
const LISTEN = ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/0/ws"];

/** A node that serves the demo and relays for pages. */
export async function startRelay(scope, { www = builtPage(), listen = LISTEN } = {}) {
  return await CpcNode.start(scope, { listen, words: ["--www", www] });
}

/**
 * A person's page, its messages kept, its peer connections watched. `beforeStep` is told of its steps of signalling;
 * one that is `deaf` can't become directly connected.
 */
export async function openPage(scope, browser, relay, name, { beforeStep, deaf } = {}) {
  const person = await newPerson(browser);
  await watchPeerConnections(person, deaf);
  if (beforeStep !== undefined) {
    await beforeEachStep(person, beforeStep);
  }
  const page = await Demo.open(scope, person, relay.ready.http, name);
  await page.keepMessages();
  return page;
}

/** A relay and two pages that are directly connected, with their ids. */
export async function twoDirectPages(scope) {
  const relay = await startRelay(scope);
  const browser = await startBrowser(scope);
  const one = await openPage(scope, browser, relay, "one");
  const two = await openPage(scope, browser, relay, "two");
  const [idOne, idTwo] = [await one.peerId(), await two.peerId()];
  await Promise.all([one.directlyConnectedTo(idTwo), two.directlyConnectedTo(idOne)]);
  return { relay, browser, one, two, idOne, idTwo };
}

/** The address by which a page is asked for a circuit, or with `webrtc` for a direct connection. */
export function circuitTo(relay, peer, webrtc = "") {
  return `${relay.address("ws")}/p2p-circuit${webrtc && "/webrtc"}/p2p/${peer}`;
}
