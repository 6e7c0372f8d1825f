/** What a page has accepted outlives it, and what it has received is shown once: over reloads, crashes and closed tabs. */

import assert from "node:assert/strict";

import { story } from "../support/story.mjs";
import { PATIENCE, Plain, loadPackage, meetingPoint, numbered, words } from "./plain.mjs";

story("what was accepted while nobody was there arrives after the tab has crashed, once", async (scope) => {
  const { person, url } = await meetingPoint(scope);
  // Who the recipient is, and gone.
  const before = await Plain.open(scope, person, url, "recipient");
  const recipient = before.id;
  await before.page.close();

  const sender = await Plain.open(scope, person, url, "sender");
  const first = numbered("before the crash", 20);
  await sender.accept(recipient, first);
  await sender.crash();

  const again = await Plain.open(scope, person, url, "sender");
  assert.equal(again.id, sender.id);
  const restored = await again.page.evaluate(() => globalThis.net.receipts().map(({ recipient }) => recipient));
  assert.deepEqual(restored, Array(20).fill(recipient));
  const second = numbered("after the crash", 5);
  await again.accept(recipient, second);

  const reader = await Plain.open(scope, person, url, "recipient");
  assert.equal(reader.id, recipient);
  await reader.hasSeen((seen) => seen.length >= 25, "25 messages");
  const { seen } = reader;
  assert.deepEqual(words(seen), [...first, ...second], "each once, in order");
  assert.ok(seen.every(({ redelivered }) => !redelivered));
  await again.page.waitForFunction(() => globalThis.net.receipts().length === 0, null, { timeout: PATIENCE });
});

story("a reader that is reloaded and crashes neither loses a message nor gets one twice unmarked", async (scope) => {
  const { person, url } = await meetingPoint(scope);
  const seen = [];
  const reader = await Plain.open(scope, person, url, "recipient", seen);
  const sender = await Plain.open(scope, person, url, "sender");
  const all = [];
  let page = reader;
  for (const [round, end] of ["reload", "crash", "close", "reload"].entries()) {
    const list = numbered(`round ${round}`, 30);
    all.push(...list);
    await sender.accept(reader.id, list);
    const some = new Set(list.slice(0, 5));
    await page.hasSeen(() => words(seen).some((words) => some.has(words)), `something of round ${round}`);
    if (end === "reload") {
      await page.load(url);
    } else {
      await (end === "crash" ? page.crash() : page.page.close());
      page = await Plain.open(scope, person, url, "recipient", seen);
    }
  }
  await page.hasSeen(() => new Set(words(seen)).size >= all.length, "all messages");
  await sender.page.waitForFunction(() => globalThis.net.receipts().length === 0, null, { timeout: PATIENCE });

  assert.deepEqual(new Set(words(seen)), new Set(all));
  const before = new Set();
  for (const { words, redelivered } of seen) {
    assert.ok(redelivered || !before.has(words), `${words} came twice without a mark`);
    before.add(words);
  }
});

story("two nodes under one name are kept apart", async (scope) => {
  const { person, url } = await meetingPoint(scope);
  const first = await Plain.open(scope, person, url, "shared");
  const second = await person.newPage();
  await loadPackage(second, url);
  const code = await second.evaluate(async () => {
    return await globalThis.NetworkHandler.create({ dataDir: "shared" }).then(() => "no error", (error) => error.code);
  });
  assert.equal(code, "store_in_use");
  await first.page.evaluate(async () => await globalThis.net.shutdown());
  const id = await second.evaluate(async () => {
    const net = await globalThis.NetworkHandler.create({ dataDir: "shared" });
    return net.localPeerId();
  });
  assert.equal(id, first.id);
});
