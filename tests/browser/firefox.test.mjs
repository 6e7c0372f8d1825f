/** Firefox takes part: with a page in Chromium, and with a node over WebSocket and WebRTC-direct. */

import assert from "node:assert/strict";
import { networkInterfaces } from "node:os";
import { test } from "node:test";

import { CpcNode } from "../support/cpc-node.mjs";
import { story } from "../support/story.mjs";
import { builtPage, startBrowser } from "./demo.mjs";
import { Firefox, FirefoxDemo, findFirefox } from "./firefox.mjs";
import { circuitTo, openPage, startRelay } from "./meeting.mjs";
import { openPeerConnections } from "./peer-connections.mjs";
import { talk } from "./talk.mjs";

const executable = findFirefox();

/** A browser that was never started before takes its time on a busy machine. In milliseconds. */
const FIRST_START = 45_000;

/**
 * Firefox looks for WebRTC's way from the address of its default route alone, and never from there to loopback. So the
 * node listens at the address that this machine has in its network.
 */
function listenFor(transport) {
  if (transport === "ws") {
    return undefined;
  }
  const own = Object.values(networkInterfaces()).flat();
  const address = own.find(({ family, internal }) => family === "IPv4" && !internal)?.address;
  assert.ok(address, "this machine has no IPv4 address but loopback, so Firefox can't reach a node by WebRTC");
  return ["/ip4/127.0.0.1/tcp/0", `/ip4/${address}/udp/0/webrtc-direct`];
}

if (executable === undefined) {
  const why = "FIREFOX IS NOT ON THIS MACHINE, so nothing is known of it. Debian: apt-get install firefox-esr";
  console.error(`\n*** ${why} ***\n`);
  test("Firefox takes part", { skip: why }, () => {});
} else {
  story("a page in Firefox and one in Chromium become directly connected, whoever dials", async (scope, context) => {
    const relay = await startRelay(scope);
    const chromium = await openPage(scope, await startBrowser(scope), relay, "in Chromium");
    const opened = Date.now();
    const browser = await Firefox.start(scope, executable);
    const firefox = await FirefoxDemo.open(scope, browser, relay.ready.http, "in Firefox");
    await firefox.keepMessages();
    const [idChromium, idFirefox] = [await chromium.peerId(), await firefox.peerId()];
    await Promise.all([
      chromium.directlyConnectedTo(idFirefox, FIRST_START),
      firefox.directlyConnectedTo(idChromium, FIRST_START),
    ]);
    context.diagnostic(`directly connected ${Date.now() - opened} ms after Firefox was started`);
    await talk([chromium, firefox], 0, "as they met");

    for (const [dialler, diallersId, dialled, dialledId, who] of [
      [chromium, idChromium, firefox, idFirefox, "Chromium"],
      [firefox, idFirefox, chromium, idChromium, "Firefox"],
    ]) {
      await dialler.api((net, peer) => net.disconnect(peer), dialledId);
      await dialled.known(diallersId, { kind: null }, "is disconnected");
      await dialler.api((net, address) => net.connect(address), circuitTo(relay, dialledId, "webrtc"));
      await Promise.all([dialler.directlyConnectedTo(dialledId), dialled.directlyConnectedTo(diallersId)]);
      await talk([chromium, firefox], 0, `${who} dialled`);
    }
    await Promise.all([openPeerConnections(chromium, 1), openPeerConnections(firefox, 1)]);
    assert.deepEqual(firefox.uncaught, []);
  });

  for (const transport of ["ws", "webrtc-direct"]) {
    story(`a page in Firefox reaches a node over ${transport}, posts, and writes to it`, async (scope) => {
      const node = await CpcNode.start(scope, { listen: listenFor(transport), words: ["--www", builtPage()] });
      const url = new URL(node.ready.http);
      url.searchParams.set("bootstrap", node.address(transport));
      url.searchParams.set("network", node.network);
      const page = await FirefoxDemo.open(scope, await Firefox.start(scope, executable), url, "in Firefox");
      const id = await page.peerId();
      const kind = transport === "ws" ? "websocket" : transport;
      await page.known(node.ready.peerId, { state: "connected", kind }, "is connected", FIRST_START);
      await page.sees("peer-item", { "peer-id": node.ready.peerId, kind }, "the node is shown");

      await page.api((net) => net.broadcast({ payload: "from Firefox to all" }));
      await node.message(({ sender, payload }) => sender === id && payload === "from Firefox to all", "the post");
      const long = "long ".repeat(12_000);
      const to = node.ready.peerId;
      await page.api((net, { to, long }) => net.sendMessage(to, { payload: long }).delivered, { to, long });
      await node.message(({ sender, payload }) => sender === id && payload === long, "the message");
      assert.deepEqual(page.uncaught, []);
    });
  }
}
