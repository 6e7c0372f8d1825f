/** Pages whose nodes keep their messages under a name, and what they meet behind. */

import assert from "node:assert/strict";
import { setTimeout as pause } from "node:timers/promises";

import { CpcNode } from "../support/cpc-node.mjs";
import { builtPage, newPerson, startBrowser } from "./demo.mjs";

/**
 * Nothing may run out of time here while pages are closed and opened. A page that is gone leaves connections behind of which
 * only an unanswered ping tells.
 */
export const SETTINGS = {
  delivery: { timeout: "10m", acknowledgeTimeout: "500ms" },
  connections: { pingInterval: "1s", pingTimeout: "2s" },
};
/** Generous: it only bounds how long a failing story takes. */
export const PATIENCE = 60_000;

/**
 * A page whose own node has been stopped, and in it another one that keeps its messages under a name. The demo is only
 * there for the package that it brings along.
 */
export class Plain {
  constructor(page, name, seen, settings) {
    this.page = page;
    this.name = name;
    this.seen = seen;
    this.settings = settings;
  }

  /** `seen` is what the node's lives have seen together; the page goes on only when a message is noted there. */
  static async open(scope, context, url, name, seen = [], settings = SETTINGS) {
    const page = await context.newPage();
    await page.exposeFunction("note", (words, redelivered) => void seen.push({ words, redelivered }));
    const said = [];
    page.on("console", (message) => said.push(`${message.type()}: ${message.text()}`));
    page.on("pageerror", (error) => said.push(`uncaught: ${error.stack ?? error}`));
    scope.report(`page ${name}`, () => said.slice(-60).join("\n") || "(nothing)");
    const plain = new Plain(page, name, seen, settings);
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
      { name: this.name, settings: this.settings },
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
export async function eventually(holds, what, patience) {
  const until = Date.now() + patience;
  while (!holds()) {
    assert.ok(Date.now() < until, `waited in vain for: ${what}`);
    await pause(20);
  }
}

export const words = (list) => list.map(({ words }) => words);
export const numbered = (what, count) => Array.from({ length: count }, (_, number) => `${what} ${number}`);

/** Opens the demo, stops its node, and leaves `NetworkHandler` as a global. */
export async function loadPackage(page, url) {
  await page.goto(url);
  await page.waitForFunction(() => window.cpc !== undefined);
  await page.evaluate(async () => {
    globalThis.NetworkHandler = window.cpc.net.constructor;
    await window.cpc.net.shutdown();
  });
}

/** The node that pages meet behind, a browser's profile, and where the page is. */
export async function meetingPoint(scope) {
  const node = await CpcNode.start(scope, { words: ["--www", builtPage()] });
  const person = await newPerson(await startBrowser(scope));
  return { person, url: new URL("?dataDir=memory", node.ready.http).href };
}
