/** What a page has accepted outlives it, and what it has received is shown once: over reloads, crashes and closed tabs. */

import assert from "node:assert/strict";

import { CpcNode } from "../support/cpc-node.mjs";
import { story } from "../support/story.mjs";
import { builtPage, newPerson, startBrowser } from "./demo.mjs";

/**
 * Nothing may run out of time here while pages are closed and opened. A page that is gone leaves connections behind of which
 * only an unanswered ping tells.
 */
const SETTINGS = {
  delivery: { timeout: "10m", acknowledgeTimeout: "500ms" },
  connections: { pingInterval: "1s", pingTimeout: "2s" },
};
/** Generous: it only bounds how long a failing story takes. */
const PATIENCE = 60_000;

/**
 * A page whose own node has been stopped, and in it another one that keeps its messages under a name. The demo is only
 * there for the package that it brings along.
 */
class Plain {
  constructor(page, name) {
    this.page = page;
    this.name = name;
  }

  static async open(scope, context, url, name) {
    const page = await context.newPage();
    const said = [];
    page.on("console", (message) => said.push(`${message.type()}: ${message.text()}`));
    page.on("pageerror", (error) => said.push(`uncaught: ${error.stack ?? error}`));
    scope.report(`page ${name}`, () => said.slice(-60).join("\n") || "(nothing)");
    const plain = new Plain(page, name);
    await plain.load(url);
    return plain;
  }

  /** Opens the page and starts its node; whatever comes is kept for the story, and asked for one at a time. */
  async load(url) {
    await loadPackage(this.page, url);
    this.id = await this.page.evaluate(
      async ({ name, settings }) => {
        const { addresses, network } = await (await fetch("/bootstrap.json")).json();
        const net = await globalThis.NetworkHandler.create({ dataDir: name, bootstrap: addresses, network, ...settings });
        Object.assign(globalThis, { net, seen: [], notes: [] });
        void (async () => {
          for await (const message of net.messages()) {
            globalThis.seen.push({
              words: new TextDecoder().decode(message.payload),
              redelivered: message.redelivered,
            });
          }
        })();
        return net.localPeerId();
      },
      { name: this.name, settings: SETTINGS },
    );
  }

  async seen() {
    return await this.page.evaluate(() => globalThis.seen);
  }

  /** Waits until so many messages have been seen. */
  async hasSeen(count) {
    await this.page.waitForFunction((count) => globalThis.seen.length >= count, count, { timeout: PATIENCE });
    return await this.seen();
  }

  /** Sends messages, and comes back when all are accepted. */
  async accept(peer, words) {
    await this.page.evaluate(
      async ({ peer, words }) => {
        await Promise.all(words.map((word) => globalThis.net.sendMessage(peer, { payload: word }).accepted));
      },
      { peer, words },
    );
  }

  /** The page is gone as in a crash: nothing in it runs any more, not even what runs when a page is left. */
  async crash() {
    const session = await this.page.context().newCDPSession(this.page);
    const gone = this.page.waitForEvent("crash");
    void session.send("Page.crash").catch(() => {});
    await gone;
    await this.page.close();
  }
}

const words = (list) => list.map(({ words }) => words);
const numbered = (what, count) => Array.from({ length: count }, (_, number) => `${what} ${number}`);

/** Opens the demo, stops its node, and leaves `NetworkHandler` as a global. */
async function loadPackage(page, url) {
  await page.goto(url);
  await page.waitForFunction(() => window.cpc !== undefined);
  await page.evaluate(async () => {
    globalThis.NetworkHandler = window.cpc.net.constructor;
    await window.cpc.net.shutdown();
  });
}

/** The node that pages meet behind, a browser's profile, and where the page is. */
async function meetingPoint(scope) {
  const node = await CpcNode.start(scope, { words: ["--www", builtPage()] });
  const person = await newPerson(await startBrowser(scope));
  return { person, url: new URL("?dataDir=memory", node.ready.http).href };
}

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
  const seen = await reader.hasSeen(25);
  assert.deepEqual(words(seen), [...first, ...second], "each once, in order");
  assert.ok(seen.every(({ redelivered }) => !redelivered));
  await again.page.waitForFunction(() => globalThis.net.receipts().length === 0, null, { timeout: PATIENCE });
});

story("a reader that is reloaded and crashes neither loses a message nor gets one twice unmarked", async (scope) => {
  const { person, url } = await meetingPoint(scope);
  const reader = await Plain.open(scope, person, url, "recipient");
  const sender = await Plain.open(scope, person, url, "sender");
  const all = [];
  /** What each life of the reader has seen. */
  const lives = [];
  let page = reader;
  for (const [round, end] of ["reload", "crash", "close", "reload"].entries()) {
    const list = numbered(`round ${round}`, 30);
    all.push(...list);
    await sender.accept(reader.id, list);
    await page.hasSeen(5);
    lives.push(await page.seen());
    if (end === "reload") {
      await page.load(url);
    } else {
      await (end === "crash" ? page.crash() : page.page.close());
      page = await Plain.open(scope, person, url, "recipient");
    }
  }
  await page.page.waitForFunction(
    (last) => globalThis.seen.some(({ words }) => words === last),
    all.at(-1),
    { timeout: PATIENCE },
  );
  await sender.page.waitForFunction(() => globalThis.net.receipts().length === 0, null, { timeout: PATIENCE });
  lives.push(await page.seen());

  // The story's look at a life may have come before the life's end, so what was seen between the two shows up marked.
  const seen = new Map();
  for (const { words, redelivered } of lives.flat()) {
    assert.ok(redelivered || !seen.has(words), `${words} came twice without a mark`);
    seen.set(words, true);
  }
  const unconfirmed = all.filter((words) => !seen.has(words));
  const looks = lives.length - 1;
  assert.ok(unconfirmed.length <= looks * 30, `${unconfirmed.length} were seen by nobody: ${unconfirmed}`);
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
