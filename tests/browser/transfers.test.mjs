/** Payloads of tens of megabytes between pages: whole, bounded, given up by a signal, and past a cut. */

import assert from "node:assert/strict";

import { story } from "../support/story.mjs";
import { twoDirectPages } from "./meeting.mjs";

/** Made in the page and hashed there, so that nothing of it passes through the test. In bytes. */
const LENGTH = 24 * 1024 * 1024 + 5;

/** Makes a payload in the page, and takes everything that is offered, keeping what becomes of it. */
async function prepare(page) {
  await page.api((net) => {
    globalThis.made = (length) => {
      const bytes = new Uint8Array(length);
      for (let at = 0; at < length; at += 4) {
        bytes.set([at, at >> 8, at >> 16, at >> 7].map((byte) => byte & 255).slice(0, length - at), at);
      }
      return bytes;
    };
    globalThis.digest = async (blob) => {
      const hash = await crypto.subtle.digest("SHA-256", await blob.arrayBuffer());
      return [...new Uint8Array(hash)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    };
    globalThis.received = {};
    void (async () => {
      for await (const offer of net.transfers()) {
        const { name, kind, length } = offer.offer;
        const { transfer, stream, blob } = await offer.accept();
        received[name] = { kind, length, transfer, stream };
        if (name !== "slow") {
          received[name].digest = blob().then(digest, (error) => error.code);
        }
      }
    })();
  });
}

async function send(page, to, name, length) {
  return await page.api(
    async (net, { to, name, length }) => {
      const blob = new Blob([made(length)], { type: "application/x-made" });
      const began = performance.now();
      const progress = [];
      const transfer = net.sendTransfer(to, blob, { name, onProgress: ({ transferred }) => progress.push(transferred) });
      const hash = await transfer.finished;
      return { hash, id: transfer.id, took: performance.now() - began, digest: await digest(blob), progress };
    },
    { to, name, length },
  );
}

story("a Blob of tens of megabytes passes between two pages, both ways", async (scope, context) => {
  const { one, two, idOne, idTwo } = await twoDirectPages(scope);
  await Promise.all([prepare(one), prepare(two)]);
  for (const [from, to, id] of [
    [one, two, idTwo],
    [two, one, idOne],
  ]) {
    const sent = await send(from, id, "film", LENGTH);
    const came = await to.api(async () => {
      const { kind, length, transfer, digest } = received.film;
      return { kind, length, hash: await transfer.finished, id: transfer.id, digest: await digest };
    });
    assert.equal(came.digest, sent.digest, "the same bytes");
    assert.deepEqual([came.hash, came.id], [sent.hash, sent.id]);
    assert.deepEqual([came.kind, came.length], ["application/x-made", LENGTH]);
    assert.equal(sent.progress.at(-1), LENGTH, "the last progress is all of it");
    context.diagnostic(`${LENGTH} bytes in ${Math.round(sent.took)} ms`);
  }
});

story("a page that doesn't read holds its sender back; a signal ends it on both sides", async (scope) => {
  const { one, two, idTwo } = await twoDirectPages(scope);
  await Promise.all([prepare(one), prepare(two)]);
  await one.api(
    (net, { to, length }) => {
      globalThis.control = new AbortController();
      const payload = new Blob([made(length)]);
      globalThis.slow = net.sendTransfer(to, payload, { name: "slow", signal: control.signal });
    },
    { to: idTwo, length: LENGTH },
  );
  // What follows on the same connection comes through, though nobody reads the first.
  await send(one, idTwo, "quick", 1024 * 1024);
  const held = await one.api(() => slow.progress);
  assert.equal(held.state, "running");
  assert.ok(held.transferred < LENGTH / 2, `${held.transferred} bytes went though nobody reads`);
  const mine = await one.api(async () => {
    control.abort();
    return await slow.finished.catch((error) => error.code);
  });
  assert.equal(mine, "cancelled");
  const theirs = await two.api(() => received.slow.transfer.finished.catch((error) => error.code));
  assert.equal(theirs, "cancelled_by_peer");
});

story("a transfer between pages survives that they lose each other", async (scope) => {
  const { one, two, idTwo } = await twoDirectPages(scope);
  await Promise.all([prepare(one), prepare(two)]);
  const { hash, digest } = await one.api(
    async (net, { to, length }) => {
      const blob = new Blob([made(length)]);
      const transfer = net.sendTransfer(to, blob, { name: "cut" });
      while (transfer.progress.transferred < length / 4) {
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      await net.disconnect(to);
      await net.connect(to);
      return { hash: await transfer.finished, digest: await digest(blob) };
    },
    { to: idTwo, length: LENGTH },
  );
  const came = await two.api(async () => ({ hash: await received.cut.transfer.finished, digest: await received.cut.digest }));
  assert.deepEqual(came, { hash, digest });
  const { transferBytesSent } = await one.api((net) => net.networkStats());
  assert.ok(transferBytesSent < LENGTH + 9 * 1024 * 1024, `${transferBytesSent} bytes were sent for ${LENGTH}`);
});
