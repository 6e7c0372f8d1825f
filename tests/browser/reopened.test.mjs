/** A page that is closed without a word and opened again gets its mail at once, though its old connections still stand. */

import assert from "node:assert/strict";

import { story } from "../support/story.mjs";
import { PATIENCE, Plain, SETTINGS, eventually, meetingPoint, numbered, words } from "./plain.mjs";

/** Pings would tell of a dead connection in minutes. */
const PATIENT = { ...SETTINGS, connections: { pingInterval: "10m", pingTimeout: "2m" } };
/** Chromium itself notices after some fifteen seconds that nobody answers a peer connection; without the newer connection
 * mail waits until then. */
const SOON = 8_000;

story("mail for a page that crashed and came back leaves its dead connection for the living one", async (scope, context) => {
  const { person, url } = await meetingPoint(scope);
  const seen = [];
  const before = await Plain.open(scope, person, url, "recipient", seen, PATIENT);
  const sender = await Plain.open(scope, person, url, "sender", [], PATIENT);
  await sender.accept(before.id, ["hello"]);
  await before.hasSeen(() => seen.length === 1, "the first message");
  await sender.page.waitForFunction(
    (peer) => globalThis.net.peerInfo(peer)?.kind === "webrtc",
    before.id,
    { timeout: PATIENCE },
  );
  await before.crash();
  // Nobody has told the sender.
  await sender.accept(before.id, numbered("meanwhile", 5));
  const after = await Plain.open(scope, person, url, "recipient", seen, PATIENT);
  assert.equal(after.id, before.id);
  await after.page.waitForFunction(
    (peer) => globalThis.net.peerInfo(peer)?.state === "connected",
    sender.id,
    { timeout: PATIENCE },
  );
  const list = numbered("afterwards", 5);
  const began = Date.now();
  await sender.accept(before.id, list);
  await eventually(() => words(seen).includes(list[4]), "the last message", PATIENCE);
  const took = Date.now() - began;
  context.diagnostic(`${took} ms to the page that came back`);
  assert.ok(took < SOON, `${took} ms: until something else told that the old connection is dead`);
  const afresh = seen.filter(({ redelivered }) => !redelivered);
  assert.deepEqual(words(afresh), ["hello", ...numbered("meanwhile", 5), ...list], "each once, in order");
  await sender.page.waitForFunction(() => globalThis.net.receipts().length === 0, null, { timeout: PATIENCE });
});
