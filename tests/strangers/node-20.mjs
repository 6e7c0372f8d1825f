// js-libp2p takes for granted what came with Node 22.
import { WebSocket } from "ws";

globalThis.WebSocket ??= WebSocket;

Promise.withResolvers ??= function withResolvers() {
  const parts = {};
  parts.promise = new this((resolve, reject) => Object.assign(parts, { resolve, reject }));
  return parts;
};
