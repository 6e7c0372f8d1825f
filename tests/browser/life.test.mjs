/** The life of a page: left and come back to, put to sleep with its machine, without a network and with it again. */

import assert from "node:assert/strict";

import { CpcNode, temporaryFolder } from "../support/cpc-node.mjs";
import { story } from "../support/story.mjs";
import { within } from "../support/waiting.mjs";
import { Demo, builtPage, newPerson, startBrowser } from "./demo.mjs";

/** A page that wakes is back within a few seconds: a probe's patience, and an attempt. */
const SOON = 10_000;
/** Longer than what the page takes for sleep. */
const A_NAP = 8_000;

async function openPage(scope, { options, dataDir } = {}) {
  const node = await CpcNode.start(scope, { dataDir, words: ["--www", builtPage()] });
  const browser = await startBrowser(scope, options);
  const context = await newPerson(browser);
  const demo = await Demo.open(scope, context, node.ready.http, "with a life");
  const id = await demo.peerId();
  await demo.phase("online");
  return { node, browser, context, demo, id };
}

/** The page posts, and the node hears it soon. Gives how long that took, in milliseconds. */
async function heardSoon(node, demo, id, words) {
  const began = Date.now();
  await demo.post(words);
  const mine = ({ sender, payload }) => sender === id && payload.includes(words);
  const heard = await node.message(mine, `the post "${words}"`, { patience: SOON });
  return heard.cameAt - began;
}

async function stats(demo) {
  return await demo.api((net) => net.networkStats());
}

/** Starts a node again as an operator does: the same identity at the same ports. */
async function startAgain(scope, node, dataDir) {
  const bare = (address) => address.replace(/\/p2p\/[^/]+$/, "").replace(/\/certhash\/[^/]+/, "");
  return await CpcNode.start(scope, {
    dataDir,
    words: ["--www", builtPage()],
    network: node.network,
    listen: node.ready.addresses.map(bare),
    http: new URL(node.ready.http).host,
  });
}

/** Stops the processes of a browser's pages, as sleep does; gives what lets them go on. */
async function sleepOf(scope, browser) {
  const session = await browser.newBrowserCDPSession();
  const { processInfo } = await session.send("SystemInfo.getProcessInfo");
  const pages = processInfo.filter(({ type }) => type === "renderer").map(({ id }) => id);
  const signal = (name) => pages.forEach((id) => process.kill(id, name));
  signal("SIGSTOP");
  let asleep = true;
  const wake = () => {
    if (asleep) {
      asleep = false;
      signal("SIGCONT");
    }
  };
  scope.defer(wake);
  return wake;
}

story("a page that was left and come back to is there again, with the same node in it", async (scope, context) => {
  // Playwright switches off what keeps pages for the way back.
  const { node, demo, id } = await openPage(scope, { options: { ignoreDefaultArgs: ["--disable-back-forward-cache"] } });
  await demo.page.evaluate(() => {
    window.life = [];
    addEventListener("pageshow", ({ persisted }) => window.life.push(persisted ? "restored" : "loaded"));
    document.addEventListener("freeze", () => window.life.push("frozen"));
    document.addEventListener("resume", () => window.life.push("resumed"));
  });
  await demo.page.goto(new URL("/healthz", node.ready.http).href);
  await demo.page.goBack({ waitUntil: "commit" });
  const back = demo.page.waitForFunction(() => window.life?.includes("restored"), undefined, { polling: 20 });
  await within(back, "the page is taken out of the cache, not loaded anew", undefined, () => demo.words());
  assert.deepEqual(await demo.page.evaluate(() => window.life), ["frozen", "resumed", "restored"]);

  const took = await heardSoon(node, demo, id, "back again");
  context.diagnostic(`a post after coming back: ${took} ms to the node`);
  await demo.phase("online");
  assert.equal((await stats(demo)).connectionsClosed > 0, true, "the browser has closed the connection");
  assert.deepEqual(demo.uncaught, []);
});

story("a page that sleeps for a moment keeps its connection", async (scope, context) => {
  const { node, browser, demo, id } = await openPage(scope);
  const before = await stats(demo);
  const wake = await sleepOf(scope, browser);
  // Nothing happens while it sleeps, so there is nothing else to wait for.
  await new Promise((resolve) => setTimeout(resolve, A_NAP));
  wake();
  context.diagnostic(`a post after the sleep: ${await heardSoon(node, demo, id, "good morning")} ms to the node`);
  assert.equal((await stats(demo)).connectionsClosed, before.connectionsClosed);
  assert.equal((await stats(demo)).dialsFailed, before.dialsFailed);
  await demo.phase("online");
});

story("a page whose node has changed while it slept is connected again at once", async (scope, context) => {
  const dataDir = await temporaryFolder(scope);
  const { node, browser, demo, id } = await openPage(scope, { dataDir });
  const wake = await sleepOf(scope, browser);
  await node.crash();
  const again = await startAgain(scope, node, dataDir);
  wake();
  context.diagnostic(`a post after the sleep: ${await heardSoon(again, demo, id, "good morning")} ms to the node`);
  await demo.phase("online");
});

story("without a network: what is dead is noticed soon, what lives stays, and with it all is back", async (scope, story) => {
  const { node, context, demo, id } = await openPage(scope);
  // A browser may be wrong: what can still be reached is.
  await demo.page.evaluate(() => void dispatchEvent(new Event("offline")));
  await heardSoon(node, demo, id, "still reaching this machine");
  await demo.page.evaluate(() => void dispatchEvent(new Event("online")));
  await heardSoon(node, demo, id, "and again");
  assert.equal((await stats(demo)).connectionsClosed, 0);

  // The connection falls silent and is not closed, as in a tunnel; only the page's own question finds out.
  await context.setOffline(true);
  const lost = Date.now();
  const gone = demo.page.locator('[data-testid="connection-sign"]:not([data-phase="online"])');
  await within(gone.waitFor({ timeout: 0 }), "the page notices", SOON, () => demo.words());
  story.diagnostic(`a silent connection is noticed after ${Date.now() - lost} ms`);

  await context.setOffline(false);
  const back = Date.now();
  await demo.phase("online", SOON);
  story.diagnostic(`connected again ${Date.now() - back} ms after the network is back`);
  await heardSoon(node, demo, id, "here again");
  assert.deepEqual(demo.uncaught, []);
});

story("a node that was stopped for a while keeps its connections, and doesn't count the time", async (scope) => {
  const { node, demo, id } = await openPage(scope);
  const uptime = async () => (await (await node.get("/api/status")).json()).uptime;
  const [began, before] = [Date.now(), await uptime()];
  node.pause();
  // Nothing happens while it is stopped, so there is nothing else to wait for.
  await new Promise((resolve) => setTimeout(resolve, A_NAP));
  node.goOn();
  await heardSoon(node, demo, id, "are you there?");
  const slept = Date.now() - began - ((await uptime()) - before);
  assert.ok(slept > A_NAP - 2_000, `of ${A_NAP} ms asleep it has left out ${slept} ms`);
  assert.equal((await stats(demo)).connectionsClosed, 0);
  await demo.phase("online");
});
