/** What people and programs get wrong: clear words, errors with a code, and a page that lives on. */

import assert from "node:assert/strict";

import { CpcNode } from "../support/cpc-node.mjs";
import { story } from "../support/story.mjs";
import { Demo, builtPage, newPerson, startBrowser } from "./demo.mjs";

/** Well formed, and nobody's: the identity key of it is known to no one. */
const NOBODY = "12D3KooWGzBzXbKGRwQ1pFsqsBoQMjr8kQ7tMPjfSz5ayVwrEdGZ";

/** The first attempt may take the whole `connections.dialTimeout` of 10 s. */
const FIRST_FAILURE = 40_000;

async function openWith(scope, parameters, name) {
  const node = await CpcNode.start(scope, { words: ["--www", builtPage()] });
  const url = new URL(node.ready.http);
  for (const [parameter, value] of Object.entries(parameters(node))) {
    url.searchParams.append(parameter, value);
  }
  const demo = await Demo.open(scope, await newPerson(await startBrowser(scope)), url, name);
  return { node, demo };
}

story("a bootstrap node that can't be reached: clear words, and the page lives on", async (scope) => {
  const { node, demo } = await openWith(
    scope,
    ({ network }) => ({ bootstrap: `/ip4/127.0.0.1/tcp/9/ws/p2p/${NOBODY}`, network }),
    "without a node",
  );
  await demo.peerId();
  const banner = await demo.sees("error-banner", {}, "the page says that it reaches nobody", FIRST_FAILURE);
  assert.match(await banner.textContent(), /can't be reached/);
  assert.match(await banner.textContent(), /tcp\/9/, "the address is named");
  assert.match(await demo.part("connection-sign").getAttribute("data-phase"), /^(alone|connecting)$/);

  // It takes what is written, and says that nobody has heard it.
  await demo.post("is anybody there?");
  const post = await demo.sees("post", {}, "one's own post");
  assert.match(await post.textContent(), /nobody has received this/);

  // And once somebody tells it an address that works, it takes part.
  await demo.api((net, address) => net.connect(address), node.address("ws"));
  await demo.phase("online");
  await banner.waitFor({ state: "hidden" });
  await demo.post("at last");
  await node.message(({ payload }) => payload.includes("at last"), "the post");
  assert.deepEqual(demo.uncaught, []);
});

story("a bootstrap address that is none: clear words instead of a start", async (scope) => {
  const { demo } = await openWith(scope, () => ({ bootstrap: "somewhere over the rainbow" }), "with nonsense");
  await demo.phase("failed");
  const banner = await demo.sees("error-banner", {}, "the page says what is wrong");
  assert.match(await banner.textContent(), /bootstrap/);
  assert.deepEqual(demo.uncaught, []);
});

/** Each call, and what it has to be refused with. They run in the page. */
const NONSENSE = [
  { call: (net) => net.connect("nonsense"), name: "ArgumentError", code: "invalid_argument" },
  { call: (net) => net.connect("/ip4/127.0.0.1/udp/1"), name: "ConnectError", code: "connect_failed" },
  { call: (net) => net.connect(net.localPeerId()), name: "ConnectError", code: "to_self" },
  { call: (net) => net.disconnect("nonsense"), name: "ArgumentError", code: "invalid_argument" },
  { call: (net) => net.connectionState(""), name: "ArgumentError", code: "invalid_argument" },
  { call: (net) => net.peerInfo("12D3KooW"), name: "ArgumentError", code: "invalid_argument" },
  { call: (net) => net.sendMessage("bob", { payload: "x" }), name: "ArgumentError", code: "invalid_argument" },
  { call: (net) => net.sendMessage(net.localPeerId(), { payload: "x" }), name: "SendError", code: "to_self" },
  { call: (net, peer) => net.sendMessage(peer, { payload: 7 }), name: "ArgumentError", code: "invalid_argument" },
  {
    call: (net, peer) => net.sendMessage(peer, { payload: "x", kind: "gossip" }),
    name: "ArgumentError",
    code: "invalid_argument",
  },
  {
    call: (net, peer) => net.sendMessage(peer, { payload: "x", ttl: -1 }),
    name: "ArgumentError",
    code: "invalid_argument",
  },
  {
    call: (net, peer) => net.sendMessage(peer, { payload: "x" }, "urgent"),
    name: "ArgumentError",
    code: "invalid_argument",
  },
  {
    call: (net, peer) => net.sendMessage(peer, { payload: new Uint8Array(65_537) }),
    name: "SendError",
    code: "too_large",
  },
  { call: (net) => net.broadcast({ payload: "ä".repeat(32_769) }), name: "SendError", code: "too_large" },
  { call: (net) => net.broadcast({ payload: "x", kind: "gossip" }), name: "ArgumentError", code: "invalid_argument" },
  { call: (net) => net.broadcast({ payload: "x" }, "high", "world"), name: "ArgumentError", code: "invalid_argument" },
  {
    call: (net) => net.broadcast({ payload: "x" }, "high", { group: "a b" }),
    name: "ArgumentError",
    code: "invalid_argument",
  },
  {
    call: (net) => net.broadcast({ payload: "x" }, "high", { group: "others" }),
    name: "SendError",
    code: "not_a_member",
  },
  { call: (net) => net.broadcast({ payload: "x", kind: { unknown: 7 } }), name: "SendError", code: "reserved_kind" },
  { call: (net) => net.joinGroup("two words"), name: "ArgumentError", code: "invalid_argument" },
  { call: (net) => net.discoverPeers("everywhere"), name: "ArgumentError", code: "invalid_argument" },
  {
    call: (net) => net.constructor.create({ colour: "red" }),
    name: "ConfigError",
    code: "config_field",
    says: /colour/,
  },
  {
    call: (net) => net.constructor.create({ limits: { maxPayload: 0 } }),
    name: "ConfigError",
    code: "config_out_of_range",
    says: /max_?payload.*1 to 4194304/i,
  },
  {
    call: (net) => net.constructor.create({ transport: { iceServers: [{ urls: "turn:turn.example" }] } }),
    name: "ConfigError",
    code: "config_out_of_range",
    says: /turn:turn\.example.*user name and a credential/,
  },
  {
    call: (net) => net.constructor.create({ bootstrap: ["nowhere"] }),
    name: "ConfigError",
    code: "config_field",
    says: /bootstrap/,
  },
];

story("calls with nonsense are refused by errors with a code, and change nothing", async (scope) => {
  const { node, demo } = await openWith(scope, () => ({}), "of a bad programmer");
  await demo.peerId();
  await demo.phase("online");

  for (const { call, name, code, says = /./ } of NONSENSE) {
    const outcome = await demo.page.evaluate(
      `(async () => {
        try {
          return { result: String(await (${call})(cpc.net, ${JSON.stringify(node.ready.peerId)})) };
        } catch (error) {
          const { name, code, retryable, message } = error;
          const parent = Object.getPrototypeOf(Object.getPrototypeOf(error)).constructor;
          const isError = error instanceof Error;
          const isOfFamily = "retryable" in error && parent.prototype instanceof Error;
          return { isError, isOfFamily, name, code, retryable, message };
        }
      })()`,
    );
    const { isError, isOfFamily, retryable, message } = outcome;
    assert.deepEqual(
      { name: outcome.name, code: outcome.code },
      { name, code },
      `${call} gave ${JSON.stringify(outcome)}`,
    );
    assert.ok(isError && isOfFamily && typeof retryable === "boolean", `${call} gave ${JSON.stringify(outcome)}`);
    assert.match(message, says, `${call} said: ${message}`);
  }

  await demo.api((net, peer) => net.sendMessage(peer, { payload: "still here" }, "high").delivered, node.ready.peerId);
  await node.message(({ payload }) => payload === "still here", "a message after all that");
  assert.deepEqual(demo.uncaught, []);
  assert.deepEqual(
    node.lines().filter(({ network }) => network?.type === "messageRejected"),
    [],
  );
});
