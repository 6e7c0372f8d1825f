/** The peer connections that a page makes: counted, interfered with, and looked into. */

import { within } from "../support/waiting.mjs";

/**
 * Has every page of a context keep count of its `RTCPeerConnection`s, closed ones too, and be `deaf` if that is wished
 * (see `setDeaf`). Before any page is opened.
 */
export async function watchPeerConnections(context, deaf = false) {
  await context.addInitScript(install, deaf);
}

/** What is run in each page before its own scripts. */
export function install(deaf) {
  const Original = window.RTCPeerConnection;
  const watch = { made: [], deaf, waiting: [] };
  const changed = () => watch.waiting.splice(0).forEach((resolve) => resolve());
  /** Tells the test of a step, which may do something before it is taken. */
  const step = async (name) => await window.beforeStep?.(name);

  // The module's memory is known from its making on; it never shrinks.
  const { instantiateStreaming } = WebAssembly;
  WebAssembly.instantiateStreaming = async (...words) => {
    const made = await instantiateStreaming.apply(WebAssembly, words);
    watch.memory = made.instance.exports.memory;
    return made;
  };

  window.peerConnections = watch;
  window.RTCPeerConnection = class extends Original {
    constructor(...words) {
      super(...words);
      watch.made.push(this);
      changed();
    }

    set onicecandidate(handler) {
      super.onicecandidate = handler && ((event) => (event.candidate && watch.deaf ? undefined : handler(event)));
    }

    async addIceCandidate(candidate) {
      await step("candidate");
      return watch.deaf ? undefined : await super.addIceCandidate(candidate);
    }

    async setLocalDescription(description) {
      await step(description.type);
      return await super.setLocalDescription(description);
    }

    close() {
      super.close();
      changed();
    }
  };
}

/** Waits until so many of a page's peer connections are not closed, of at least so many that were `made`. */
export async function openPeerConnections(demo, wanted, { patience, made = wanted } = {}) {
  const reached = demo.page.evaluate(
    async ({ wanted, made }) => {
      const watch = window.peerConnections;
      const open = () => watch.made.filter(({ connectionState }) => connectionState !== "closed").length;
      while (watch.made.length < made || open() !== wanted) {
        await new Promise((resolve) => watch.waiting.push(resolve));
      }
    },
    { wanted, made },
  );
  const describe = () => demo.words();
  try {
    await within(reached, `${wanted} peer connections are not closed`, patience, describe);
  } catch (failure) {
    failure.message += `\nthey are: ${JSON.stringify(await peerConnectionStates(demo))}`;
    throw failure;
  }
}

/** The state of every peer connection that a page has made. */
export async function peerConnectionStates(demo) {
  return await demo.page.evaluate(() => window.peerConnections.made.map(({ connectionState }) => connectionState));
}

/** While a page is deaf it tells no candidates and takes none, so that ICE can't succeed. */
export async function setDeaf(demo, deaf) {
  await demo.page.evaluate((deaf) => {
    window.peerConnections.deaf = deaf;
  }, deaf);
}

/**
 * Is told of each step of signalling before a page takes it: `offer` and `answer` before it becomes the page's own
 * description, `candidate` before one of the other side's is taken. Before any page is opened.
 */
export async function beforeEachStep(context, told) {
  await context.exposeFunction("beforeStep", told);
}

/** How large the memory of a page's module has grown, in bytes. */
export async function memoryOf(demo) {
  return await demo.page.evaluate(() => window.peerConnections.memory.buffer.byteLength);
}
