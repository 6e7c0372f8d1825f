/** Real `cpc-node` processes: started for a story, heard through their JSON lines, gone when the story ends. */

import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { Journal, PATIENCE, within } from "./waiting.mjs";

/** How much of what a node says is kept for the report of a failure, in lines. */
const KEPT_LINES = 60;

/** Loopback only, at free ports: TCP for nodes, WebSocket and WebRTC-direct for pages. */
export const LISTEN = ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/0/ws", "/ip4/127.0.0.1/udp/0/webrtc-direct"];

const running = new Set();
// A node must not outlive the tests, whatever ends them.
process.on("exit", () => running.forEach((child) => child.kill("SIGKILL")));
for (const [signal, code] of [
  ["SIGINT", 130],
  ["SIGTERM", 143],
]) {
  process.once(signal, () => process.exit(code));
}

/** A network name that nobody else uses. */
export function uniqueNetwork() {
  return `test-${randomBytes(6).toString("hex")}`;
}

/** A folder that is gone after the story. */
export async function temporaryFolder(scope) {
  const folder = await mkdtemp(join(tmpdir(), "cpc-net-test-"));
  scope.defer(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

function program() {
  const path = process.env.CPC_NODE_BIN;
  if (!path || !existsSync(path)) {
    const said = path ? `${path}, where there is no file` : "nothing";
    throw new Error(
      `CPC_NODE_BIN must say where the program cpc-node is (it says ${said}); ` +
        "`cargo xtask test --only strangers` or `--only browser` builds it and says so by itself",
    );
  }
  return path;
}

function launch(words) {
  // What is set on this machine must not decide what is tested.
  const settings = Object.entries(process.env).filter(([name]) => !name.startsWith("CPC_") && name !== "RUST_LOG");
  const child = spawn(program(), words, { stdio: ["ignore", "pipe", "pipe"], env: Object.fromEntries(settings) });
  running.add(child);
  child.once("close", () => running.delete(child));
  return child;
}

function keepLines(stream) {
  const kept = [];
  createInterface({ input: stream }).on("line", (line) => {
    kept.push(line);
    kept.splice(0, kept.length - KEPT_LINES);
  });
  return kept;
}

/** Runs a command of `cpc-node` to its end; gives its exit code and what it said. */
export async function runCpcNode(words, { patience = PATIENCE } = {}) {
  const child = launch(words);
  const output = keepLines(child.stdout);
  const errors = keepLines(child.stderr);
  const what = `cpc-node ${words.join(" ")} ends`;
  try {
    const [code] = await within(once(child, "close"), what, patience, () => errors.join("\n"));
    return { code, output: output.join("\n"), errors: errors.join("\n") };
  } finally {
    child.kill("SIGKILL");
  }
}

/** A node that runs: `cpc-node run --json`. */
export class CpcNode {
  /** What the first line said: `peerId`, `addresses`, `http`. */
  ready;
  /** The network's name. */
  network;
  #child;
  #closed;
  #lines = new Journal();
  #errors;
  #words;
  #options;

  /**
   * Starts a node, and waits until it is ready. It has an identity of its own that ends with the story, unless it is
   * given a `dataDir`.
   */
  static async start(
    scope,
    { network = uniqueNetwork(), listen = LISTEN, dataDir, http = "127.0.0.1:0", words = [] } = {},
  ) {
    const node = new CpcNode();
    const folder = dataDir ?? (await temporaryFolder(scope));
    node.#options = { network, dataDir: folder, words };
    const listening = listen.flatMap((address) => ["--listen", address]);
    const always = ["run", "--json", "--no-mdns", "--network", network, "--data-dir", folder, "--http", http];
    node.network = network;
    node.#words = [...always, ...listening, ...words];
    node.#begin();
    scope.defer(() => node.stop());
    scope.report(`cpc-node of network ${network}`, () => node.words());
    node.ready = await node.waitFor(({ event }) => event === "ready", "the node is ready");
    return node;
  }

  /** Starts it once more after its end: who it was, where it was, as an operator's node does. */
  async startAgain(scope) {
    const bare = (address) => address.replace(/\/p2p\/[^/]+$/, "").replace(/\/certhash\/[^/]+/, "");
    const listen = this.ready.addresses.map(bare);
    return await CpcNode.start(scope, { ...this.#options, listen, http: new URL(this.ready.http).host });
  }

  #begin() {
    this.#child = launch(this.#words);
    this.#closed = once(this.#child, "close");
    this.#errors = keepLines(this.#child.stderr);
    createInterface({ input: this.#child.stdout }).on("line", (line) => {
      // When it came is for those who measure.
      this.#lines.add({ ...JSON.parse(line), cameAt: Date.now() });
    });
    this.#child.once("close", (code, signal) => this.#lines.end(`the node ended (${signal ?? code})`));
  }

  /** A place in what the node says: `waitFor` can be told to look from there on. */
  get place() {
    return this.#lines.length;
  }

  /** The first line that is wanted. */
  async waitFor(wanted, what, { since = 0, patience = PATIENCE } = {}) {
    return await this.#lines.first(wanted, what, { since, patience, describe: () => this.words() });
  }

  /** The first message that is wanted. */
  async message(wanted, what, options) {
    return await this.waitFor(({ event, message }) => event === "message" && wanted(message), what, options);
  }

  /** The first network event that is wanted. */
  async event(wanted, what, options) {
    return await this.waitFor(({ event, network }) => event === "network" && wanted(network), what, options);
  }

  /** All lines since a place. */
  lines(since = 0) {
    return this.#lines.since(since);
  }

  /** Its address for a transport: `tcp`, `ws` or `webrtc-direct`, with its peer id. */
  address(transport) {
    const last = { tcp: /\/tcp\/\d+\/p2p\//, ws: /\/ws\/p2p\//, "webrtc-direct": /\/webrtc-direct\/.*\/p2p\// }[
      transport
    ];
    const found = this.ready.addresses.find((address) => last.test(address));
    if (found === undefined) {
      throw new Error(`the node has no address for ${transport}: ${this.ready.addresses.join(", ")}`);
    }
    return found;
  }

  /** Asks it over HTTP. */
  async get(path) {
    return await fetch(new URL(path, this.ready.http), { signal: AbortSignal.timeout(PATIENCE) });
  }

  /** The value of one of its metrics, named with its labels as Prometheus does. */
  async metric(name) {
    const text = await (await this.get("/metrics")).text();
    const line = text.split("\n").find((candidate) => candidate.startsWith(`${name} `));
    if (line === undefined) {
      throw new Error(`/metrics has no ${name}:\n${text}`);
    }
    return Number(line.slice(name.length + 1));
  }

  /** What it has said, for the report of a failure. */
  words() {
    const lines = this.#lines.since(Math.max(0, this.#lines.length - KEPT_LINES));
    return [...lines.map((line) => JSON.stringify(line)), ...(this.#errors ?? [])].join("\n");
  }

  /** Asks it to stop, and waits until it has; it may take its time to say goodbye. */
  async stop() {
    this.#child.kill("SIGTERM");
    try {
      return (await within(this.#closed, "the node stops when asked to", PATIENCE, () => this.words()))[0];
    } finally {
      this.#child.kill("SIGKILL");
    }
  }

  /** Lets it fall silent: it answers nothing, and its connections stay. */
  pause() {
    this.#child.kill("SIGSTOP");
  }

  /** Lets it go on after a pause. */
  goOn() {
    this.#child.kill("SIGCONT");
  }

  /** Ends it without a goodbye, as a crash would. */
  async crash() {
    this.#child.kill("SIGKILL");
    await within(this.#closed, "the node is gone");
  }
}
