/** Pages that meet behind a relay become directly connected, and then need it no more. */

import assert from "node:assert/strict";

import { story } from "../support/story.mjs";
import { startBrowser } from "./demo.mjs";
import { openPage, startRelay } from "./meeting.mjs";
import { openPeerConnections, peerConnectionStates } from "./peer-connections.mjs";
import { talk } from "./talk.mjs";

/** How long pages talk after their relay is gone; `CPC_MINUTES` makes it longer. In milliseconds. */
const TALK = process.env.CPC_MINUTES ? Number(process.env.CPC_MINUTES) * 60_000 : 10_000;

/** The pauses between attempts to reach a relay that is gone grow up to a minute. */
const RECONNECT = 90_000;

story("two pages behind a relay become directly connected, and let the circuit go", async (scope, context) => {
  const relay = await startRelay(scope);
  const browser = await startBrowser(scope);
  const one = await openPage(scope, browser, relay, "one");
  const opened = Date.now();
  const two = await openPage(scope, browser, relay, "two");
  const [idOne, idTwo] = [await one.peerId(), await two.peerId()];

  const webrtc = { state: "connected", kind: "webrtc" };
  await Promise.all([one.known(idTwo, webrtc, "is direct"), two.known(idOne, webrtc, "is direct")]);
  context.diagnostic(`directly connected ${Date.now() - opened} ms after the second page was opened`);
  await Promise.all([one.directlyConnectedTo(idTwo), two.directlyConnectedTo(idOne)]);
  assert.equal(await one.part("peer-item", { "peer-id": idTwo }).locator('[data-part="kind"]').textContent(), "WebRTC");
  await Promise.all([openPeerConnections(one, 1), openPeerConnections(two, 1)]);

  await talk([one, two], 0, "directly");
  // The relay has its two connections to the pages, and carries nothing between them.
  const circuits = (page) => page.api((net) => net.networkStats());
  for (const page of [one, two]) {
    const { connectionsOpened, connectionsClosed } = await circuits(page);
    assert.equal(connectionsOpened - connectionsClosed, 2, "one connection to the relay, one to the other page");
    assert.deepEqual(page.uncaught, []);
    assert.deepEqual(
      page.console.filter((line) => line.startsWith("error:")),
      [],
    );
  }
});

story(
  "the relay is killed: two pages in two browsers go on talking; with a new one a third page joins them",
  async (scope, context) => {
    const relay = await startRelay(scope);
    const one = await openPage(scope, await startBrowser(scope), relay, "one");
    const browser = await startBrowser(scope);
    const two = await openPage(scope, browser, relay, "two");
    const [idOne, idTwo] = [await one.peerId(), await two.peerId()];
    await Promise.all([one.directlyConnectedTo(idTwo), two.directlyConnectedTo(idOne)]);
    await talk([one, two], 0, "before");

    await relay.crash();
    const { rounds, slowest } = await talk([one, two], TALK, "without a relay");
    context.diagnostic(`${rounds} rounds of talk in ${TALK / 1000} s without a relay, the slowest ${slowest} ms`);
    const gone = { kind: null };
    await Promise.all([one, two].map((page) => page.known(relay.ready.peerId, gone, "the relay is gone", 45_000)));
    await Promise.all([one.directlyConnectedTo(idTwo), two.directlyConnectedTo(idOne)]);
    for (const page of [one, two]) {
      assert.deepEqual(await peerConnectionStates(page), ["connected"], "one connection, the same all the time");
    }
    // As their people see it.
    await one.openConversation(idTwo);
    await one.sendDirect("Still here");
    await one.sees("direct-message", { state: "delivered" }, "the receipt");
    await two.post("So am I");
    await one.sees("post", { sender: idTwo }, "the post");

    const again = await relay.startAgain(scope);
    assert.equal(again.ready.peerId, relay.ready.peerId);
    const back = Date.now();
    const three = await openPage(scope, browser, again, "three");
    const idThree = await three.peerId();
    await Promise.all([
      one.directlyConnectedTo(idThree, RECONNECT),
      two.directlyConnectedTo(idThree, RECONNECT),
      three.directlyConnectedTo(idOne, RECONNECT),
      three.directlyConnectedTo(idTwo, RECONNECT),
    ]);
    context.diagnostic(`the third page is direct with both ${Date.now() - back} ms after the relay is back`);
    await talk([one, two, three], 0, "three of us");
    await Promise.all([one, two, three].map((page) => openPeerConnections(page, 2)));
    for (const page of [one, two, three]) {
      assert.deepEqual(page.uncaught, []);
    }
  },
  { longest: TALK + 180_000 },
);
