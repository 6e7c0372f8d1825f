/** Our transports in a page, as `window.side`: started, dialled and put to work from outside. */

import init, { ProbeNode, probeLive } from "/wasm/cpc_net.js";

const wasm = await init();
const node = new ProbeNode();
const links = new Map();

window.side = {
  peerId: node.peerId(),
  /** Takes a place at a relay; gives the addresses to be reached by. */
  listen: async (relay) => {
    await node.listen(relay);
    return (await node.look()).addresses;
  },
  /** Connects; gives a number for the connection, and how long it took. */
  dial: async (address) => {
    const link = await node.dial(address);
    links.set(links.size, link);
    return { link: links.size - 1, connecting: link.connecting };
  },
  /** Puts a connection to work. */
  work: async (link, what, ...words) => {
    const result = await links.get(link)[what](...words);
    return result instanceof Float64Array ? [...result] : result;
  },
  look: () => node.look(),
  live: () => probeLive(),
  /** What WebAssembly has taken. It never gives anything back, so this is the most that was ever in use. */
  memory: () => wasm.memory.buffer.byteLength,
};
