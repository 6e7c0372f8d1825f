/** A page that reaches the node by WebRTC alone. */

import assert from "node:assert/strict";

import { CpcNode, runCpcNode } from "../support/cpc-node.mjs";
import { story } from "../support/story.mjs";
import { Demo, builtPage, newPerson, startBrowser } from "./demo.mjs";

story(
  "a page with nothing but a WebRTC-direct address connects, posts, and gets direct messages",
  async (scope, context) => {
    const node = await CpcNode.start(scope, { words: ["--www", builtPage()] });
    const browser = await startBrowser(scope);
    const url = new URL(node.ready.http);
    url.searchParams.set("bootstrap", node.address("webrtc-direct"));
    url.searchParams.set("network", node.network);
    const demo = await Demo.open(scope, await newPerson(browser), url, "by WebRTC");
    const id = await demo.peerId();
    assert.equal(await demo.connectedTo(node.ready.peerId), "webrtc-direct");
    await demo.phase("online");

    const clicked = await demo.watchClick("post-button");
    await demo.post("over UDP");
    const heard = await node.message(
      ({ sender, payload }) => sender === id && payload.includes("over UDP"),
      "the post",
    );
    context.diagnostic(`a post: ${heard.cameAt - (await clicked.clickedAt())} ms to the node`);

    // Larger than what one data-channel message may hold.
    const long = `${"long ".repeat(390)}end`;
    await demo.post(long);
    await node.message(({ payload }) => payload.includes("long end"), "a post of some kilobytes");

    // By the circuit that the node offers: the page itself can't be dialled.
    const words = [
      "send",
      "--network",
      node.network,
      "--bootstrap",
      node.address("tcp"),
      "--to",
      id,
      "from the command line",
    ];
    const { code, errors } = await runCpcNode(words, { patience: 40_000 });
    assert.equal(code, 0, errors);
    await demo.part("conversation-item").click();
    await demo.sees("direct-message", { state: "received" }, "the direct message");
    assert.match(await demo.part("direct-message").textContent(), /from the command line/);

    // A page over WebSocket and this one talk to each other too.
    const other = await Demo.open(scope, await newPerson(browser), node.ready.http, "by WebSocket");
    const idOther = await other.peerId();
    await other.connectedTo(id);
    await other.openConversation(id);
    await other.sendDirect("from page to page");
    await other.sees("direct-message", { sender: idOther, state: "delivered" }, "the receipt");
  },
);
