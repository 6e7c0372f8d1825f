/** A node in a worker, where browsers have no WebRTC: it is reached over the relay, and told so plainly. */

import assert from "node:assert/strict";
import { cp, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { temporaryFolder } from "../support/cpc-node.mjs";
import { story } from "../support/story.mjs";
import { within } from "../support/waiting.mjs";
import { builtPage, newPerson, startBrowser } from "./demo.mjs";
import { openPage, startRelay } from "./meeting.mjs";

/** Where the npm package was built; the demo holds it bundled, and a worker needs it as it is. */
const PACKAGE = fileURLToPath(new URL("../../js/dist", import.meta.url));

/** The worker: a node whose direct messages it tells, and which sends what it is told. */
const WORKER = `
  import { NetworkHandler } from "/cpc-net/index.js";
  let net;
  onmessage = async ({ data: { start, send } }) => {
    if (start) {
      net = await NetworkHandler.create(start);
      net.registerMessageHandler(({ sender, payload, delivery }) => {
        // The demo greets whoever comes by a post, which may reach the worker or not.
        if (delivery === "direct") {
          postMessage({ sender, text: new TextDecoder().decode(payload) });
        }
      });
      postMessage({ id: net.localPeerId(), webrtc: typeof RTCPeerConnection });
    } else {
      await net.sendMessage(send.to, { payload: send.text }).delivered;
      postMessage({ delivered: send.text, kind: net.peerInfo(send.to).kind });
    }
  };
`;

story("a node in a worker has no WebRTC, and talks with a page over the relay", async (scope) => {
  const www = await temporaryFolder(scope);
  await cp(builtPage(), www, { recursive: true });
  await cp(PACKAGE, join(www, "cpc-net"), { recursive: true });
  await writeFile(join(www, "worker.js"), WORKER);
  await writeFile(join(www, "host.html"), "<!doctype html><title>a worker's host</title>");
  const relay = await startRelay(scope, { www });
  const browser = await startBrowser(scope);
  const page = await openPage(scope, browser, relay, "page");
  const id = await page.peerId();

  const person = await newPerson(browser);
  const host = await person.newPage();
  const uncaught = [];
  host.on("pageerror", (error) => uncaught.push(String(error)));
  await host.goto(new URL("/host.html", relay.ready.http).href);
  await host.evaluate(() => {
    const [said, waiting] = [[], []];
    window.worker = new Worker("/worker.js", { type: "module" });
    window.worker.onmessage = ({ data }) => {
      said.push(data);
      waiting.splice(0).forEach((look) => look());
    };
    window.hears = async (field) => {
      for (;;) {
        const found = said.find((data) => field in data);
        if (found !== undefined) {
          return found;
        }
        await new Promise((resolve) => waiting.push(resolve));
      }
    };
  });
  const tell = (data) => host.evaluate((data) => window.worker.postMessage(data), data);
  const hears = (field) => within(host.evaluate((field) => window.hears(field), field), `the worker says ${field}`);

  await tell({ start: { bootstrap: [relay.address("ws")], network: relay.network } });
  const worker = await hears("id");
  assert.equal(worker.webrtc, "undefined", "if browsers come to have WebRTC in workers, it should be used there");
  await page.known(worker.id, { state: "connected", kind: "relayed" }, "the worker is connected");
  await tell({ send: { to: id, text: "from the worker" } });
  assert.equal((await hears("delivered")).kind, "relayed");
  assert.equal((await page.received("from the worker")).sender, worker.id);
  await page.api((net, to) => net.sendMessage(to, { payload: "to the worker" }).delivered, worker.id);
  assert.deepEqual(await hears("sender"), { sender: id, text: "to the worker" });
  // The page is not left waiting for what a worker can't do.
  await page.known(worker.id, { kind: "relayed" }, "the worker is connected as before");
  assert.deepEqual(uncaught, []);
  assert.deepEqual(page.uncaught, []);
});
