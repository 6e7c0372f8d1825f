/** Who a page is: the same after a reload, and somebody of its own in every tab. */

import assert from "node:assert/strict";

import { CpcNode } from "../support/cpc-node.mjs";
import { story } from "../support/story.mjs";
import { Demo, builtPage, newPerson, startBrowser } from "./demo.mjs";

story("a reloaded page is the same peer, and takes part again", async (scope) => {
  const node = await CpcNode.start(scope, { words: ["--www", builtPage()] });
  const person = await newPerson(await startBrowser(scope));
  const demo = await Demo.open(scope, person, node.ready.http, "reloaded");
  const before = await demo.peerId();
  await demo.phase("online");

  for (const round of [1, 2]) {
    const since = node.place;
    await demo.page.reload();
    assert.equal(await demo.peerId(), before, `after reload ${round}`);
    await demo.phase("online");
    await node.event(
      ({ type, peer, to }) => type === "stateChanged" && peer === before && to === "connected",
      "the node sees the page again",
      { since },
    );
    // Nonces go on rising, or the node would take this for a repetition.
    await demo.post(`after reload ${round}`);
    await node.message(({ payload }) => payload.includes(`after reload ${round}`), "a post after the reload", {
      since,
    });
  }
});

story("two tabs of one profile are two peers, side by side", async (scope) => {
  const node = await CpcNode.start(scope, { words: ["--www", builtPage()] });
  const person = await newPerson(await startBrowser(scope));
  const first = await Demo.open(scope, person, node.ready.http, "first tab");
  const idFirst = await first.peerId();
  const second = await Demo.open(scope, person, node.ready.http, "second tab");
  const idSecond = await second.peerId();
  assert.notEqual(idFirst, idSecond);
  assert.ok(await first.part("identity-note").isHidden());
  await second.sees("identity-note", {}, "the second tab says why it is somebody else");

  await Promise.all([first.connectedTo(idSecond), second.connectedTo(idFirst)]);
  await second.post("from the second tab");
  await first.sees("post", { sender: idSecond }, "the post of the second tab");
  // A tab in the background is not drawn, and need not be.
  await first.page.bringToFront();
  await first.post("from the first tab");
  await second.sees("post", { sender: idFirst }, "the post of the first tab");

  await second.page.reload();
  assert.equal(await second.peerId(), idSecond, "the second tab keeps its identity over a reload");
  assert.equal(await first.part("own-peer-id").getAttribute("data-peer-id"), idFirst);

  // Who is gone is shown as gone.
  await second.page.close({ runBeforeUnload: false });
  await first.page.locator(`[data-testid="peer-item"][data-peer-id="${idSecond}"][data-state="disconnected"]`).waitFor({
    state: "attached",
  });
});
