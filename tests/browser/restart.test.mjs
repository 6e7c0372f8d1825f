/** The node goes away and comes back. */

import assert from "node:assert/strict";

import { CpcNode } from "../support/cpc-node.mjs";
import { story } from "../support/story.mjs";
import { Demo, builtPage, newPerson, startBrowser } from "./demo.mjs";

/** Longer than the pauses between attempts grow meanwhile. */
const RECONNECT = 60_000;
/** Two pings and their time-outs: the browser does not tell of every connection that breaks. */
const NOTICE = 45_000;

const ENDS = [
  { how: "stops in good order", end: (node) => node.stop() },
  { how: "crashes", end: (node) => node.crash() },
];

for (const { how, end } of ENDS) {
  story(
    `the node ${how}: the page shows it, and connects again by itself once the node is back`,
    async (scope, context) => {
      const node = await CpcNode.start(scope, { words: ["--www", builtPage()] });
      const person = await newPerson(await startBrowser(scope));
      const demo = await Demo.open(scope, person, node.ready.http, "one");
      const id = await demo.peerId();
      await demo.phase("online");

      const ended = Date.now();
      await end(node);
      const sign = demo.page.locator('[data-testid="connection-sign"]:not([data-phase="online"])');
      await sign.waitFor({ timeout: NOTICE });
      assert.match(await sign.getAttribute("data-phase"), /^(alone|connecting)$/);
      context.diagnostic(`the page shows it ${Date.now() - ended} ms after the end`);
      await demo.sees("error-banner", {}, "the page says what is the matter", NOTICE);

      const again = await node.startAgain(scope);
      const back = Date.now();
      assert.deepEqual(new Set(again.ready.addresses), new Set(node.ready.addresses));
      await demo.phase("online", RECONNECT);
      context.diagnostic(`the page is connected again ${Date.now() - back} ms after the node is back`);
      assert.ok(await demo.part("error-banner").isHidden());
      assert.equal(await demo.part("own-peer-id").getAttribute("data-peer-id"), id);

      await demo.post("here again");
      await again.message(
        ({ sender, payload }) => sender === id && payload.includes("here again"),
        "a post after the restart",
      );
    },
  );
}
