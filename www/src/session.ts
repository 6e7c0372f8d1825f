/** The network's side of the page: what happens there goes into the state, what people do goes out. */

import type { NetworkEvent, NetworkHandler, PeerInfo, ReceivedMessage } from "cpc-net";

import { Deliveries } from "./deliveries.js";
import { Greetings } from "./greetings.js";
import { decode, encodeHello, encodeText } from "./payload.js";
import type { Direct, SignPhase, State } from "./state.js";
import { count, errorWords, span } from "./words.js";

/** How often latencies and the like are read anew, in milliseconds. */
const REFRESH_INTERVAL = 1000;
/** At the start a node counts as connecting before its first attempt, for so many milliseconds. */
const START_GRACE = 4000;
/** One of several addresses may fail while another is about to stand, so failures are shown after so many milliseconds. */
const FAILURE_GRACE = 2000;
/** The most peers that are shown. */
const MAX_PEERS = 200;

/** A running node and its page. */
export class Session {
  readonly #net: NetworkHandler;
  readonly #state: State;
  readonly #bootstrap: readonly string[];
  readonly #deliveries: Deliveries;
  readonly #greetings: Greetings;
  readonly #started = performance.now();
  /** Since when no way into the network has been found, and what the last attempt said. */
  #failing: { readonly since: number; last: string } | undefined;
  #refreshing = false;
  #received = 0;

  constructor(net: NetworkHandler, state: State, bootstrap: readonly string[]) {
    this.#net = net;
    this.#state = state;
    this.#bootstrap = bootstrap;
    this.#deliveries = new Deliveries(net, state);
    this.#greetings = new Greetings(() => this.#greet());
    state.me = net.localPeerId();
    void this.#follow();
    net.registerMessageHandler((message) => this.#receive(message));
    this.#refresh();
    const timer = setInterval(() => {
      if (this.#state.phase === "stopped") {
        clearInterval(timer);
      } else if (!document.hidden) {
        this.#refresh();
      }
    }, REFRESH_INTERVAL);
  }

  /** Sends a post to everybody. Whether it was accepted. */
  post(text: string): boolean {
    const at = Date.now();
    try {
      const payload = encodeText("post", text, this.#state.nameOf(this.#state.me), at);
      const id = this.#net.broadcast({ kind: "event", payload }, "medium", "all");
      this.#state.addPost({ id, sender: this.#state.me, text, at, unheard: this.#net.status().connected === 0 });
      this.#state.removeTrouble("post");
      return true;
    } catch (error) {
      this.#state.addTrouble("post", errorWords(error));
      return false;
    }
  }

  /** Sends a post anew that nobody heard. */
  postAgain(id: string): void {
    const post = this.#state.posts.find((candidate) => candidate.id === id);
    if (post !== undefined && this.post(post.text)) {
      this.#state.removePost(id);
    }
  }

  /** Sends a text to one peer. */
  sendDirect(peer: string, text: string): void {
    this.#deliveries.send(peer, text);
  }

  /** Tries a failed direct message again. */
  retryDirect(peer: string, direct: Direct): void {
    this.#deliveries.retry(peer, direct);
  }

  /** Tells everybody one's name, which has changed. */
  announceName(): void {
    this.#greetings.due();
  }

  /** Tries to join once more, now. */
  joinAgain(): void {
    this.#failing = undefined;
    this.#state.removeTrouble("bootstrap");
    for (const address of this.#bootstrap) {
      // A failure is told by the event `bootstrapFailed`, like that of any other attempt.
      this.#net.connect(address).catch(() => {});
    }
    this.#refreshSoon();
  }

  async #follow(): Promise<void> {
    try {
      for await (const event of this.#net.events()) {
        this.#note(event);
      }
    } catch (error) {
      this.#state.addTrouble("events", errorWords(error));
    }
    this.#greetings.stop();
    this.#refresh();
  }

  #note(event: NetworkEvent): void {
    switch (event.type) {
      case "stateChanged":
        if (event.to === "connected") {
          this.#greetings.due("twice");
        }
        break;
      case "bootstrapFailed":
        this.#failing ??= { since: performance.now(), last: "" };
        this.#failing.last = `${event.address}: ${event.reason}`;
        break;
      case "messagesMissed":
        this.#state.addTrouble("missed", {
          title: `${count(event.count, "message was", "messages were")} missed.`,
          advice: "They came faster than this page could take them. Nothing needs to be done.",
        });
        break;
      default:
        break;
    }
    this.#refreshSoon();
  }

  #receive(message: ReceivedMessage): void {
    this.#received += 1;
    const { sender, delivery } = message;
    const incoming = decode(message.payload);
    if ("name" in incoming && incoming.name !== undefined) {
      this.#learnName(sender, incoming.name);
    }
    if (incoming.type === "hello" || (message.kind !== "event" && message.kind !== "data")) {
      return;
    }
    const text =
      incoming.type === "bytes" ? `${count(incoming.size, "byte", "bytes")} that are no text` : incoming.text || "(empty)";
    const at = believable("at" in incoming ? incoming.at : undefined, message.createdAt);
    if (delivery === "direct") {
      this.#state.addDirect(sender, { key: message.id, sender, text, at, state: "received" });
    } else {
      const scope = delivery === "all" ? undefined : delivery === "neighbors" ? "neighbours" : `group ${delivery.group}`;
      this.#state.addPost({ id: message.id, sender, text, at, scope, unheard: false });
    }
  }

  /** Whoever is heard of for the first time has not heard of us either. */
  #learnName(peer: string, name: string): void {
    if (!this.#state.isNamed(peer)) {
      this.#greetings.due();
    }
    this.#state.setName(peer, name);
  }

  #greet(): void {
    try {
      const name = this.#state.nameOf(this.#state.me);
      this.#net.broadcast({ kind: "hello", payload: encodeHello(name) }, "medium", "all");
    } catch {
      // The next peer that appears is the next occasion; until then a nickname stands in.
    }
  }

  /** Several events become one reading. */
  #refreshSoon(): void {
    if (!this.#refreshing) {
      this.#refreshing = true;
      queueMicrotask(() => {
        this.#refreshing = false;
        this.#refresh();
      });
    }
  }

  #refresh(): void {
    const state = this.#state;
    try {
      const status = this.#net.status();
      const peers = this.#net.peers().filter(({ peer }) => peer !== state.me);
      state.status = status;
      state.peers = peers.slice(0, MAX_PEERS);
      this.#showFailing(status.connected);
      [state.phase, state.phaseDetail] = this.#phase(status.phase, status.connected, peers);
      state.facts = [
        ["Network", status.network],
        ["Known peers", String(status.known)],
        ["Reachable at", status.listenAddrs.length === 0 ? "nowhere yet" : status.listenAddrs.slice(0, 4).join("\n")],
        ["Joined by", this.#bootstrap.slice(0, 4).join("\n") || "nothing"],
        ["Messages received", String(this.#received)],
        ["Running for", span(status.uptime)],
      ];
    } catch (error) {
      state.addTrouble("internal", { ...errorWords(error), action: reload });
      [state.phase, state.phaseDetail] = ["stopped", "reload to join again"];
    }
    if (state.phase === "stopped") {
      state.addTrouble("stopped", {
        lasting: true,
        title: "This page's node has stopped.",
        advice: "Reload the page to join again; your identity stays.",
        action: reload,
      });
    }
    state.changed();
  }

  #showFailing(connected: number): void {
    if (connected > 0) {
      this.#failing = undefined;
      this.#state.removeTrouble("bootstrap");
    } else if (this.#failing !== undefined && performance.now() - this.#failing.since > FAILURE_GRACE) {
      this.#state.addTrouble("bootstrap", {
        lasting: true,
        title: "The network can't be reached.",
        advice: "Is the node running, and this device online? It is tried again by itself, or at once if you like.",
        detail: this.#failing.last,
        action: { label: "Try now", run: () => this.joinAgain() },
      });
    }
  }

  #phase(phase: string, connected: number, peers: readonly PeerInfo[]): [SignPhase, string] {
    switch (phase) {
      case "online":
        return ["online", count(connected, "peer", "peers")];
      case "draining":
        return ["stopping", "sending what is left"];
      case "stopped":
        return ["stopped", "reload to join again"];
      default:
        break;
    }
    const atStart = this.#bootstrap.length > 0 && performance.now() - this.#started < START_GRACE;
    if (atStart || peers.some(({ state }) => state === "connecting")) {
      return ["connecting", "looking for others"];
    }
    const waits = peers.map(({ retryIn }) => retryIn).filter((wait) => wait !== null);
    return ["alone", waits.length > 0 ? `next attempt in ${span(Math.max(1000, Math.min(...waits)))}` : "nobody else is here"];
  }
}

const reload = { label: "Reload", run: () => location.reload() };

/** Clocks go wrong, and people lie: a time in the future or the distant past is not shown. */
function believable(...times: ReadonlyArray<number | null | undefined>): number {
  const now = Date.now();
  const day = 24 * 60 * 60 * 1000;
  const believed = times.find((time) => typeof time === "number" && time > now - 7 * day && time < now + 2 * 60 * 1000);
  return Math.min(now, believed ?? now);
}
