/** What goes wrong between pages: a clear end each time, nothing hangs, nothing is left behind, and then it works. */

import assert from "node:assert/strict";

import { story } from "../support/story.mjs";
import { within } from "../support/waiting.mjs";
import { startBrowser } from "./demo.mjs";
import { openPage, startRelay, twoDirectPages } from "./meeting.mjs";
import { openPeerConnections, setDeaf } from "./peer-connections.mjs";
import { talk } from "./talk.mjs";

/** A page that was closed without a word is missed after so long at the latest. In milliseconds. */
const NOTICE = 30_000;

/** An attempt to connect directly takes 10 s at most, the pause after it 4. */
const ATTEMPT = 25_000;

/** Bootstrap nodes are tried again ten seconds after the last attempt at the latest. */
const RECONNECT = 60_000;

for (const { step, when } of [
  { step: "offer", when: "before the offer is made" },
  { step: "answer", when: "when the offer has come, before it is answered" },
  { step: "candidate", when: "when candidates begin to come" },
]) {
  story(`the relay is killed in the middle of signalling, ${when}: the pages get over it`, async (scope, context) => {
    const relay = await startRelay(scope);
    const browser = await startBrowser(scope);
    let killed;
    const beforeStep = async (taken) => {
      if (taken === step) {
        killed ??= relay.crash();
        await killed;
      }
    };
    const one = await openPage(scope, browser, relay, "one", { beforeStep });
    const two = await openPage(scope, browser, relay, "two", { beforeStep });
    const [idOne, idTwo] = [await one.peerId(), await two.peerId()];
    const gone = { kind: null };
    await Promise.all([one, two].map((page) => page.known(relay.ready.peerId, gone, "the relay is gone", NOTICE)));
    const ended = Date.now();

    // Candidates may have been told in time; then they have found each other all the same.
    const direct = step === "candidate" && (await foundEachOther(one, idTwo, two, idOne));
    if (!direct) {
      await Promise.all([
        one.known(idTwo, gone, "the circuit is gone", NOTICE),
        two.known(idOne, gone, "the circuit is gone", NOTICE),
      ]);
      await Promise.all([one, two].map((page) => openPeerConnections(page, 0, { patience: ATTEMPT })));
    }
    context.diagnostic(`${direct ? "direct" : "all was ended"} ${Date.now() - ended} ms after the relay was missed`);

    await relay.startAgain(scope);
    await Promise.all([one.directlyConnectedTo(idTwo, RECONNECT), two.directlyConnectedTo(idOne, RECONNECT)]);
    await talk([one, two], 0, "after all");
    await Promise.all([openPeerConnections(one, 1), openPeerConnections(two, 1)]);
    for (const page of [one, two]) {
      assert.deepEqual(page.uncaught, []);
    }
  });
}

/** Whether both become connected; else both get to know that the other is gone. */
async function foundEachOther(one, idTwo, two, idOne) {
  const either = (page, peer) =>
    Promise.any([
      page.known(peer, { kind: "webrtc" }, "is direct", NOTICE),
      page.known(peer, { kind: null }, "is gone", NOTICE),
    ]);
  const found = await Promise.all([either(one, idTwo), either(two, idOne)]);
  return found.every((info) => info?.kind === "webrtc");
}

/** Notes from now on what becomes of the connection to a peer; the result gives it. */
async function watchStates(page, peer) {
  await page.api((net, peer) => {
    window.changes = [];
    const follow = async () => {
      for await (const event of net.events()) {
        if (event.type === "stateChanged" && event.peer === peer) {
          window.changes.push(event);
        }
      }
    };
    void follow();
  }, peer);
  return () => page.api(() => window.changes);
}

story("ICE can't succeed: the relayed connection stays and serves, until a direct one is possible", async (scope) => {
  const relay = await startRelay(scope);
  const browser = await startBrowser(scope);
  const one = await openPage(scope, browser, relay, "one", { deaf: true });
  const two = await openPage(scope, browser, relay, "two", { deaf: true });
  const [idOne, idTwo] = [await one.peerId(), await two.peerId()];
  const relayed = { state: "connected", kind: "relayed" };
  await Promise.all([one.known(idTwo, relayed, "relayed"), two.known(idOne, relayed, "relayed")]);
  const changes = [await watchStates(one, idTwo), await watchStates(two, idOne)];
  const dialsFailed = async () => {
    const counts = await Promise.all([one, two].map((page) => page.api((net) => net.networkStats().dialsFailed)));
    return counts[0] + counts[1];
  };
  const failedBefore = await dialsFailed();

  // Through the whole attempt and past its end messages arrive as ever.
  let ended = false;
  const attempts = Promise.all([one, two].map((page) => openPeerConnections(page, 0, { patience: ATTEMPT, made: 1 })));
  attempts.finally(() => (ended = true)).catch(() => {});
  for (let round = 0; !ended; round += 1) {
    await talk([one, two], 0, `relayed ${round}`);
  }
  await attempts;
  await talk([one, two], 0, "after the attempt");
  assert.ok((await dialsFailed()) > failedBefore, "the failure is counted");
  await Promise.all([one.known(idTwo, relayed, "relayed"), two.known(idOne, relayed, "relayed")]);

  await Promise.all([setDeaf(one, false), setDeaf(two, false)]);
  await Promise.all([one.directlyConnectedTo(idTwo, 2 * ATTEMPT), two.directlyConnectedTo(idOne, 2 * ATTEMPT)]);
  await talk([one, two], 0, "directly");
  for (const changesOf of changes) {
    assert.deepEqual(await changesOf(), [], "they were connected from beginning to end");
  }
  await Promise.all([openPeerConnections(one, 1), openPeerConnections(two, 1)]);
});

const ENDS = [
  { how: "is closed", end: (page) => page.page.close({ runBeforeUnload: false }) },
  { how: "crashes", end: crash },
];

for (const { how, end } of ENDS) {
  story(`a page ${how}: the other hears of it in time, and nothing stays behind`, async (scope, context) => {
    const { one, two, idTwo } = await twoDirectPages(scope);
    await talk([one, two], 0, "before");
    const ended = Date.now();
    await end(two);
    await one.known(idTwo, { kind: null }, "the other page is gone", NOTICE);
    context.diagnostic(`noticed ${Date.now() - ended} ms after the end`);
    await openPeerConnections(one, 0);

    assert.deepEqual(one.uncaught, []);
  });
}

/** Ends the page's process, as when it has run out of memory. */
async function crash({ page }) {
  const crashed = new Promise((resolve) => page.once("crash", resolve));
  // The page that is told to crash can't answer.
  page.goto("chrome://crash").catch(() => {});
  await within(crashed, "the page crashes");
}
