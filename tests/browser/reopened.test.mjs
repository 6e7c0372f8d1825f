/** A page that is closed without a word and opened again gets its mail at once, though its old connections still stand. */

import assert from "node:assert/strict";

import { story } from "../support/story.mjs";
import { PATIENCE, Plain, SETTINGS, eventually, meetingPoint, numbered, words } from "./plain.mjs";

/** Pings would tell of a dead connection in minutes. */
const PATIENT = { ...SETTINGS, connections: { pingInterval: "10m", pingTimeout: "2m" } };

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
  await sender.page.waitForFunction(
    (peer) => globalThis.net.peerInfo(peer)?.connections > 0,
    after.id,
    { timeout: PATIENCE },
  );
  const list = numbered("afterwards", 5);
  const began = Date.now();
  await sender.accept(before.id, list);
  await eventually(() => words(seen).includes(list[4]), "the last message", PATIENCE);
  context.diagnostic(`${Date.now() - began} ms to the page that came back`);
  const afresh = seen.filter(({ redelivered }) => !redelivered);
  assert.deepEqual(words(afresh), ["hello", ...numbered("meanwhile", 5), ...list], "each once, in order");
  await sender.page.waitForFunction(() => globalThis.net.receipts().length === 0, null, { timeout: PATIENCE });
});
