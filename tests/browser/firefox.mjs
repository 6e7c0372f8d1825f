/**
 * Firefox, steered by WebDriver BiDi (W3C), which it speaks by itself: the few commands that stories need, over a
 * WebSocket. Playwright's Firefox is another one than people have.
 */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { WebSocket } from "ws";

import { temporaryFolder } from "../support/cpc-node.mjs";
import { PATIENCE, within } from "../support/waiting.mjs";
import { Demo } from "./demo.mjs";
import { install } from "./peer-connections.mjs";

const USUAL_PLACES = ["/usr/bin/firefox-esr", "/usr/bin/firefox", "/Applications/Firefox.app/Contents/MacOS/firefox"];

/** Nothing that would speak to the world by itself, and none of the pages that greet a new user. */
const PREFERENCES = {
  "app.normandy.enabled": false,
  "app.update.disabledForTesting": true,
  "browser.aboutwelcome.enabled": false,
  "browser.safebrowsing.downloads.enabled": false,
  "browser.safebrowsing.malware.enabled": false,
  "browser.safebrowsing.phishing.enabled": false,
  "browser.search.update": false,
  "browser.shell.checkDefaultBrowser": false,
  "browser.startup.page": 0,
  "datareporting.policy.dataSubmissionEnabled": false,
  "extensions.getAddons.cache.enabled": false,
  "extensions.update.enabled": false,
  "network.captive-portal-service.enabled": false,
  "network.connectivity-service.enabled": false,
  "services.settings.server": "data:,#remote-settings-dummy/v1",
  "toolkit.telemetry.enabled": false,
  "toolkit.telemetry.server": "data:,",
};

/** Where Firefox is; `undefined` when it isn't on this machine. `CPC_FIREFOX` may say where. */
export function findFirefox() {
  const told = process.env.CPC_FIREFOX;
  return (told ? [told] : USUAL_PLACES).find((path) => existsSync(path));
}

/** A Firefox with a profile of its own. */
export class Firefox {
  #socket;
  #answers = new Map();
  #listeners = new Map();
  #next = 0;
  #said = [];

  /** Starts one; it ends with the story. */
  static async start(scope, executable) {
    const firefox = new Firefox();
    const profile = await temporaryFolder(scope);
    const preferences = Object.entries(PREFERENCES).map((setting) => `user_pref(${setting.map(JSON.stringify)});\n`);
    await writeFile(join(profile, "user.js"), preferences.join(""));
    const words = ["--headless", "--no-remote", "--profile", profile, "--remote-debugging-port", "0", "about:blank"];
    const env = { ...process.env, MOZ_CRASHREPORTER_DISABLE: "1" };
    const child = spawn(executable, words, { stdio: ["ignore", "ignore", "pipe"], env });
    const closed = once(child, "close");
    const kill = () => child.kill("SIGKILL");
    process.once("exit", kill);
    scope.defer(async () => {
      child.kill("SIGTERM");
      await within(closed, "Firefox ends").finally(kill);
      process.removeListener("exit", kill);
    });
    scope.report("Firefox", () => firefox.#said.join("\n"));
    const address = new Promise((resolve) => {
      createInterface({ input: child.stderr }).on("line", (line) => {
        firefox.#said.push(line);
        firefox.#said.splice(0, firefox.#said.length - 40);
        const [, found] = /WebDriver BiDi listening on (ws:\S+)/.exec(line) ?? [];
        if (found !== undefined) {
          resolve(found);
        }
      });
    });
    // The first start of a browser on a busy machine.
    await firefox.#connect(await within(address, "Firefox listens", 4 * PATIENCE, () => firefox.#said.join("\n")));
    return firefox;
  }

  async #connect(address) {
    this.#socket = new WebSocket(`${address}/session`);
    this.#socket.on("message", (text) => this.#hear(JSON.parse(text)));
    await within(once(this.#socket, "open"), "Firefox takes a connection");
    await this.send("session.new", { capabilities: {} });
    await this.send("session.subscribe", { events: ["log.entryAdded"] });
  }

  #hear({ id, type, method, params, result, error, message }) {
    if (type === "event") {
      this.#listeners.get(params.source?.context)?.(method, params);
      return;
    }
    const answer = this.#answers.get(id);
    this.#answers.delete(id);
    if (type === "success") {
      answer?.resolve(result);
    } else {
      answer?.reject(new Error(`${error}: ${message}`));
    }
  }

  /** Gives a command; resolves with its answer. */
  async send(method, params) {
    this.#next += 1;
    const id = this.#next;
    const answer = new Promise((resolve, reject) => this.#answers.set(id, { resolve, reject }));
    this.#socket.send(JSON.stringify({ id, method, params }));
    return await answer;
  }

  /** Is told of what happens in a tab. */
  listen(tab, listener) {
    this.#listeners.set(tab, listener);
  }
}

/** What `Demo` uses of a tab, in Firefox. */
export class FirefoxPage {
  #firefox;
  #tab;

  static async open(firefox) {
    const page = new FirefoxPage();
    page.#firefox = firefox;
    const { context } = await firefox.send("browsingContext.create", { type: "tab" });
    page.#tab = context;
    return page;
  }

  /** Tells of what is written to the console, and of what nobody caught. */
  onLog(told) {
    this.#firefox.listen(this.#tab, (_, { type, level, text }) => {
      told({ uncaught: type === "javascript", level, text });
    });
  }

  /** Runs a function in every document before its own scripts. */
  async addInitScript(script, argument) {
    const functionDeclaration = `() => (${script})(${JSON.stringify(argument)})`;
    await this.#firefox.send("script.addPreloadScript", { functionDeclaration, contexts: [this.#tab] });
  }

  async goto(url) {
    await this.#firefox.send("browsingContext.navigate", { context: this.#tab, url, wait: "complete" });
  }

  /** Runs a function in the page; its result, or what its promise resolves to, comes back as JSON would carry it. */
  async evaluate(call, argument) {
    const expression =
      typeof call === "string" ? call : `(${call})(${argument === undefined ? "" : JSON.stringify(argument)})`;
    const answer = await this.#firefox.send("script.evaluate", {
      expression: `(async () => JSON.stringify(await ${expression}))()`,
      target: { context: this.#tab },
      awaitPromise: true,
    });
    if (answer.type === "exception") {
      throw new Error(answer.exceptionDetails.text);
    }
    return answer.result.value === undefined ? undefined : JSON.parse(answer.result.value);
  }
}

/** One tab of Firefox with the demo: what `Demo` is for Chromium, as far as it needs no Playwright. */
export class FirefoxDemo extends Demo {
  /** Opens a tab at an address. */
  static async open(scope, firefox, url, name) {
    const demo = new FirefoxDemo();
    demo.page = await FirefoxPage.open(firefox);
    demo.page.onLog(({ uncaught, level, text }) => {
      demo.console.push(`${level}: ${text}`);
      if (uncaught) {
        demo.uncaught.push(text);
      }
    });
    scope.report(`page ${name}`, () => demo.words());
    await demo.page.addInitScript(install, false);
    await within(demo.page.goto(String(url)), "Firefox opens the page", 4 * PATIENCE);
    return demo;
  }

  async peerId() {
    const id = '[data-testid="own-peer-id"]:not([data-peer-id=""])';
    return (await this.#appears(id, "the page's node runs", 4 * PATIENCE)).peerId;
  }

  async sees(testId, attributes, what, patience = PATIENCE) {
    const narrowed = Object.entries(attributes).map(([attribute, value]) => `[data-${attribute}="${value}"]`);
    return await this.#appears(`[data-testid="${testId}"]${narrowed.join("")}`, what, patience);
  }

  /** Waits until something is there; gives its `data-` attributes. */
  async #appears(selector, what, patience) {
    const found = this.page.evaluate(
      (selector) =>
        new Promise((resolve) => {
          const look = () => {
            const element = document.querySelector(selector);
            if (element !== null) {
              observer.disconnect();
              resolve({ ...element.dataset });
            }
          };
          const observer = new MutationObserver(look);
          observer.observe(document, { subtree: true, childList: true, attributes: true });
          look();
        }),
      selector,
    );
    return await within(found, `${what}: ${selector}`, patience, () => this.words());
  }
}
