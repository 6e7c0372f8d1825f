/** A browser that gives a page no more room: what is new is refused, nothing accepted is lost, and it works again later. */

import assert from "node:assert/strict";

import { story } from "../support/story.mjs";
import { PATIENCE, Plain, eventually, meetingPoint } from "./plain.mjs";

/** What the origin may keep at first, bytes. The demo's own data count too. */
const QUOTA = 6 << 20;

story("a page whose quota is used up refuses new messages with the reason and loses none accepted", async (scope, context) => {
  const { person, url } = await meetingPoint(scope);
  // Before anything is stored: Chromium remembers for half a minute how much room it has found.
  const session = await person.newCDPSession(await person.newPage());
  const { origin } = new URL(url);
  const limit = (quotaSize) => session.send("Storage.overrideQuotaForOrigin", { origin, quotaSize });
  await limit(QUOTA);
  const before = await Plain.open(scope, person, url, "recipient");
  const recipient = before.id;
  await before.page.close();

  const sender = await Plain.open(scope, person, url, "sender");
  await sender.page.evaluate(() => {
    globalThis.storing = [];
    globalThis.send = async (peer, number) => {
      // Fifty kilobytes that nothing makes smaller.
      const payload = crypto.getRandomValues(new Uint8Array(50_000));
      new DataView(payload.buffer).setUint32(0, number);
      try {
        await globalThis.net.sendMessage(peer, { payload }).accepted;
        return "accepted";
      } catch (error) {
        return `${error.code}: ${error.message}`;
      }
    };
    void (async () => {
      for await (const event of globalThis.net.events()) {
        globalThis.storing.push(event.type);
      }
    })();
  });
  const send = (number) => sender.page.evaluate(({ peer, number }) => globalThis.send(peer, number), { peer: recipient, number });

  const accepted = [];
  let refusal = "";
  while (refusal === "") {
    assert.ok(accepted.length < 2000, "the quota is never used up");
    const said = await send(accepted.length);
    if (said === "accepted") {
      accepted.push(accepted.length);
    } else {
      refusal = said;
    }
  }
  context.diagnostic(`${accepted.length} messages of 50 KB accepted, then: ${refusal}`);
  assert.ok(accepted.length > 10, "there was room for some");
  assert.match(refusal, /^(not_stored|storage): .*quota/i);
  const told = (what) => sender.page.waitForFunction((what) => globalThis.storing.includes(what), what, { timeout: PATIENCE });
  await told("storeFailing");
  assert.match(await send(5000), /quota/i, "it is still used up");

  await limit(20 * QUOTA);
  await told("storeRecovered");
  assert.equal(await send(6000), "accepted", "there is room again");
  accepted.push(6000);
  await sender.crash();

  const again = await Plain.open(scope, person, url, "sender");
  const restored = await again.page.evaluate(() => globalThis.net.receipts().length);
  assert.equal(restored, accepted.length, "all that was accepted, and nothing that was refused");
  const numbers = [];
  const reader = await person.newPage();
  await reader.exposeFunction("number", (number) => void numbers.push(number));
  await reader.goto(url);
  await reader.waitForFunction(() => window.cpc !== undefined);
  await reader.evaluate(async () => {
    const create = window.cpc.net.constructor;
    await window.cpc.net.shutdown();
    const { addresses, network } = await (await fetch("/bootstrap.json")).json();
    globalThis.net = await create.create({ dataDir: "recipient", bootstrap: addresses, network });
    void (async () => {
      for await (const { payload } of globalThis.net.messages()) {
        await globalThis.number(new DataView(payload.buffer, payload.byteOffset).getUint32(0));
      }
    })();
  });
  await eventually(() => numbers.length >= accepted.length, `${accepted.length} messages`, PATIENCE);
  assert.deepEqual(numbers, accepted, "in order, each once");
});
