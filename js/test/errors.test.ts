import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { toCpcError } from "../src/errors.js";
import {
  ArgumentError,
  CommandError,
  ConfigError,
  ConnectError,
  CpcError,
  DeliveryError,
  SendError,
  StartError,
} from "../src/index.js";
import { wasmError } from "./fake.js";

describe("errors of the wasm side", () => {
  const cases = [
    ["config", "config_out_of_range", false, ConfigError, "ConfigError"],
    ["start", "listen_failed", true, StartError, "StartError"],
    ["send", "queue_full", true, SendError, "SendError"],
    ["connect", "no_address", true, ConnectError, "ConnectError"],
    ["command", "too_many_groups", false, CommandError, "CommandError"],
    ["delivery", "expired", false, DeliveryError, "DeliveryError"],
    ["argument", "invalid_argument", false, ArgumentError, "ArgumentError"],
  ] as const;

  for (const [area, code, retryable, ErrorClass, name] of cases) {
    it(`of the area ${area} become a ${name}`, () => {
      const thrown = wasmError(area, code, retryable, "what happened; what to do");
      const error = toCpcError(thrown);
      assert.ok(error instanceof ErrorClass && error instanceof CpcError && error instanceof Error);
      assert.equal(error.name, name);
      assert.equal(error.message, "what happened; what to do");
      assert.equal(error.code, code);
      assert.equal(error.retryable, retryable);
      assert.equal(error.cause, thrown);
      assert.equal(String(error), `${name}: what happened; what to do`);
    });
  }

  it("of an area that this version does not know keep their code", () => {
    for (const area of ["astrology", "constructor", "__proto__"]) {
      const error = toCpcError(wasmError(area, "retrograde", true));
      assert.equal(error.constructor, CpcError);
      assert.equal(error.code, "retrograde");
      assert.equal(error.retryable, true);
    }
  });

  it("that are faults of the code itself say so", () => {
    for (const thrown of [new WebAssembly.RuntimeError("unreachable"), "a string", undefined, null, 7]) {
      const error = toCpcError(thrown);
      assert.equal(error.constructor, CpcError);
      assert.equal(error.code, "internal");
      assert.equal(error.retryable, false);
      assert.equal(error.cause, thrown);
      assert.match(error.message, /reload the page/);
    }
  });

  it("are translated once", () => {
    const error = toCpcError(wasmError("send", "too_large", false));
    assert.equal(toCpcError(error), error);
  });
});
