/** The package in a worker, where there is no window. */

import assert from "node:assert/strict";
import { cp, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { CpcNode, temporaryFolder } from "../support/cpc-node.mjs";
import { story } from "../support/story.mjs";
import { within } from "../support/waiting.mjs";
import { newPerson, startBrowser } from "./demo.mjs";

/** What the worker does; it reports each step. */
const WORKER = `
import { NetworkHandler } from "./package/index.js";

onmessage = async ({ data: { network, bootstrap, peer } }) => {
  try {
    const net = await NetworkHandler.create({ network, bootstrap: [bootstrap] });
    await net.connect(bootstrap);
    postMessage({ id: net.localPeerId(), kind: net.peerInfo(peer)?.kind });
    await net.sendMessage(peer, { payload: "from a worker" }, "high").delivered;
    await net.shutdown();
    postMessage({ done: true });
  } catch (error) {
    postMessage({ failed: String(error?.stack ?? error) });
  }
};
`;

story("a worker connects by WebSocket, and its message is delivered", async (scope) => {
  const site = await temporaryFolder(scope);
  await cp(new URL("../../js/dist", import.meta.url), join(site, "package"), { recursive: true });
  await writeFile(join(site, "worker.js"), WORKER);
  await writeFile(join(site, "index.html"), "<!doctype html><title>a page with a worker</title>");
  const node = await CpcNode.start(scope, { words: ["--www", site] });
  const page = await (await newPerson(await startBrowser(scope))).newPage();
  await page.goto(node.ready.http);

  const facts = { network: node.network, bootstrap: node.address("ws"), peer: node.ready.peerId };
  const told = page.evaluate(
    (facts) =>
      new Promise((resolve) => {
        const worker = new Worker("/worker.js", { type: "module" });
        const told = [];
        worker.onerror = ({ message }) => resolve([{ failed: message }]);
        worker.onmessage = ({ data }) => {
          told.push(data);
          if (data.done || data.failed) {
            resolve(told);
          }
        };
        worker.postMessage(facts);
      }),
    facts,
  );
  const [first, last] = await within(told, "the worker is done");
  assert.equal(first.failed ?? last?.failed, undefined);
  assert.equal(first.kind, "websocket");
  const mine = ({ sender, payload }) => sender === first.id && payload === "from a worker";
  await node.message(mine, "the worker's message");
});
