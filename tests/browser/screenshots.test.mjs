/** Pictures of the demo, for the documentation and for whoever works on its looks. */

import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";

import { CpcNode } from "../support/cpc-node.mjs";
import { story } from "../support/story.mjs";
import { Demo, builtPage, newPerson, startBrowser } from "./demo.mjs";

const folder = process.env.CPC_SCREENSHOTS;

if (!folder) {
  test("pictures of the demo", { skip: "CPC_SCREENSHOTS names no folder to put them into" }, () => {});
} else {
  story("pictures of the demo", async (scope, context) => {
    await mkdir(folder, { recursive: true });
    const node = await CpcNode.start(scope, { words: ["--www", builtPage()] });
    const browser = await startBrowser(scope);
    // Nothing fades in, so that nothing is caught half there.
    const still = { reducedMotion: "reduce" };
    const desk = { ...still, viewport: { width: 1280, height: 800 } };
    const phone = {
      ...still,
      viewport: { width: 390, height: 844 },
      deviceScaleFactor: 2,
      isMobile: true,
      hasTouch: true,
    };
    const ada = await Demo.open(
      scope,
      await newPerson(browser, { ...desk, colorScheme: "light" }),
      node.ready.http,
      "Ada",
    );
    const bo = await Demo.open(
      scope,
      await newPerson(browser, { ...desk, colorScheme: "dark" }),
      node.ready.http,
      "Bo",
    );
    const take = async (demo, name) => {
      const path = join(folder, `${name}.png`);
      await demo.page.screenshot({ path });
      context.diagnostic(path);
    };

    await ada.rename("Ada");
    await bo.rename("Bo");
    const [idAda, idBo] = [await ada.peerId(), await bo.peerId()];
    await ada.knowsName(idBo, "Bo");
    await bo.knowsName(idAda, "Ada");

    await ada.post("The first post of a network without a server in the middle.");
    await bo.sees("post", { sender: idAda }, "Ada's post");
    await bo.post("It took a few milliseconds from your window to mine!");
    await ada.sees("post", { sender: idBo }, "Bo's post");
    await take(ada, "timeline-light");
    await take(bo, "timeline-dark");

    await ada.openConversation(idBo);
    await bo.openConversation(idAda);
    await ada.sendDirect("Shall we meet at the harbour at six?");
    await bo.sees("direct-message", { sender: idAda }, "Ada's message");
    await bo.sendDirect("Gladly. I'll bring the map.");
    await ada.sees("direct-message", { sender: idBo }, "Bo's message");
    await bo.sees("direct-message", { sender: idBo, state: "delivered" }, "the receipt");
    await take(ada, "conversation-light");
    await take(bo, "conversation-dark");

    const cy = await Demo.open(
      scope,
      await newPerson(browser, { ...phone, colorScheme: "light" }),
      node.ready.http,
      "Cy",
    );
    await cy.page.locator('#tabs [data-view="people"]').click();
    await cy.knowsName(idAda, "Ada");
    await cy.knowsName(idBo, "Bo");
    await take(cy, "phone-people");
    await ada.post("Welcome, whoever is new here.");
    await cy.page.locator('#tabs [data-view="timeline"]').click();
    await cy.sees("post", { sender: idAda }, "Ada's second post");
    await take(cy, "phone-timeline");

    await node.stop();
    const relay = ada.part("peer-item", { "peer-id": node.ready.peerId, state: "connected" });
    await relay.waitFor({ state: "detached" });
    await bo.post("The node is gone, and we are still talking.");
    await ada.sees("post", { sender: idBo }, "Bo's second post");
    await take(ada, "without-the-node");
  });
}
