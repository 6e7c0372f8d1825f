import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { CpcError } from "../src/index.js";
import { Stream } from "../src/stream.js";
import { asyncDispose } from "../src/waiting.js";
import { collectUntil, FakeStream, settled } from "./fake.js";

function subscribe(signal?: AbortSignal): { source: FakeStream<string>; stream: Stream<string> } {
  const source = new FakeStream<string>();
  return { source, stream: new Stream(source, {}, signal) };
}

const done = { done: true, value: undefined };

describe("a subscription", () => {
  it("gives the items in order and ends with its source", async () => {
    const { source, stream } = subscribe();
    source.push("a");
    source.push("b");
    const seen: string[] = [];
    const loop = (async () => {
      for await (const item of stream) {
        seen.push(item);
      }
    })();
    await settled();
    source.push("c");
    await settled();
    source.finish();
    await loop;
    assert.deepEqual(seen, ["a", "b", "c"]);
    assert.equal(source.freed, 1);
    assert.deepEqual(await stream.next(), done);
  });

  it("asks for one item at a time, also when several are awaited", async () => {
    const { source, stream } = subscribe();
    const awaited = Promise.all([stream.next(), stream.next(), stream.next()]);
    await settled();
    for (const item of ["a", "b", "c"]) {
      source.push(item);
      await settled();
    }
    assert.deepEqual(
      (await awaited).map(({ value }) => value),
      ["a", "b", "c"],
    );
  });

  it("ends when the loop is left", async () => {
    const { source, stream } = subscribe();
    source.push("a");
    source.push("b");
    for await (const item of stream) {
      assert.equal(item, "a");
      break;
    }
    assert.equal(source.freed, 1);
  });

  it("ends by return while an item is awaited", async () => {
    const { source, stream } = subscribe();
    const awaited = stream.next();
    await settled();
    assert.deepEqual(await stream.return(), done);
    assert.deepEqual(await awaited, done);
    await stream.return();
    assert.equal(source.freed, 1);
  });

  it("ends by disposal and by throw", async () => {
    const disposed = subscribe();
    await disposed.stream[asyncDispose]();
    assert.equal(disposed.source.freed, 1);
    const thrown = subscribe();
    await assert.rejects(thrown.stream.throw(new RangeError("mine")), RangeError);
    assert.equal(thrown.source.freed, 1);
  });

  it("ends without an error when its signal is aborted", async () => {
    const control = new AbortController();
    const { source, stream } = subscribe(control.signal);
    source.push("a");
    const seen: string[] = [];
    for await (const item of stream) {
      seen.push(item);
      queueMicrotask(() => control.abort());
    }
    assert.deepEqual(seen, ["a"]);
    assert.equal(source.freed, 1);
  });

  it("is over at once when its signal was aborted before", async () => {
    const { source, stream } = subscribe(AbortSignal.abort());
    assert.deepEqual(await stream.next(), done);
    assert.equal(source.freed, 1);
  });

  it("is not touched by a signal that is aborted after its end", async () => {
    const control = new AbortController();
    const { source, stream } = subscribe(control.signal);
    await stream.return();
    control.abort();
    assert.equal(source.closed, 1);
    assert.equal(source.freed, 1);
  });

  it("passes on an error of its source and is over", async () => {
    const { source, stream } = subscribe();
    const awaited = assert.rejects(stream.next(), CpcError);
    await settled();
    source.fail(new Error("unreachable"));
    await awaited;
    assert.deepEqual(await stream.next(), done);
    assert.equal(source.freed, 1);
  });

  it("is closed when nobody can read it any more, even if its signal lives on", async () => {
    const control = new AbortController();
    const source = (() => subscribe(control.signal).source)();
    await collectUntil(() => source.freed > 0);
    assert.equal(source.closed, 1);
    control.abort();
    assert.equal(source.closed, 1);
  });
});
