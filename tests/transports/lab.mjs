/** Pages with nothing but our transports, the node they meet, and the ways between them. */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

import { newPerson, startBrowser } from "../browser/demo.mjs";
import { Journal, PATIENCE, within } from "../support/waiting.mjs";

/** The ways from one page: to the node, or to another page. */
export const WAYS = ["websocket", "webrtc-direct", "webrtc", "relayed"];

/** How long a piece of work may take, in milliseconds. */
export const WORK = 60_000;

const TYPES = { ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm" };

function told(variable, within = "") {
  const path = process.env[variable];
  if (!path || !existsSync(join(path, within))) {
    throw new Error(
      `${variable} must say where it is (it says ${path ? `${path}, where there is nothing` : "nothing"}); ` +
        "`cargo xtask test --only transports` builds it and says so by itself",
    );
  }
  return path;
}

/** The program `cpc-probe`: the other end of what pages dial, and their relay. */
export class ProbeNode {
  /** Its first words: `peerId`, `addresses`. */
  ready;
  #child;
  #lines = new Journal();
  #errors = "";

  static async start(scope) {
    const node = new ProbeNode();
    const child = spawn(told("CPC_PROBE_BIN"), { stdio: ["pipe", "pipe", "pipe"] });
    node.#child = child;
    const closed = once(child, "close");
    process.once("exit", () => child.kill("SIGKILL"));
    createInterface({ input: child.stdout }).on("line", (line) => node.#lines.add(JSON.parse(line)));
    child.stderr.on("data", (text) => (node.#errors = (node.#errors + text).slice(-10_000)));
    child.once("close", (code, signal) => node.#lines.end(`cpc-probe ended (${signal ?? code})`));
    scope.report("cpc-probe", () => node.#errors);
    scope.defer(async () => {
      child.stdin.end();
      child.kill("SIGTERM");
      await within(closed, "cpc-probe ends");
    });
    node.ready = await node.#lines.first(() => true, "cpc-probe is ready", { describe: () => node.#errors });
    return node;
  }

  /** How it stands. */
  async look() {
    const since = this.#lines.length;
    this.#child.stdin.write("\n");
    return await this.#lines.first(() => true, "cpc-probe says how it stands", { since });
  }

  /** Bytes of memory that it holds. */
  async memory() {
    const status = await readFile(`/proc/${this.#child.pid}/status`, "utf8");
    return Number(/VmRSS:\s+(\d+) kB/.exec(status)[1]) * 1024;
  }

  /** Its address for a transport: `ws` or `webrtc-direct`. */
  address(transport) {
    const last = { ws: /\/ws\/p2p\//, "webrtc-direct": /\/webrtc-direct\// }[transport];
    return this.ready.addresses.find((address) => last.test(address));
  }
}

/** Serves the folders of `places` (from the path's first step), and `page/` for everything else. */
export async function serve(scope, places = {}) {
  const own = fileURLToPath(new URL("page/", import.meta.url));
  const server = createServer(async (request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url, "http://localhost").pathname));
    const [, first, ...rest] = path.split("/");
    const file = places[first] ? join(places[first], ...rest) : join(own, path === "/" ? "index.html" : path);
    try {
      const content = await readFile(file);
      // Apart from all others, a page may measure in steps of 5 µs instead of 100 µs.
      response.writeHead(200, {
        "content-type": TYPES[extname(file)] ?? "application/octet-stream",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-embedder-policy": "require-corp",
      });
      response.end(content);
    } catch {
      response.writeHead(404).end();
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  scope.defer(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${server.address().port}/`;
}

/** A page with one side of a connection: `window.side` of the script it is opened with. */
export class Side {
  name;
  page;
  #said = [];

  static async open(scope, browser, origin, name, { script = "/ours.mjs", spied = true } = {}) {
    const side = new Side();
    side.name = name;
    // Each in a process of its own, as pages of different people are.
    side.page = await (await newPerson(browser)).newPage();
    side.page.on("console", (message) => side.#said.push(`${message.type()}: ${message.text()}`));
    side.page.on("pageerror", (error) => side.#said.push(`uncaught: ${error.stack ?? error}`));
    side.page.on("crash", () => side.#said.push("uncaught: the page has crashed"));
    scope.report(`page ${name}`, () => side.words());
    if (spied) {
      await side.page.addInitScript({ path: fileURLToPath(new URL("page/spy.js", import.meta.url)) });
    }
    await side.page.goto(origin);
    await side.page.addScriptTag({ url: script, type: "module" });
    await within(side.page.waitForFunction("window.side", undefined, { timeout: 0 }), `${name} runs`, PATIENCE, () =>
      side.words(),
    );
    return side;
  }

  /** What it has said. */
  words() {
    return this.#said.slice(-60).join("\n");
  }

  /** What it threw and nobody caught. */
  get uncaught() {
    return this.#said.filter((words) => words.startsWith("uncaught") || words.includes("panicked"));
  }

  /** Calls one of the functions of `window.side`. */
  async call(what, ...words) {
    const call = this.page.evaluate(([what, words]) => window.side[what](...words), [what, words]);
    return await within(call, `${this.name}: ${what}(${words.join(", ")})`, WORK, () => this.words());
  }

  /** Calls one of the functions of `window.spy`. */
  async spy(what) {
    return await this.page.evaluate((what) => window.spy[what](), what);
  }

  async peerId() {
    return await this.page.evaluate("window.side.peerId");
  }

  async look() {
    return await this.call("look");
  }

  async memory() {
    return await this.call("memory");
  }

  async dial(address) {
    const { link, connecting } = await this.call("dial", address);
    return new Link(this, link, connecting);
  }
}

/** A connection that a side has dialled. */
export class Link {
  constructor(side, number, connecting) {
    this.side = side;
    this.number = number;
    this.connecting = connecting;
  }

  async work(what, ...words) {
    return await this.side.call("work", this.number, what, ...words);
  }

  async close() {
    await this.work("close");
  }
}

/** A node, and pages as they are needed. */
export class Lab {
  node;
  browser;
  origin;
  #scope;
  #pages = 0;
  #options;

  static async start(scope, { places = {}, ...options } = {}) {
    const lab = new Lab();
    lab.#scope = scope;
    lab.#options = options;
    lab.origin = await serve(scope, { wasm: told("CPC_PROBE_WASM", "cpc_net.js"), ...places });
    lab.node = await ProbeNode.start(scope);
    lab.browser = await startBrowser(scope);
    return lab;
  }

  async page(options) {
    this.#pages += 1;
    return await Side.open(this.#scope, this.browser, this.origin, `${this.#pages}`, { ...this.#options, ...options });
  }

  /**
   * What leads one way: the side that dials, the address, and the other side, be it the node or a page. The page that is
   * dialled has a place at the relay.
   */
  async way(way, options) {
    const one = await this.page(options);
    if (way === "websocket") {
      return { one, other: this.node, address: this.node.address("ws") };
    }
    if (way === "webrtc-direct") {
      return { one, other: this.node, address: this.node.address("webrtc-direct") };
    }
    const other = await this.page(options);
    const relay = `${this.node.address("ws")}/p2p-circuit`;
    await other.call("listen", relay);
    const circuit = `${relay}${way === "webrtc" ? "/webrtc" : ""}/p2p/${await other.peerId()}`;
    return { one, other, address: circuit };
  }
}
