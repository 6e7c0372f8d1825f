import { generateKeyPair } from "@libp2p/crypto/keys";
import protobuf from "protobufjs";
import { CpcNode } from "../support/cpc-node.mjs";
import { Scope } from "../support/story.mjs";
import { concatenated, framed, varint, writeFiveFields, readMoreFields, readErrorReport } from "./frames.mjs";
import { connect, openLane, pingOf, startStrangerWithLane } from "./stranger.mjs";
const scope = new Scope();
const text = (w) => new TextEncoder().encode(w);
const node = await CpcNode.start(scope);
const { libp2p, frames } = await startStrangerWithLane(scope);
const a = node.address("tcp");
await connect(libp2p, a);
const lane = await openLane(libp2p, a);
// unknown field
lane.send(framed(concatenated(writeFiveFields({nonce:1,payload:text("u")}), Uint8Array.of(0xa0,0x01,0x01))));
lane.send(framed(concatenated(writeFiveFields({nonce:2,payload:text("kind99")}), Uint8Array.of(0x60,99))));
// ack all
const R = protobuf.parse(`syntax="proto3"; package z; message R{uint64 first=1;uint64 last=2;} message M{uint32 message_type=3;uint32 kind=12; repeated R acknowledged=13;}`,{keepCase:true}).root;
const M=R.lookup("z.M");
lane.send(framed(M.encode(M.create({message_type:2,kind:8,acknowledged:[{first:0,last:"18446744073709551615"},{first:9,last:3}]})).finish()));
lane.send(framed(M.encode(M.create({message_type:1,kind:6})).finish()));
lane.send(framed(writeFiveFields({nonce:3,payload:text("end")})));
await node.message(({payload})=>payload==="end","end");
await pingOf(libp2p,a);
// many lanes
const lanes=[]; 
for(let i=0;i<12;i++){ try{ const l=await libp2p.dialProtocol((await import("@multiformats/multiaddr")).multiaddr(a),"/cpc/1.0.0"); lanes.push(l); l.send(framed(writeFiveFields({nonce:200+i,payload:text("lane"+i)}))) }catch(e){console.log("lane",i,e.message)} }
await new Promise(r=>setTimeout(r,700));
console.log(lanes.map(l=>l.status).join(" "));
lane.send(framed(M.encode(M.create({message_type:2,kind:9})).finish()));
await new Promise(r=>setTimeout(r,1500));
for (const f of frames.since()) { const m=readMoreFields(f); console.log("frame", m.kind, m.kind===7?readErrorReport(m.payload):""); }
for (const l of node.lines().slice(4)) console.log(JSON.stringify(l.network??l.message??l));
await scope.end();
process.exit(0)
