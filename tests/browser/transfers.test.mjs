/** Payloads of tens of megabytes between pages and nodes: whole, bounded, given up by a signal, and past a cut. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";

import { CpcNode, runCpcNode, temporaryFolder } from "../support/cpc-node.mjs";
import { story } from "../support/story.mjs";
import { builtPage, startBrowser } from "./demo.mjs";
import { circuitTo, openPage, startRelay, twoDirectPages } from "./meeting.mjs";
import { setDeaf } from "./peer-connections.mjs";

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
        const read = () => (received[name].digest = blob().then(digest, (error) => error.code));
        received[name] = { kind, length, transfer, stream, read };
        if (name !== "slow") {
          void read();
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

const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");

story("a page sends a Blob to a node, which keeps it under a safe name", async (scope, context) => {
  const inbox = await temporaryFolder(scope);
  const node = await CpcNode.start(scope, { words: ["--www", builtPage(), "--inbox", inbox] });
  const page = await openPage(scope, await startBrowser(scope), node, "one");
  await page.known(node.ready.peerId, { state: "connected" }, "connected");
  await prepare(page);
  const sent = await send(page, node.ready.peerId, "../../a film.mp4", LENGTH);
  const line = await node.waitFor(({ event, state }) => event === "file" && state === "received", "the file is there");
  assert.deepEqual([line.hash, line.bytes, line.kind], [sent.hash, LENGTH, "application/x-made"]);
  assert.equal(line.file, join(inbox, line.peer, "a film.mp4"));
  assert.equal(line.peer, await page.peerId());
  assert.equal(sha256(await readFile(line.file)), sent.digest, "the same bytes");
  context.diagnostic(`${LENGTH} bytes in ${Math.round(sent.took)} ms`);
});

story("a node sends a file to a page behind a relay", async (scope, context) => {
  const relay = await startRelay(scope);
  const page = await openPage(scope, await startBrowser(scope), relay, "one");
  const id = await page.peerId();
  await page.known(relay.ready.peerId, { state: "connected" }, "connected");
  await prepare(page);
  const bytes = Buffer.alloc(LENGTH, "what a file has ");
  const file = join(await temporaryFolder(scope), "film.mp4");
  await writeFile(file, bytes);
  const began = Date.now();
  const to = circuitTo(relay, id);
  const words = ["send-file", "--json", "--network", relay.network, "--to", to, "--kind", "video/mp4", file];
  const { code, output, errors } = await runCpcNode(words, { patience: 60_000 });
  assert.equal(code, 0, errors);
  const steps = output.split("\n").map((line) => JSON.parse(line));
  assert.equal(steps[0].event, "offered");
  assert.deepEqual([steps.at(-1).event, steps.at(-1).bytes], ["sent", LENGTH]);
  const came = await page.api(
    async (net, name) => {
      const { kind, length, transfer, digest } = received[name];
      return { kind, length, hash: await transfer.finished, digest: await digest };
    },
    basename(file),
  );
  assert.deepEqual(came, { kind: "video/mp4", length: LENGTH, hash: steps.at(-1).hash, digest: sha256(bytes) });
  context.diagnostic(`${LENGTH} bytes in ${Date.now() - began} ms, with the start of the node`);
});

story("a transfer that began over a relay goes on directly when the pages can", async (scope) => {
  const relay = await startRelay(scope);
  const browser = await startBrowser(scope);
  const one = await openPage(scope, browser, relay, "one", { deaf: true });
  const two = await openPage(scope, browser, relay, "two", { deaf: true });
  const [idOne, idTwo] = [await one.peerId(), await two.peerId()];
  const relayed = { state: "connected", kind: "relayed" };
  await Promise.all([one.known(idTwo, relayed, "relayed"), two.known(idOne, relayed, "relayed")]);
  await Promise.all([prepare(one), prepare(two)]);
  // The receiver doesn't read yet, so that the transfer stands in the middle.
  await one.api(
    (net, { to, length }) => {
      globalThis.payload = new Blob([made(length)]);
      globalThis.states = [];
      const note = ({ state }) => states.at(-1) !== state && states.push(state);
      globalThis.sent = net.sendTransfer(to, payload, { name: "slow", onProgress: note });
    },
    { to: idTwo, length: LENGTH },
  );
  // The attempt at a direct connection has to fail first; then it begins over the relay.
  await one.api(async () => {
    while (sent.progress.transferred === 0) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  });
  await one.known(idTwo, relayed, "still relayed");
  await Promise.all([setDeaf(one, false), setDeaf(two, false)]);
  await Promise.all([one.directlyConnectedTo(idTwo, 60_000), two.directlyConnectedTo(idOne, 60_000)]);
  await two.api(() => void received.slow.read());
  const { hash, digest, states } = await one.api(async () => ({
    hash: await sent.finished,
    digest: await globalThis.digest(payload),
    states,
  }));
  const came = await two.api(async () => ({ hash: await received.slow.transfer.finished, digest: await received.slow.digest }));
  assert.deepEqual(came, { hash, digest });
  assert.ok(!states.includes("interrupted"), `it was never cut: ${states}`);
  const { transferBytesSent } = await one.api((net) => net.networkStats());
  assert.ok(transferBytesSent < LENGTH + 9 * 1024 * 1024, `${transferBytesSent} bytes were sent for ${LENGTH}`);
});
