import assert from "node:assert/strict";
import { beforeEach, describe, it } from "node:test";

import { ArgumentError, init, NetworkHandler, StartError, version } from "../src/index.js";
import { replaceGlue } from "../src/runtime.js";
import { type FakeModule, installFake, Later } from "./fake.js";

describe("init", () => {
  let module: FakeModule;
  beforeEach(() => {
    module = installFake();
  });

  it("compiles once, however often it is called", async () => {
    const compiled = new Later<void>();
    module.compiling = compiled.promise;
    const calls = [init(), init("https://other.example/cpc_net_bg.wasm"), NetworkHandler.create()];
    compiled.resolve();
    await Promise.all(calls);
    await init();
    assert.deepEqual(module.inits, [undefined]);
    assert.equal(module.handlers.length, 1);
  });

  it("takes the module from where it is told", async () => {
    const bytes = new Uint8Array([0, 0x61, 0x73, 0x6d]);
    await init(bytes);
    assert.deepEqual(module.inits, [{ module_or_path: bytes }]);
  });

  it("tells why the module can't be had, and tries again when asked again", async () => {
    const cause = new TypeError("404");
    module.compiling = Promise.reject(cause);
    await assert.rejects(init(), (error) => {
      assert.ok(error instanceof StartError);
      assert.equal(error.code, "wasm_unavailable");
      assert.equal(error.retryable, true);
      assert.equal(error.cause, cause);
      assert.match(error.message, /404.*cpc_net_bg\.wasm/);
      return true;
    });
    module.compiling = Promise.resolve();
    await init();
    assert.equal(module.inits.length, 2);
  });

  it("tells when the glue code can't be had", async () => {
    replaceGlue(() => Promise.reject(new Error("no such module")));
    await assert.rejects(NetworkHandler.create(), { name: "StartError", code: "wasm_unavailable" });
  });

  it("is needed before the version is known", async () => {
    assert.throws(version, ArgumentError);
    await init();
    assert.equal(version(), "0.0.0-fake");
  });
});
