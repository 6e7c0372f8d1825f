/** What a page has accepted outlives it, and what it has received is shown once: over reloads, crashes and closed tabs. */

import assert from "node:assert/strict";
import { setTimeout as pause } from "node:timers/promises";

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
  constructor(page, name, seen) {
    this.page = page;
    this.name = name;
    this.seen = seen;
  }

  /** `seen` is what the node's lives have seen together; the page goes on only when a message is noted there. */
  static async open(scope, context, url, name, seen = []) {
    const page = await context.newPage();
    await page.exposeFunction("note", (words, redelivered) => void seen.push({ words, redelivered }));
    const said = [];
    page.on("console", (message) => said.push(`${message.type()}: ${message.text()}`));
    page.on("pageerror", (error) => said.push(`uncaught: ${error.stack ?? error}`));
    scope.report(`page ${name}`, () => said.slice(-60).join("\n") || "(nothing)");
    const plain = new Plain(page, name, seen);
    await plain.load(url);
    return plain;
  }

  /** Opens the page and starts its node; whatever comes is noted for the story, and confirmed by asking for the next. */
  async load(url) {
    await loadPackage(this.page, url);
    this.id = await this.page.evaluate(
      async ({ name, settings }) => {
        const { addresses, network } = await (await fetch("/bootstrap.json")).json();
        const net = await globalThis.NetworkHandler.create({ dataDir: name, bootstrap: addresses, network, ...settings });
        globalThis.net = net;
        void (async () => {
          for await (const message of net.messages()) {
            await globalThis.note(new TextDecoder().decode(message.payload), message.redelivered);
          }
        })();
        return net.localPeerId();
      },
      { name: this.name, settings: SETTINGS },
    );
  }

  /** Waits until what has been seen is enough. */
  async hasSeen(enough, what) {
    await eventually(() => enough(this.seen), what, PATIENCE);
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

/** Looks again and again, until it holds. */
async function eventually(holds, what, patience) {
  const until = Date.now() + patience;
  while (!holds()) {
    assert.ok(Date.now() < until, `waited in vain for: ${what}`);
    await pause(20);
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
