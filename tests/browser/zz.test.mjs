import { story } from "../support/story.mjs";
import { circuitTo, twoDirectPages } from "./meeting.mjs";
import { setTimeout as pause } from "node:timers/promises";
story("x", async (scope) => {
  const { relay, one, two, idOne, idTwo } = await twoDirectPages(scope);
  console.log("direct");
  for (let i = 0; i < 6; i++) {
    await one.api((net, peer) => net.disconnect(peer), idTwo);
    await Promise.all([one.known(idTwo, { kind: null }, "is disconnected"), two.known(idOne, { kind: null }, "is disconnected")]);
    const began = Date.now();
    const dial = (page, peer) => page.api((net, address) => net.connect(address), circuitTo(relay, peer, "webrtc")).then((x) => `ok ${Date.now() - began}`, (e) => e.message.slice(0, 800));
    console.log(await Promise.all([dial(one, idTwo), dial(two, idOne)]));
    for (let j = 0; j < 24; j++) {
      const infos = await Promise.all([one.api((net, p) => { const { kind, connections } = net.peerInfo(p) ?? {}; const { dialsFailed, connectionsOpened: o, connectionsClosed: c } = net.networkStats(); return [kind, connections, dialsFailed, o, c]; }, idTwo), two.api((net, p) => { const { kind, connections } = net.peerInfo(p) ?? {}; const { dialsFailed, connectionsOpened: o, connectionsClosed: c } = net.networkStats(); return [kind, connections, dialsFailed, o, c]; }, idOne)]);
      console.log(Date.now() - began, JSON.stringify(infos));
      if (infos.every(([k, n]) => k === "webrtc" && n === 1)) break;
      await pause(500);
    }
  }
});
