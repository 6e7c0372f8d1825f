/** A page writes to a page that is closed, and is closed itself: the message waits at a mailbox, and is read once. */

import assert from "node:assert/strict";
import { setTimeout as pause } from "node:timers/promises";

import { CpcNode } from "../support/cpc-node.mjs";
import { story } from "../support/story.mjs";
import { builtPage, newPerson, startBrowser } from "./demo.mjs";

/** Generous: it only bounds how long a failing story takes. */
const PATIENCE = 60_000;

/** Looks again and again, until it holds. */
async function eventually(holds, what) {
  const until = Date.now() + PATIENCE;
  for (;;) {
    const found = await holds();
    if (found) {
      return found;
    }
    assert.ok(Date.now() < until, `waited in vain for: ${what}`);
    await pause(50);
  }
}

/** A page of a person whose own node has been stopped, and in it another one that keeps its messages under a name. */
async function openPage(scope, person, url, name) {
  const page = await person.newPage();
  const said = [];
  page.on("console", (message) => said.push(`${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => said.push(`uncaught: ${error.stack ?? error}`));
  scope.report(`page ${name}`, () => said.slice(-60).join("\n") || "(nothing)");
  await page.goto(url);
  await page.waitForFunction(() => window.cpc !== undefined);
  const id = await page.evaluate(async (name) => {
    const { NetworkHandler } = { NetworkHandler: window.cpc.net.constructor };
    await window.cpc.net.shutdown();
    const { addresses, network } = await (await fetch("/bootstrap.json")).json();
    const settings = { dataDir: name, bootstrap: addresses, network, mailbox: { patience: "200ms" } };
    globalThis.net = await NetworkHandler.create(settings);
    globalThis.seen = [];
    void (async () => {
      for await (const message of globalThis.net.messages()) {
        globalThis.seen.push({ text: new TextDecoder().decode(message.payload), redelivered: message.redelivered });
      }
    })();
    return globalThis.net.localPeerId();
  }, name);
  return { page, id };
}

const states = (page) => page.evaluate(() => globalThis.net.receipts().map((receipt) => receipt.state));
const seen = (page) => page.evaluate(() => globalThis.seen);

story("what a page writes to a closed page waits at a mailbox, though both are closed meanwhile", async (scope) => {
  const node = await CpcNode.start(scope, { words: ["--mailbox", "--www", builtPage()] });
  const url = node.ready.http;
  const browser = await startBrowser(scope);
  const [ann, ben] = [await newPerson(browser), await newPerson(browser)];

  const first = await openPage(scope, ben, url, "ben");
  await first.page.evaluate(() => globalThis.net.shutdown());
  await first.page.close();

  const sender = await openPage(scope, ann, url, "ann");
  const texts = ["the first", "the second", "the third"];
  await sender.page.evaluate(
    ({ to, texts }) => texts.forEach((text) => globalThis.net.sendMessage(to, { payload: text })),
    { to: first.id, texts },
  );
  const kept = (state) => state.state === "queued" && state.why.type === "mailbox" && state.why.at === node.ready.peerId;
  await eventually(async () => {
    const all = await states(sender.page);
    return all.length === texts.length && all.every(kept);
  }, "the mailbox has all three");
  await sender.page.close();

  const reader = await openPage(scope, ben, url, "ben");
  assert.equal(reader.id, first.id, "the same person");
  await eventually(async () => (await seen(reader.page)).length >= texts.length, "the letters");
  assert.deepEqual(
    await seen(reader.page),
    texts.map((text) => ({ text, redelivered: false })),
  );
  await eventually(async () => {
    const { letters, handedOver } = (await (await fetch(new URL("/api/stats", url))).json()).mailbox;
    return handedOver === texts.length && letters > 0 && letters < texts.length;
  }, "only the confirmation is left");
  await reader.page.evaluate(() => globalThis.net.shutdown());
  await reader.page.close();

  const again = await openPage(scope, ann, url, "ann");
  assert.equal(again.id, sender.id, "the same person");
  await eventually(
    async () => (await again.page.evaluate(() => globalThis.net.networkStats().mailbox.confirmed)) === texts.length,
    "that all have arrived",
  );
  assert.deepEqual(await states(again.page), [], "nothing waits any more");
  await eventually(async () => {
    const { letters } = (await (await fetch(new URL("/api/stats", url))).json()).mailbox;
    return letters === 0;
  }, "the mailbox is empty");
});
