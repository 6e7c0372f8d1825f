import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { DeliveryError } from "../src/index.js";
import { Receipt } from "../src/receipt.js";
import { FakeReceipt, settled, wasmError } from "./fake.js";

function receive(): { wasm: FakeReceipt; receipt: Receipt } {
  const wasm = new FakeReceipt();
  return { wasm, receipt: new Receipt(wasm, {}) };
}

describe("a receipt", () => {
  it("tells where the message stands", async () => {
    const { wasm, receipt } = receive();
    assert.equal(receipt.id, "12D3KooWme/1");
    assert.deepEqual(receipt.state, { state: "queued", why: { type: "turn" } });
    wasm.current = { state: "sent", way: { type: "relayed" } };
    assert.deepEqual(receipt.state, { state: "sent", way: { type: "relayed" } });
    assert.equal(wasm.asked, 0, "nobody has asked for the end yet");
  });

  it("resolves with the delivery, and still knows it afterwards", async () => {
    const { wasm, receipt } = receive();
    const { delivered } = receipt;
    assert.equal(receipt.delivered, delivered);
    wasm.current = { state: "delivered" };
    wasm.end.resolve();
    await delivered;
    assert.equal(wasm.asked, 1);
    assert.equal(wasm.freed, 1);
    assert.deepEqual(receipt.state, { state: "delivered" });
    assert.equal(receipt.id, "12D3KooWme/1");
    await receipt.delivered;
    assert.equal(wasm.freed, 1);
  });

  it("tells when the message is stored, and still knows it after the end", async () => {
    const { wasm, receipt } = receive();
    assert.equal(receipt.recipient, "12D3KooWyou");
    wasm.storing.resolve();
    await receipt.accepted;
    const error = { code: "expired", ttl: 5 } as const;
    wasm.current = { state: "failed", error };
    wasm.end.reject(wasmError("delivery", "expired", false));
    await assert.rejects(receipt.delivered);
    assert.equal(wasm.freed, 1);
    await receipt.accepted;
  });

  it("was never accepted when it failed before it was stored, whenever one asks", async () => {
    const { wasm, receipt } = receive();
    wasm.current = { state: "failed", error: { code: "not_stored", reason: "no space" } };
    wasm.end.reject(wasmError("delivery", "not_stored", true));
    await assert.rejects(receipt.delivered);
    assert.equal(wasm.freed, 1);
    await assert.rejects(receipt.accepted, (rejection) => {
      assert.ok(rejection instanceof DeliveryError);
      return rejection.code === "not_stored";
    });
  });

  it("rejects with the reason", async () => {
    const { wasm, receipt } = receive();
    const error = { code: "expired", ttl: 5 } as const;
    wasm.current = { state: "failed", error };
    const { delivered } = receipt;
    wasm.end.reject(wasmError("delivery", "expired", false));
    await assert.rejects(delivered, (rejection) => {
      assert.ok(rejection instanceof DeliveryError);
      assert.equal(rejection.code, "expired");
      return true;
    });
    assert.deepEqual(receipt.state, { state: "failed", error });
    assert.equal(wasm.freed, 1);
  });

  it("that nobody looks at leaves no unhandled rejection", async () => {
    const unhandled: unknown[] = [];
    const note = (reason: unknown) => unhandled.push(reason);
    process.on("unhandledRejection", note);
    try {
      const { wasm, receipt } = receive();
      wasm.current = { state: "failed", error: { code: "expired", ttl: 5 } };
      assert.equal(receipt.state.state, "failed");
      await settled();
      assert.equal(wasm.asked, 0);
      assert.deepEqual(unhandled, []);
    } finally {
      process.off("unhandledRejection", note);
    }
  });
});
