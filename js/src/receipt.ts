import { translated, translatedLater } from "./errors.js";
import { keepAlive } from "./waiting.js";
import type { MessageId, PeerId, ReceiptState } from "./types.js";
import type { WasmReceipt } from "./wasm.js";

/**
 * What becomes of a direct message that was accepted. It ends as delivered, expired or failed, never in silence.
 *
 * @example
 * ```ts
 * const receipt = net.sendMessage(peer, { payload: "hello" }, "high");
 * await receipt.delivered;
 * ```
 */
export class Receipt {
  readonly #id: MessageId;
  readonly #recipient: PeerId;
  /** Gone once the end is known. If nobody ever asks for the end, wasm-bindgen frees it together with this object. */
  #wasm: WasmReceipt | undefined;
  #end: ReceiptState | undefined;
  #accepted: Promise<void> | undefined;
  #delivered: Promise<void> | undefined;

  /** @internal */
  constructor(wasm: WasmReceipt, owner: object) {
    this.#wasm = wasm;
    // A node must not be collected, and so stopped, while somebody waits for this.
    keepAlive(owner, this);
    this.#id = translated(() => wasm.id());
    this.#recipient = translated(() => wasm.recipient());
  }

  /** The identity of the message. */
  get id(): MessageId {
    return this.#id;
  }

  /** Whom the message is for. */
  get recipient(): PeerId {
    return this.#recipient;
  }

  /**
   * Resolves when the message is accepted: stored, so that it outlives the page (see `delivery.durability`), or delivered
   * before that; where nothing is kept, at once. Rejects with a {@link DeliveryError} when it could not be stored. The
   * same promise each time. Whoever never reads it need not handle its rejection.
   */
  get accepted(): Promise<void> {
    // It is asked at the latest before the wasm receipt is let go.
    this.#accepted ??= translatedLater(() => (this.#wasm as WasmReceipt).accepted());
    return this.#accepted;
  }

  /**
   * Where the message stands now: `{ state: "queued", why }`, `{ state: "sent", way }`, `{ state: "delivered" }`,
   * `{ state: "expired", ttl }` or `{ state: "failed", error }`.
   */
  get state(): ReceiptState {
    const wasm = this.#wasm;
    // Without the wasm receipt the end is known: it is remembered before the receipt is let go.
    return wasm === undefined ? (this.#end as ReceiptState) : translated(() => wasm.state());
  }

  /**
   * Resolves when the recipient has acknowledged the message, and rejects with a {@link DeliveryError} when it was not
   * delivered. The same promise each time. Whoever never reads it need not handle its rejection.
   */
  get delivered(): Promise<void> {
    this.#delivered ??= this.#wait();
    return this.#delivered;
  }

  async #wait(): Promise<void> {
    const wasm = this.#wasm;
    if (wasm === undefined) {
      return;
    }
    try {
      await translatedLater(() => wasm.delivered());
    } finally {
      this.#end = wasm.state();
      // Also the answer for whoever asks later; it is there already.
      await this.accepted.catch(() => {});
      this.#wasm = undefined;
      wasm.free();
    }
  }
}
