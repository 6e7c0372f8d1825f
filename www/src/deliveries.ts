/** Direct messages on their way out: each is followed by its receipt until it has arrived or failed. */

import { CpcError, type NetworkHandler, type Receipt } from "cpc-net";

import { encodeText } from "./payload.js";
import type { Direct, State } from "./state.js";
import { errorWords } from "./words.js";

/** How often receipts that are under way are looked at, in milliseconds; their end is told without looking. */
const LOOK_INTERVAL = 150;

/** Sends direct messages and keeps their state up to date. */
export class Deliveries {
  readonly #net: NetworkHandler;
  readonly #state: State;
  readonly #underWay = new Map<Direct, Receipt>();
  #next = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(net: NetworkHandler, state: State) {
    this.#net = net;
    this.#state = state;
  }

  /** Sends a text to one peer and shows it in the conversation. */
  send(peer: string, text: string): void {
    this.#next += 1;
    const direct: Direct = { key: `mine-${this.#next}`, sender: this.#state.me, text, at: Date.now(), state: "queued" };
    this.#state.addDirect(peer, direct);
    this.#attempt(peer, direct);
  }

  /** Tries a failed message again. */
  retry(peer: string, direct: Direct): void {
    if (direct.state === "failed") {
      this.#attempt(peer, direct);
    }
  }

  #attempt(peer: string, direct: Direct): void {
    direct.state = "queued";
    direct.problem = undefined;
    try {
      const payload = encodeText("direct", direct.text, this.#state.nameOf(this.#state.me), direct.at);
      const receipt = this.#net.sendMessage(peer, { kind: "event", payload }, "high");
      this.#underWay.set(direct, receipt);
      receipt.delivered.then(
        () => this.#end(direct, "delivered"),
        (error: unknown) => this.#fail(direct, error),
      );
      this.#look();
    } catch (error) {
      this.#fail(direct, error);
    }
    this.#state.changed();
  }

  #fail(direct: Direct, error: unknown): void {
    direct.problem = { ...errorWords(error), retryable: !(error instanceof CpcError) || error.retryable };
    this.#end(direct, "failed");
    this.#state.say(`A message was not delivered: ${direct.problem.title}`);
  }

  #end(direct: Direct, state: "delivered" | "failed"): void {
    this.#underWay.delete(direct);
    direct.state = state;
    this.#state.changed();
  }

  /** A receipt tells of its end, but not of the steps before. */
  #look(): void {
    clearTimeout(this.#timer);
    let changed = false;
    for (const [direct, receipt] of this.#underWay) {
      const now = receipt.state;
      const state = now.state === "queued" && now.why.type === "mailbox" ? "kept" : now.state;
      if ((state === "queued" || state === "kept" || state === "sent") && state !== direct.state) {
        direct.state = state;
        changed = true;
      }
    }
    if (changed) {
      this.#state.changed();
    }
    if (this.#underWay.size > 0) {
      this.#timer = setTimeout(() => this.#look(), LOOK_INTERVAL);
    }
  }
}
