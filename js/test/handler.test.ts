import assert from "node:assert/strict";
import { beforeEach, describe, it } from "node:test";

import {
  ArgumentError,
  type NetworkOptions,
  CommandError,
  ConfigError,
  ConnectError,
  NetworkHandler,
  type ReceivedMessage,
  SendError,
} from "../src/index.js";
import { asyncDispose } from "../src/waiting.js";
import { collectUntil, type FakeHandler, type FakeModule, installFake, Later, settled, wasmError } from "./fake.js";

let module: FakeModule;
beforeEach(() => {
  module = installFake();
});

async function start(): Promise<{ net: NetworkHandler; wasm: FakeHandler }> {
  const net = await NetworkHandler.create();
  return { net, wasm: module.handlers.at(-1) as FakeHandler };
}

function message(text: string): ReceivedMessage {
  return {
    id: `12D3KooWother/${text}`,
    sender: "12D3KooWother",
    kind: "event",
    priority: "medium",
    delivery: "direct",
    createdAt: 1,
    expiresAt: null,
    authenticity: "signed",
    redelivered: false,
    payload: new TextEncoder().encode(text),
  };
}

describe("create", () => {
  it("passes on the configuration without what is undefined", async () => {
    const config: NetworkOptions = {
      network: undefined,
      dataDir: null,
      bootstrap: ["/memory/1"],
      limits: { maxPayload: 7, groups: undefined },
      delivery: { timeout: "30s", drainTimeout: 500 },
    };
    await NetworkHandler.create(config);
    assert.deepEqual(module.configs, [
      {
        dataDir: null,
        bootstrap: ["/memory/1"],
        limits: { maxPayload: 7 },
        delivery: { timeout: "30s", drainTimeout: 500 },
      },
    ]);
    assert.ok(!("network" in (module.configs[0] as object)));
    assert.ok("groups" in (config.limits ?? {}), "the caller's object is left alone");
  });

  it("passes an empty configuration when none is given", async () => {
    await NetworkHandler.create();
    assert.deepEqual(module.configs, [{}]);
  });

  it("rejects with the error of the wasm side", async () => {
    module.creating = Promise.reject(wasmError("config", "config_out_of_range", false, "limits.groups is 0"));
    await assert.rejects(NetworkHandler.create({ limits: { groups: 0 } }), ConfigError);
  });

  it("starts nothing when it is given up beforehand", async () => {
    await assert.rejects(NetworkHandler.create({}, { signal: AbortSignal.abort() }), { name: "AbortError" });
    assert.deepEqual(module.inits, []);
    assert.deepEqual(module.configs, []);
  });

  it("stops what comes to be after it was given up", async () => {
    const created = new Later<void>();
    module.creating = created.promise;
    const control = new AbortController();
    const creating = NetworkHandler.create({}, { signal: control.signal });
    await settled();
    assert.equal(module.configs.length, 1);
    control.abort(new RangeError("enough"));
    await assert.rejects(creating, RangeError);
    created.resolve();
    await settled();
    const wasm = module.handlers[0] as FakeHandler;
    assert.deepEqual(wasm.calls, [["shutdown"]]);
    assert.equal(wasm.freed, 1);
  });
});

describe("a handler", () => {
  it("passes on every call as it is", async () => {
    const { net, wasm } = await start();
    assert.equal(net.localPeerId(), "12D3KooWme");
    assert.deepEqual(net.listenAddrs(), ["/memory/1"]);
    await net.disconnect("p");
    net.joinGroup("g");
    net.leaveGroup("g");
    net.discoverPeers();
    net.discoverPeers({ peer: "p" });
    assert.equal(net.connectionState("p"), "connected");
    assert.deepEqual(net.peers(), []);
    assert.equal(net.peerInfo("p"), undefined);
    assert.equal(net.status().phase, "online");
    assert.equal(net.networkStats().outbox, 3);
    assert.deepEqual(wasm.calls, [
      ["localPeerId"],
      ["listenAddrs"],
      ["disconnect", "p"],
      ["joinGroup", "g"],
      ["leaveGroup", "g"],
      ["discoverPeers", "all"],
      ["discoverPeers", { peer: "p" }],
      ["connectionState", "p"],
      ["peers"],
      ["peerInfo", "p"],
      ["status"],
      ["networkStats"],
    ]);
  });

  it("sends bytes as they are and text as UTF-8", async () => {
    const { net, wasm } = await start();
    const bytes = new Uint8Array([0, 255]);
    const receipt = net.sendMessage("p", { kind: "data", payload: bytes, ttl: 5000 }, "high");
    assert.equal(receipt.id, "12D3KooWme/1");
    net.sendMessage("p", { payload: "ö" });
    assert.equal(net.broadcast({ payload: "ö" }), "12D3KooWme/2");
    net.broadcast({ kind: "hello", payload: bytes, propagation: "flood" }, "low", { group: "g" });
    const text = new Uint8Array([0xc3, 0xb6]);
    assert.deepEqual(wasm.calls, [
      ["sendMessage", "p", "data", bytes, 5000, "high"],
      ["sendMessage", "p", "event", text, undefined, "medium"],
      ["broadcast", "event", text, undefined, undefined, "medium", "all"],
      ["broadcast", "hello", bytes, undefined, "flood", "low", { group: "g" }],
    ]);
  });

  it("refuses a payload or a ttl that is none before anything is sent", async () => {
    const { net, wasm } = await start();
    for (const payload of [undefined, null, 7, {}, [1, 2], new Uint16Array(1), new ArrayBuffer(1)]) {
      assert.throws(() => net.broadcast({ payload: payload as Uint8Array }), ArgumentError);
    }
    for (const ttl of [0, -1, Number.NaN, Number.POSITIVE_INFINITY, "5s"]) {
      assert.throws(() => net.sendMessage("p", { payload: "x", ttl: ttl as number }), {
        name: "ArgumentError",
        code: "invalid_argument",
        retryable: false,
      });
    }
    assert.deepEqual(wasm.calls, []);
  });

  it("throws errors of the class that belongs to the call", async () => {
    const { net, wasm } = await start();
    wasm.error = wasmError("send", "queue_full", true);
    assert.throws(() => net.broadcast({ payload: "x" }), SendError);
    wasm.error = wasmError("command", "busy", true);
    assert.throws(() => net.joinGroup("g"), CommandError);
    wasm.error = wasmError("connect", "busy", true);
    await assert.rejects(net.connect("p"), ConnectError);
    wasm.error = wasmError("argument", "invalid_argument", false);
    assert.throws(() => net.connectionState("nonsense"), ArgumentError);
  });

  it("connects, or stops waiting for it", async () => {
    const { net, wasm } = await start();
    const control = new AbortController();
    const given = net.connect("/memory/2", { signal: control.signal });
    const patient = net.connect("/memory/2");
    control.abort();
    await assert.rejects(given, { name: "AbortError" });
    wasm.connecting.resolve("12D3KooWother");
    assert.equal(await patient, "12D3KooWother");
    await assert.rejects(net.connect("/memory/3", { signal: AbortSignal.abort() }), { name: "AbortError" });
    assert.equal(wasm.calls.length, 2);
  });

  it("subscribes with the call, not with the first read", async () => {
    const { net, wasm } = await start();
    const events = net.events();
    net.messages();
    assert.deepEqual(wasm.calls, [["events"], ["messages"]]);
    wasm.eventStreams[0]?.push({ type: "lagged", missed: 2 });
    assert.deepEqual(await events.next(), { done: false, value: { type: "lagged", missed: 2 } });
  });

  it("ends its subscriptions when it is shut down, and may be shut down again", async () => {
    const { net, wasm } = await start();
    const loop = (async () => {
      for await (const _ of net.messages()) {
        assert.fail("there is none");
      }
    })();
    await net.shutdown();
    await loop;
    await net.shutdown();
    await net[asyncDispose]();
    assert.equal(wasm.calls.filter(([name]) => name === "shutdown").length, 3);
    assert.equal(wasm.freed, 0, "snapshots can still be read");
  });
});

describe("a message handler", () => {
  it("is called for one message after the other until it is taken back", async () => {
    const { net, wasm } = await start();
    const seen: string[] = [];
    const first = new Later<void>();
    const unregister = net.registerMessageHandler(async ({ id }) => {
      seen.push(id);
      await first.promise;
    });
    const stream = wasm.messageStreams[0];
    stream?.push(message("1"));
    stream?.push(message("2"));
    await settled();
    assert.deepEqual(seen, ["12D3KooWother/1"]);
    assert.equal(stream?.confirmed, 0, "it is still at it");
    first.resolve();
    await settled();
    assert.equal(stream?.confirmed, 2);
    assert.deepEqual(seen, ["12D3KooWother/1", "12D3KooWother/2"]);
    unregister();
    unregister();
    await settled();
    stream?.push(message("3"));
    await settled();
    assert.equal(seen.length, 2);
    assert.equal(stream?.freed, 1);
  });

  it("that throws is reported, and called again", async () => {
    const reported: unknown[] = [];
    const scope = globalThis as { reportError?: (error: unknown) => void };
    const before = scope.reportError;
    scope.reportError = (error) => reported.push(error);
    try {
      const { net, wasm } = await start();
      const seen: string[] = [];
      net.registerMessageHandler(({ id }) => {
        seen.push(id);
        throw new RangeError(id);
      });
      wasm.messageStreams[0]?.push(message("1"));
      wasm.messageStreams[0]?.push(message("2"));
      await settled();
      assert.equal(seen.length, 2);
      assert.equal(reported.length, 2);
      assert.ok(reported[0] instanceof RangeError);
      await net.shutdown();
    } finally {
      if (before === undefined) {
        delete scope.reportError;
      } else {
        scope.reportError = before;
      }
    }
  });
});

describe("a handler that nobody holds", () => {
  it("is stopped and freed", async () => {
    const wasm = await (async () => (await start()).wasm)();
    await collectUntil(() => wasm.freed > 0);
    assert.deepEqual(wasm.calls, [["shutdown"]]);
  });

  it("runs on while a receipt or a message handler of it is waited for", async () => {
    // The control: what is forgotten beside it shows that collecting works at that moment.
    const kept = await (async () => {
      const { net, wasm } = await start();
      net.registerMessageHandler(() => {});
      return wasm;
    })();
    const awaited = await (async () => {
      const { net, wasm } = await start();
      void net.sendMessage("p", { payload: "x" }).delivered;
      return wasm;
    })();
    const forgotten = await (async () => (await start()).wasm)();
    await collectUntil(() => forgotten.freed > 0);
    assert.equal(kept.freed, 0);
    assert.equal(awaited.freed, 0);
    (awaited.receiptsSent[0] as { end: Later<void> }).end.resolve();
    await collectUntil(() => awaited.freed > 0);
    await kept.shutdown();
  });
});
