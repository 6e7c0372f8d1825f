/** Members of a group that are connected only through a node that is none hear each other, in pages too. */

import assert from "node:assert/strict";

import { CpcNode } from "../support/cpc-node.mjs";
import { story } from "../support/story.mjs";
import { within } from "../support/waiting.mjs";
import { builtPage, newPerson, startBrowser } from "./demo.mjs";

/** A page with a node of its own making, which knows the node that serves it and seeks nobody else. */
async function member(scope, browser, url, name) {
  const context = await newPerson(browser);
  const page = await context.newPage();
  const said = [];
  page.on("console", (message) => said.push(`${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => said.push(`uncaught: ${error.stack ?? error}`));
  scope.report(`page ${name}`, () => said.slice(-60).join("\n") || "(nothing)");
  await page.goto(url);
  await page.waitForFunction(() => window.cpc !== undefined);
  const id = await page.evaluate(async () => {
    const NetworkHandler = window.cpc.net.constructor;
    await window.cpc.net.shutdown();
    const { addresses, network } = await (await fetch("/bootstrap.json")).json();
    const net = await NetworkHandler.create({
      dataDir: "memory",
      bootstrap: addresses,
      network,
      discovery: { targetPeers: 0, peerExchange: false, dht: false },
      relay: { reservations: 0 },
      transport: { webrtc: false },
    });
    globalThis.net = net;
    globalThis.heard = [];
    void (async () => {
      for await (const { payload, delivery, sender } of net.messages()) {
        globalThis.heard.push({ words: new TextDecoder().decode(payload), delivery, sender });
      }
    })();
    return net.localPeerId();
  });
  return { page, id };
}

const join = ({ page }) => page.evaluate(() => globalThis.net.joinGroup("book-club"));

const post = ({ page }, payload, scope) =>
  page.evaluate(({ payload, scope }) => globalThis.net.broadcast({ payload }, "medium", scope), { payload, scope });

async function hears({ page }, words) {
  const found = page.waitForFunction(
    (words) => globalThis.heard.find((message) => message.words === words),
    words,
    { timeout: 0 },
  );
  const handle = await within(found, `"${words}" is heard`);
  return await handle.jsonValue();
}

story("a group's posts cross a node that is no member", async (scope) => {
  const node = await CpcNode.start(scope, { words: ["--www", builtPage()] });
  const browser = await startBrowser(scope);
  const url = new URL("?dataDir=memory", node.ready.http).href;
  const ann = await member(scope, browser, url, "Ann");
  const bob = await member(scope, browser, url, "Bob");
  await join(ann);
  await join(bob);

  // The first waits until somebody takes it; each says who wrote it.
  await post(ann, "chapter one", { group: "book-club" });
  const heard = await hears(bob, "chapter one");
  assert.deepEqual({ ...heard }, { words: "chapter one", delivery: { group: "book-club" }, sender: ann.id });
  await post(bob, "chapter two", { group: "book-club" });
  assert.equal((await hears(ann, "chapter two")).sender, bob.id);

  // What follows to all has come to the node, so what went before has passed it by: it carries, and doesn't listen.
  await post(ann, "good night", "all");
  await node.message(({ payload }) => payload === "good night", "the post to all");
  await hears(bob, "good night");
  assert.deepEqual(
    node.lines().filter(({ message }) => message?.payload.startsWith("chapter")),
    [],
  );
  assert.equal(await node.metric("cpc_posts_carried_total"), 2);
  for (const { page, id } of [ann, bob]) {
    const { connected, words } = await page.evaluate(() => ({
      connected: globalThis.net.peers().filter(({ state }) => state === "connected").map(({ peer }) => peer),
      words: globalThis.heard.map(({ words }) => words),
    }));
    assert.deepEqual(connected, [node.ready.peerId], "the pages are connected to the node and to nobody else");
    assert.deepEqual(words, id === ann.id ? ["chapter two"] : ["chapter one", "good night"], "each once");
  }
});
