/** Whom a broadcast reaches: everybody, the neighbours, or the members of a group. */

import assert from "node:assert/strict";

import { CpcNode } from "../support/cpc-node.mjs";
import { story } from "../support/story.mjs";
import { Demo, builtPage, newPerson, startBrowser } from "./demo.mjs";

/** A node and so many pages, all of them connected, all messages kept. */
async function crowd(scope, names) {
  const node = await CpcNode.start(scope, { words: ["--www", builtPage()] });
  const browser = await startBrowser(scope);
  const pages = [];
  for (const name of names) {
    const page = await Demo.open(scope, await newPerson(browser), node.ready.http, name);
    await page.keepMessages();
    pages.push(page);
  }
  const ids = await Promise.all(pages.map((page) => page.peerId()));
  for (const [at, page] of pages.entries()) {
    await page.phase("online");
    for (const id of ids.filter((_, other) => other !== at)) {
      await page.connectedTo(id, 30_000);
    }
  }
  return { node, pages, ids };
}

/** Everything that has arrived at a page by now, by payload. */
async function payloads(page) {
  return await page.api(() => window.kept.map(({ payload }) => payload));
}

const broadcast = (page, payload, scope) =>
  page.api((net, { payload, scope }) => net.broadcast({ payload }, "medium", scope), { payload, scope });

story("a group's messages reach its members and nobody else", async (scope) => {
  const { node, pages, ids } = await crowd(scope, ["Ann", "Bob", "Eve"]);
  const [ann, bob, eve] = pages;
  for (const member of [ann, bob]) {
    await member.api((net) => net.joinGroup("book-club"));
    const { groups } = await member.api((net) => net.status());
    assert.deepEqual(groups, ["book-club"]);
  }

  await broadcast(ann, "chapter one", { group: "book-club" });
  const heard = await bob.received("chapter one");
  assert.deepEqual(heard.delivery, { group: "book-club" });
  assert.equal(heard.sender, ids[0]);
  await broadcast(bob, "chapter two", { group: "book-club" });
  await ann.received("chapter two");

  // What is sent to all afterwards has arrived everywhere; the group's messages have not.
  await broadcast(ann, "good night", "all");
  await Promise.all([bob.received("good night"), eve.received("good night")]);
  await node.message(({ payload }) => payload === "good night", "the message to all");
  assert.deepEqual(
    (await payloads(eve)).filter((payload) => payload.startsWith("chapter")),
    [],
  );
  assert.deepEqual(
    node.lines().filter(({ message }) => message?.payload.startsWith("chapter")),
    [],
  );

  // Nor does who has left hear what follows. Whoever hears Eve knows that she is a member.
  await bob.api((net) => net.leaveGroup("book-club"));
  await eve.api((net) => net.joinGroup("book-club"));
  await broadcast(eve, "may I join?", { group: "book-club" });
  await ann.received("may I join?");
  await broadcast(ann, "chapter three", { group: "book-club" });
  await eve.received("chapter three");
  await broadcast(ann, "sleep well", "all");
  await bob.received("sleep well");
  assert.deepEqual(
    (await payloads(bob)).filter((payload) => /join|three/.test(payload)),
    [],
  );
});

story("a message to the neighbours reaches those connected, and is not passed on", async (scope) => {
  const { node, pages, ids } = await crowd(scope, ["Ann", "Bob", "Eve"]);
  const [ann, bob, eve] = pages;
  await broadcast(ann, "to all neighbours", "neighbors");
  for (const page of [bob, eve]) {
    const heard = await page.received("to all neighbours");
    assert.equal(heard.delivery, "neighbors");
    assert.equal(heard.sender, ids[0]);
  }
  await node.message(({ payload }) => payload === "to all neighbours", "the message to the neighbours");

  // At once, since Eve may seek the connection again.
  const state = await ann.api(async (net, peer) => {
    await net.disconnect(peer);
    net.broadcast({ payload: "to those who are left" }, "medium", "neighbors");
    return net.connectionState(peer);
  }, ids[2]);
  assert.equal(state, "disconnected");
  await bob.received("to those who are left");
  await node.message(({ payload }) => payload === "to those who are left", "the second message to the neighbours");
  await broadcast(ann, "to all", "all");
  await eve.received("to all");
  assert.ok(!(await payloads(eve)).includes("to those who are left"));
});
