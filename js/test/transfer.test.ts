import assert from "node:assert/strict";
import { test } from "node:test";

import { ArgumentError, NetworkHandler, TransferError } from "../src/index.js";
import { type FakeHandler, FakeIncomingTransfer, installFake, settled, wasmError } from "./fake.js";

async function started(): Promise<{ net: NetworkHandler; wasm: FakeHandler }> {
  const module = installFake();
  const net = await NetworkHandler.create();
  return { net, wasm: module.handlers[0] as FakeHandler };
}

type Sent = [string, string, string, string, Uint8Array, number | undefined, unknown, unknown, unknown, unknown];

test("each kind of payload goes over in the way in which it can be read", async () => {
  const { net, wasm } = await started();
  net.sendTransfer("peer", "text", { name: "n", kind: "k", meta: "m" });
  let [, peer, name, kind, meta, length, , bytes, read, pull] = wasm.calls.at(-1) as Sent;
  assert.deepEqual([peer, name, kind, length, read, pull], ["peer", "n", "k", undefined, undefined, undefined]);
  assert.deepEqual([meta, bytes], [new TextEncoder().encode("m"), new TextEncoder().encode("text")]);

  net.sendTransfer("peer", new File(["0123456789"], "digits.txt", { type: "text/plain" }));
  [, , name, kind, , length, , bytes, read, pull] = wasm.calls.at(-1) as Sent;
  assert.deepEqual([name, kind, length, bytes, pull], ["digits.txt", "text/plain", 10, undefined, undefined]);
  const part = await (read as (offset: number, length: number) => Promise<Uint8Array>)(8, 5);
  assert.equal(new TextDecoder().decode(part), "89", "what is there of what was asked for");

  net.sendTransfer("peer", new Response("streamed").body as ReadableStream<Uint8Array>);
  [, , , , , length, , bytes, read, pull] = wasm.calls.at(-1) as Sent;
  assert.deepEqual([length, bytes, read], [undefined, undefined, undefined]);
  const next = pull as () => Promise<Uint8Array | undefined>;
  assert.equal(new TextDecoder().decode(await next()), "streamed");
  assert.equal(await next(), undefined, "its end");

  assert.throws(() => net.sendTransfer("peer", 7 as unknown as string), ArgumentError);
});

test("a signal cancels, progress is told, and the end is one promise", async () => {
  const { net, wasm } = await started();
  const control = new AbortController();
  const told: number[] = [];
  const transfer = net.sendTransfer("peer", "x", {
    signal: control.signal,
    onProgress: ({ transferred }) => told.push(transferred),
  });
  const fake = wasm.transfersSent[0];
  assert.ok(fake);
  control.abort();
  assert.equal(fake.cancelled, 1);
  fake.current = { transferred: 1, length: 1, state: "failed", error: { code: "cancelled" } };
  fake.end.reject(wasmError("transfer", "cancelled", false));
  await assert.rejects(transfer.finished, (error) => error instanceof TransferError && error.code === "cancelled");
  assert.equal(transfer.finished, transfer.finished);
  await settled();
  assert.deepEqual(told, [1], "the last state is told");
  assert.throws(() => net.sendTransfer("peer", "x", { signal: AbortSignal.abort() }), { name: "AbortError" });
});

test("an accepted payload is a stream that holds its sender back", async () => {
  const { net, wasm } = await started();
  const offers = net.transfers();
  const fake = new FakeIncomingTransfer();
  wasm.offerStreams[0]?.push(fake);
  const { value: offer } = await offers.next();
  assert.ok(offer);
  assert.deepEqual([offer.peer, offer.offer.name], ["12D3KooWyou", "a.txt"]);
  const { stream } = await offer.accept({ atMost: 5_000_000 });
  assert.equal(fake.atMost, 5_000_000);
  const large = new Uint8Array(2 * 1024 * 1024);
  let room = false;
  const waiting = fake.write(large)?.then(() => (room = true));
  assert.ok(waiting, "more than waits was written");
  await settled();
  assert.equal(room, false);
  const reader = stream.getReader();
  assert.equal((await reader.read()).value?.length, large.length);
  await waiting;
  assert.equal(fake.write(new Uint8Array(1)), undefined, "a little need not be waited for");
  fake.close();
  assert.equal((await reader.read()).value?.length, 1);
  assert.equal((await reader.read()).done, true);
});

test("a payload that fails fails its stream, and a stream that is cancelled cancels", async () => {
  const { net, wasm } = await started();
  const offers = net.transfers();
  const accepted = async () => {
    const fake = new FakeIncomingTransfer();
    wasm.offerStreams[0]?.push(fake);
    const { value: offer } = await offers.next();
    assert.ok(offer);
    return { fake, offer, taken: await offer.accept() };
  };
  const broken = await accepted();
  broken.fake.transfer.end.reject(wasmError("transfer", "unreachable", true));
  await assert.rejects(broken.taken.blob(), (error) => error instanceof TransferError && error.retryable);
  const left = await accepted();
  await left.taken.stream.cancel();
  assert.equal(left.fake.transfer.cancelled, 1);
  const whole = await accepted();
  whole.fake.write(new TextEncoder().encode("hello"));
  whole.fake.close();
  const blob = await whole.taken.blob();
  assert.deepEqual([await blob.text(), blob.type], ["hello", "text/plain"]);
});
