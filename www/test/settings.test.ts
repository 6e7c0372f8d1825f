import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { canBeDialled, findEntry, readSettings } from "../src/settings.js";

const node = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

describe("the page's address", () => {
  it("may say nothing", () => {
    assert.deepEqual(readSettings(""), { bootstrap: [], network: undefined, dataDir: "cpc-demo" });
  });

  it("may say everything", () => {
    assert.deepEqual(readSettings("?bootstrap=/a&bootstrap=%20/b&bootstrap=&network=chess&dataDir=two"), {
      bootstrap: ["/a", "/b"],
      network: "chess",
      dataDir: "two",
    });
    assert.equal(readSettings("?dataDir=memory").dataDir, undefined);
    assert.equal(readSettings(`?${"bootstrap=/a&".repeat(99)}`).bootstrap.length, 16);
  });
});

describe("the way into the network", () => {
  const silent = () => assert.fail("nobody needs to be asked");
  const answer = (body: unknown, status = 200) => async () => new Response(JSON.stringify(body), { status });

  it("is what the page's address says, without asking", async () => {
    const settings = readSettings(`?bootstrap=/dns4/a.example/tcp/1/ws/p2p/${node}`);
    assert.deepEqual((await findEntry(settings, silent)).nodes, [node]);
  });

  it("is what the node says, as far as a browser can use it", async () => {
    const usable = [`/ip4/127.0.0.1/tcp/1/ws/p2p/${node}`, `/ip4/127.0.0.1/udp/2/webrtc-direct/certhash/u/p2p/${node}`];
    const addresses = [...usable, `/ip4/127.0.0.1/tcp/3/p2p/${node}`, `/ip4/127.0.0.1/udp/4/quic-v1/p2p/${node}`];
    const entry = await findEntry(readSettings(""), answer({ peerId: node, network: "chess", addresses }));
    assert.deepEqual(entry, { addresses: usable, nodes: [node], network: "chess" });
    const chosen = await findEntry(readSettings("?network=go"), answer({ network: "chess", addresses }));
    assert.equal(chosen.network, "go");
  });

  it("is missed with a reason", async () => {
    const settings = readSettings("");
    await assert.rejects(findEntry(settings, answer({}, 404)), /answered 404/);
    await assert.rejects(findEntry(settings, async () => new Response("<!doctype html>")), /not JSON/);
    for (const body of [null, {}, { addresses: "x" }, { addresses: [7] }]) {
      await assert.rejects(findEntry(settings, answer(body)), /no list of addresses/);
    }
    await assert.rejects(findEntry(settings, answer({ addresses: ["/ip4/1.2.3.4/tcp/1"] })), /no address that a browser/);
  });

  it("is no address by way of a relay", () => {
    assert.ok(canBeDialled("/dns4/a.example/tcp/443/tls/ws"));
    assert.ok(canBeDialled("/dns4/a.example/tcp/443/wss/p2p/x"));
    assert.ok(!canBeDialled("/ip4/1.2.3.4/tcp/1/ws/p2p/x/p2p-circuit/p2p/y"));
    assert.ok(!canBeDialled("/dns4/ws.example/tcp/1"));
  });
});
