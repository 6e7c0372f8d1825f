/** A page and a native node that can't be dialled meet behind a relay, and then need it no more. */

import { writeFile } from "node:fs/promises";
import { join } from "node:path";

import { CpcNode, temporaryFolder } from "../support/cpc-node.mjs";
import { story } from "../support/story.mjs";
import { startBrowser } from "./demo.mjs";
import { openPage, startRelay } from "./meeting.mjs";

story("a page and a node behind a relay become directly connected, and go on without it", async (scope, context) => {
  const relay = await startRelay(scope);
  const dataDir = await temporaryFolder(scope);
  const config = join(dataDir, "node.toml");
  await writeFile(config, "listen = []\n[relay]\nreservations = 1\n");
  const words = ["--config", config, "--bootstrap", relay.address("tcp")];
  const node = await CpcNode.start(scope, { network: relay.network, listen: [], dataDir, http: "off", words });
  const id = node.ready.peerId;

  const page = await openPage(scope, await startBrowser(scope), relay, "a page");
  const opened = Date.now();
  await page.directlyConnectedTo(id);
  context.diagnostic(`directly connected ${Date.now() - opened} ms after the page was opened`);

  await relay.crash();
  await page.openConversation(id);
  await page.sendDirect("nobody between us");
  await node.message(({ payload }) => payload.includes("nobody between us"), "the message");
  await page.sees("direct-message", { state: "delivered" }, "the receipt");
});
