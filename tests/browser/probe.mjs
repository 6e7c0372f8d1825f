import { writeFileSync } from "node:fs";
import { spawn } from "node:child_process";
import { CpcNode } from "../support/cpc-node.mjs";
import { Scope } from "../support/story.mjs";
import { Demo, builtPage, newPerson, startBrowser } from "./demo.mjs";
for (let i = 0; i < 8; i++) {
const scope = new Scope();
const node = await CpcNode.start(scope, { words: ["--www", builtPage(), "--config", "/tmp/strangers/ping.toml"] });
const browser = await startBrowser(scope);
  const url = new URL(node.ready.http);
  url.searchParams.set("bootstrap", node.address("webrtc-direct"));
  url.searchParams.set("network", node.network);
  const demo = await Demo.open(scope, await newPerson(browser), url, "by WebRTC");
  const id = await demo.peerId();
  await demo.connectedTo(node.ready.peerId);
  await demo.phase("online");
  const t=Date.now();
  await demo.post("over UDP");
  const heard = await node.message(({ sender, payload }) => sender === id && payload.includes("over UDP"), "the post");
  console.log("post", heard.cameAt - t, "uncaught", demo.uncaught.length);
  const t0 = node.lines()[0].cameAt;
  
  await scope.end();
}
process.exit(0);
