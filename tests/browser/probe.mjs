import { CpcNode } from "../support/cpc-node.mjs";
import { Scope } from "../support/story.mjs";
import { Demo, builtPage, newPerson, startBrowser } from "./demo.mjs";
for (let i = 0; i < 8; i++) {
const scope = new Scope();
const node = await CpcNode.start(scope, { words: ["--www", builtPage(), "--log", "debug"] });
const browser = await startBrowser(scope);
  const url = new URL(node.ready.http);
  url.searchParams.set("bootstrap", node.address("webrtc-direct"));
  url.searchParams.set("network", node.network);
  const person = await newPerson(browser);
  await person.addInitScript(() => {
    window.log = []; let n = 0;
    const note = (c, what, data) => { let t=""; if (data) { const b = new Uint8Array(data.buffer ? data.buffer.slice(data.byteOffset, data.byteOffset+data.byteLength) : data); t = b.length+" "+[...b.slice(0,60)].map(x=>x>31&&x<127?String.fromCharCode(x):".").join(""); } window.log.push([Date.now(), c.__n, c.__dir, what, t].join(" ")); };
    const watch = (c, dir) => { c.__n = ++n; c.__dir = dir; note(c, "new");
      for (const e of ["open","close","error","bufferedamountlow","closing"]) c.addEventListener(e, () => note(c, e));
      c.addEventListener("message", (e) => note(c, "got", e.data)); 
      const send = c.send; c.send = function (d) { note(c, "send", d); return send.call(c, d); };
      const close = c.close; c.close = function () { note(c, "close()"); return close.call(c); }; };
    const P = RTCPeerConnection.prototype, create = P.createDataChannel;
    P.createDataChannel = function (...a) { const c = create.apply(this, a); watch(c, "out"); return c; };
    const O = window.RTCPeerConnection;
    window.RTCPeerConnection = function (...a) { const p = new O(...a); p.addEventListener("datachannel", (e) => watch(e.channel, "in")); return p; };
    window.RTCPeerConnection.prototype = P; window.RTCPeerConnection.generateCertificate = O.generateCertificate.bind(O);
  });
  const demo = await Demo.open(scope, person, url, "by WebRTC");
  const id = await demo.peerId();
  await demo.connectedTo(node.ready.peerId);
  await demo.phase("online");
  const t=Date.now();
  await demo.post("over UDP");
  const heard = await node.message(({ sender, payload }) => sender === id && payload.includes("over UDP"), "the post");
  console.log("post", heard.cameAt - t, "uncaught", demo.uncaught.length);
  if (heard.cameAt - t > 1000 || process.argv[2]) { 
    for (const l of await demo.page.evaluate(() => window.log)) { const [at, ...r] = l.split(" "); console.log(at - t, r.join(" ")); } 
    break;
  }
  await scope.end();
}
process.exit(0);
