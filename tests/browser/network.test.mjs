/** The main story: two pages and a node are one network. */

import assert from "node:assert/strict";

import { CpcNode } from "../support/cpc-node.mjs";
import { story } from "../support/story.mjs";
import { Demo, builtPage, newPerson, startBrowser } from "./demo.mjs";

story(
  "two pages and a node: a post reaches everybody, a direct message its recipient, in time",
  async (scope, context) => {
    const node = await CpcNode.start(scope, { words: ["--www", builtPage()] });
    const browser = await startBrowser(scope);
    const opened = Date.now();
    const one = await Demo.open(scope, await newPerson(browser), node.ready.http, "one");
    const two = await Demo.open(scope, await newPerson(browser), node.ready.http, "two");
    const [idOne, idTwo] = [await one.peerId(), await two.peerId()];
    assert.notEqual(idOne, idTwo);

    await Promise.all([one.phase("online"), two.phase("online")]);
    assert.equal(await one.connectedTo(node.ready.peerId), "websocket");
    assert.equal(await two.connectedTo(node.ready.peerId), "websocket");
    const kind = await one.connectedTo(idTwo);
    await two.connectedTo(idOne);
    context.diagnostic(
      `both pages connected to the node and, ${kind}, to each other: ${Date.now() - opened} ms after opening`,
    );
    await one.rename("Ann");
    await two.rename("Bob");
    await Promise.all([one.knowsName(idTwo, "Bob"), two.knowsName(idOne, "Ann")]);

    const text = "Hello, everybody";
    const [seen, clicked] = [await two.watch("post", { sender: idOne }, text), await one.watchClick("post-button")];
    await one.post(text);
    const posted = await clicked.clickedAt();
    const toPage = (await seen.seenAt()) - posted;
    const heard = await node.message(({ sender, payload }) => sender === idOne && payload.includes(text), "the post");
    assert.equal(heard.message.delivery, "all");
    assert.equal(heard.message.authenticity, "signed");
    const toNode = heard.cameAt - posted;
    await one.sees("post", { sender: idOne }, "one's own post");
    context.diagnostic(`a post: ${toPage} ms to the other page, ${toNode} ms to the node`);
    assert.ok(toPage < 1000 && toNode < 1000);

    // The conversation is open on both sides, so that what arrives is shown.
    await one.openConversation(idTwo);
    await two.openConversation(idOne);
    const words = "Only for you";
    const [arrived, delivered, sent] = [
      await one.watch("direct-message", { sender: idTwo, state: "received" }, words),
      await two.watch("direct-message", { sender: idTwo, state: "delivered" }, words),
      await two.watchClick("dm-send"),
    ];
    await two.sendDirect(words);
    const began = await sent.clickedAt();
    const toRecipient = (await arrived.seenAt()) - began;
    const toReceipt = (await delivered.seenAt()) - began;
    context.diagnostic(`a direct message: ${toRecipient} ms to the other page, ${toReceipt} ms to its receipt`);
    assert.ok(toRecipient < 500 && toReceipt < 500);

    // And back; nobody else has heard any of it.
    await one.sendDirect("Thank you");
    await two.sees("direct-message", { sender: idOne, state: "received" }, "the answer");
    await one.sees("direct-message", { sender: idOne, state: "delivered" }, "the receipt of the answer");
    const overheard = node.lines().filter(({ message }) => message && /Only for you|Thank you/.test(message.payload));
    assert.deepEqual(overheard, []);
    assert.equal(await two.part("post").count(), 1);

    for (const demo of [one, two]) {
      assert.deepEqual(demo.uncaught, [], "nothing is thrown that nobody catches");
      assert.deepEqual(
        demo.console.filter((line) => line.startsWith("error:")),
        [],
        "no errors on the console",
      );
      assert.ok(await demo.part("error-banner").isHidden(), "nothing to complain of");
    }
    assert.deepEqual(
      node.lines().filter(({ network }) => network?.type === "messageRejected"),
      [],
    );
  },
);
