/** The demo page in Chromium: opened for a story, used as a person would, gone when the story ends. */

import { existsSync } from "node:fs";

import { chromium } from "playwright-core";

import { PATIENCE, within } from "../support/waiting.mjs";

/** As root, without a graphics card, and without anything that would speak to the world by itself. */
const ARGUMENTS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

const USUAL_PLACES = ["/usr/bin/chromium", "/usr/bin/google-chrome"];

/** Where the built page is, for `cpc-node run --www`. */
export function builtPage() {
  const path = process.env.CPC_WWW;
  if (!path || !existsSync(`${path}/index.html`)) {
    const said = path ? `${path}, where there is no index.html` : "nothing";
    throw new Error(
      `CPC_WWW must say where the built page is (it says ${said}); ` +
        "`cargo xtask test --only browser` builds it and says so by itself",
    );
  }
  return path;
}

/** Starts a browser, with more of Playwright's options if need be. */
export async function startBrowser(scope, options = {}) {
  const told = process.env.CPC_CHROMIUM;
  const executablePath = (told ? [told] : USUAL_PLACES).find((path) => existsSync(path));
  if (executablePath === undefined) {
    throw new Error(`there is no Chromium at ${told || USUAL_PLACES.join(" or ")}; CPC_CHROMIUM may say where it is`);
  }
  const browser = await chromium.launch({ executablePath, args: ARGUMENTS, ...options });
  scope.defer(() => browser.close());
  return browser;
}

/** A person with a browser profile of their own. */
export async function newPerson(browser, options = {}) {
  const context = await browser.newContext(options);
  context.setDefaultTimeout(PATIENCE);
  return context;
}

/** One tab with the demo. */
export class Demo {
  /** Playwright's page. */
  page;
  /** What the page threw and nobody caught. */
  uncaught = [];
  /** What was written to the console: `type: text`. */
  console = [];

  /** Opens a tab at an address. */
  static async open(scope, context, url, name) {
    const demo = new Demo();
    demo.page = await context.newPage();
    demo.page.on("console", (message) => demo.console.push(`${message.type()}: ${message.text()}`));
    demo.page.on("pageerror", (error) => demo.uncaught.push(error.stack ?? String(error)));
    demo.page.on("crash", () => demo.uncaught.push("the tab has crashed"));
    scope.report(`page ${name}`, () => demo.words());
    await demo.page.goto(String(url));
    return demo;
  }

  /** Its parts that carry the given `data-testid`, narrowed down by attributes. */
  part(testId, attributes = {}) {
    const narrowed = Object.entries(attributes).map(([attribute, value]) => `[data-${attribute}="${value}"]`);
    return this.page.locator(`[data-testid="${testId}"]${narrowed.join("")}`);
  }

  /** Waits until a part is there. */
  async sees(testId, attributes, what, patience = PATIENCE) {
    const part = this.part(testId, attributes);
    await within(part.first().waitFor({ timeout: 0 }), `${what}: ${part}`, patience, () => this.words());
    return part.first();
  }

  /** Its peer id, once the node runs. */
  async peerId() {
    const part = this.page.locator('[data-testid="own-peer-id"]:not([data-peer-id=""])');
    await within(part.waitFor({ timeout: 0 }), "the page's node runs", PATIENCE, () => this.words());
    return await part.getAttribute("data-peer-id");
  }

  /** Waits for the connection sign to show a phase. */
  async phase(phase, patience) {
    return await this.sees("connection-sign", { phase }, `the sign shows "${phase}"`, patience);
  }

  /** Waits until a peer is shown as connected; gives how. */
  async connectedTo(peer, patience) {
    const item = await this.sees(
      "peer-item",
      { "peer-id": peer, state: "connected" },
      `${peer} is connected`,
      patience,
    );
    return await item.getAttribute("data-kind");
  }

  /**
   * Waits until what `peerInfo` says of a peer holds the given facts; gives all of it. A fact of `null` also stands for
   * a peer that is not known.
   */
  async known(peer, facts, what, patience = PATIENCE) {
    const found = this.page.evaluate(
      async ({ peer, facts }) => {
        const { net } = window.cpc;
        const events = net.events();
        for (;;) {
          const info = net.peerInfo(peer);
          if (Object.entries(facts).every(([name, fact]) => (info?.[name] ?? null) === fact)) {
            await events.return();
            return info;
          }
          if ((await events.next()).done) {
            throw new Error("the page's node has stopped");
          }
        }
      },
      { peer, facts },
    );
    const wanted = `${peer}: ${what} ${JSON.stringify(facts)}`;
    const info = () => this.page.evaluate((peer) => JSON.stringify(window.cpc.net.peerInfo(peer)), peer);
    try {
      return await within(found, wanted, patience, () => this.words());
    } catch (failure) {
      failure.message += `\nknown is ${await info().catch(String)}`;
      throw failure;
    }
  }

  /** Waits until a peer is reached by WebRTC and by nothing else, and shown so. */
  async directlyConnectedTo(peer, patience = PATIENCE) {
    await this.known(peer, { state: "connected", kind: "webrtc", connections: 1 }, "directly connected", patience);
    await this.sees("peer-item", { "peer-id": peer, kind: "webrtc" }, `${peer} is shown as directly connected`);
  }

  /** Takes a name. */
  async rename(name) {
    await this.part("name-input").fill(name);
    await this.part("name-input").press("Enter");
  }

  /**
   * Waits until a connected peer is shown by its name. Names travel as posts do, so from then on this page hears what
   * that peer posts.
   */
  async knowsName(peer, name, patience = PATIENCE) {
    const words = this.part("peer-item", { "peer-id": peer, state: "connected" }).getByText(name, { exact: true });
    await within(words.waitFor({ timeout: 0 }), `${peer} is known as ${name}`, patience, () => this.words());
  }

  /** Writes to everybody. */
  async post(text) {
    await this.part("post-input").fill(text);
    await this.part("post-button").click();
  }

  /** Opens the conversation with a connected peer. */
  async openConversation(peer) {
    await this.part("peer-item", { "peer-id": peer }).locator('[data-testid="dm-open"]').click();
    await this.part("dm-input").waitFor();
  }

  /** Writes to whom the open conversation is with. */
  async sendDirect(text) {
    await this.part("dm-input").fill(text);
    await this.part("dm-send").click();
  }

  /**
   * Notes when something shows a text, from this call on: `await (await demo.watch(…)).seenAt()` gives the time of
   * `Date.now()`, which is the same clock in all pages and here.
   */
  async watch(testId, attributes, text) {
    const narrowed = Object.entries(attributes).map(([attribute, value]) => `[data-${attribute}="${value}"]`);
    const selector = `[data-testid="${testId}"]${narrowed.join("")}`;
    const watch = await this.page.evaluateHandle(
      ({ selector, text }) => ({
        seen: new Promise((resolve) => {
          const look = () => {
            if ([...document.querySelectorAll(selector)].some((element) => element.textContent.includes(text))) {
              observer.disconnect();
              resolve(Date.now());
            }
          };
          const observer = new MutationObserver(look);
          observer.observe(document, { subtree: true, childList: true, characterData: true, attributes: true });
          look();
        }),
      }),
      { selector, text },
    );
    const what = `${selector} shows ${JSON.stringify(text)}`;
    return {
      seenAt: () =>
        within(
          watch.evaluate(({ seen }) => seen),
          what,
          PATIENCE,
          () => this.words(),
        ),
    };
  }

  /** Notes when a button is clicked next, as `watch` does. */
  async watchClick(testId) {
    const watch = await this.part(testId).evaluateHandle((button) => ({
      clicked: new Promise((resolve) => {
        button.addEventListener("click", () => resolve(Date.now()), { capture: true, once: true });
      }),
    }));
    return {
      clickedAt: () =>
        within(
          watch.evaluate(({ clicked }) => clicked),
          `a click on ${testId}`,
        ),
    };
  }

  /** Runs a function in the page, with `cpc.net` as its first argument. */
  async api(call, argument) {
    return await within(
      this.page.evaluate(`(${call})(window.cpc.net, ${JSON.stringify(argument)})`),
      `an answer of ${call}`,
      PATIENCE,
      () => this.words(),
    );
  }

  /** Begins to keep what arrives at this page; `received` gives it. */
  async keepMessages() {
    await this.peerId();
    await this.api((net) => {
      window.kept = [];
      window.waitingForMessages = [];
      net.registerMessageHandler((message) => {
        window.kept.push({ ...message, payload: new TextDecoder().decode(message.payload) });
        window.waitingForMessages.splice(0).forEach((look) => look());
      });
    });
  }

  /** Waits for a message with that payload among those kept. */
  async received(payload) {
    const found = this.page.evaluate(async (wanted) => {
      for (;;) {
        const message = window.kept.find((message) => message.payload === wanted);
        if (message !== undefined) {
          return message;
        }
        await new Promise((resolve) => window.waitingForMessages.push(resolve));
      }
    }, payload);
    return await within(found, `the message ${payload.slice(0, 100)}`, PATIENCE, () => this.words());
  }

  /** What it has said, for the report of a failure. */
  words() {
    return (
      [...this.uncaught.map((error) => `uncaught: ${error}`), ...this.console.slice(-60)].join("\n") || "(nothing)"
    );
  }
}
