/** STUN servers that an app names are asked; none is asked by default. */

import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { once } from "node:events";

import { CpcNode } from "../support/cpc-node.mjs";
import { story } from "../support/story.mjs";
import { within } from "../support/waiting.mjs";
import { Demo, builtPage, newPerson, startBrowser } from "./demo.mjs";

/** RFC 8489, section 5. */
const MAGIC_COOKIE = 0x2112a442;
const BINDING_REQUEST = 0x0001;
const BINDING_RESPONSE = 0x0101;
const XOR_MAPPED_ADDRESS = 0x0020;

/** A STUN server on loopback that counts who asks it. */
async function startStunServer(scope) {
  const socket = createSocket("udp4");
  scope.defer(() => socket.close());
  const server = { asked: 0, first: null, url: "" };
  server.first = new Promise((resolve) => {
    socket.on("message", (request, from) => {
      if (request.length < 20 || request.readUInt16BE(0) !== BINDING_REQUEST) {
        return;
      }
      server.asked += 1;
      resolve();
      const response = Buffer.alloc(32);
      response.writeUInt16BE(BINDING_RESPONSE, 0);
      response.writeUInt16BE(12, 2);
      request.copy(response, 4, 4, 20);
      response.writeUInt16BE(XOR_MAPPED_ADDRESS, 20);
      response.writeUInt16BE(8, 22);
      response.writeUInt16BE(1, 24);
      response.writeUInt16BE(from.port ^ (MAGIC_COOKIE >>> 16), 26);
      const address = from.address.split(".").reduce((number, byte) => number * 256 + Number(byte), 0);
      response.writeUInt32BE((address ^ MAGIC_COOKIE) >>> 0, 28);
      socket.send(response, from.port, from.address);
    });
  });
  socket.bind(0, "127.0.0.1");
  await once(socket, "listening");
  server.url = `stun:127.0.0.1:${socket.address().port}`;
  return server;
}

story("a STUN server is asked by the page that names it, and the two pages are connected directly", async (scope) => {
  const stun = await startStunServer(scope);
  const node = await CpcNode.start(scope, { words: ["--www", builtPage()] });
  const browser = await startBrowser(scope);
  const asking = await Demo.open(scope, await newPerson(browser), node.ready.http, "that names a server");
  const plain = await Demo.open(scope, await newPerson(browser), node.ready.http, "that names none");
  const [first, second] = [await asking.peerId(), await plain.peerId()];
  await asking.phase("online");
  await plain.sees("peer-item", { "peer-id": first, kind: "webrtc" }, "the two pages are connected directly");
  assert.equal(stun.asked, 0, "nobody has named the server so far");

  await asking.api(
    async (net, { network, bootstrap, url }) => {
      const transport = { iceServers: [{ urls: url }] };
      window.named = await net.constructor.create({ network, bootstrap, transport });
    },
    { network: node.network, bootstrap: node.ready.addresses.filter((one) => one.includes("/ws/")), url: stun.url },
  );
  await within(stun.first, "the STUN server is asked");
  const direct = asking.page.waitForFunction((peer) => window.named.peerInfo(peer)?.kind === "webrtc", second, {
    timeout: 0,
  });
  await within(direct, "the two are connected directly");
  await asking.page.evaluate(() => window.named.shutdown());
});
