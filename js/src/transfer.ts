/**
 * Payloads of any length, streamed. What a page sends is pulled out of it and what it receives is pushed into it, both
 * only as fast as the other end works, so that a gigabyte is never in memory.
 */

import { ArgumentError, toCpcError, translated, translatedLater } from "./errors.js";
import type {
  PayloadHash,
  PeerId,
  TransferDirection,
  TransferId,
  TransferOffer,
  TransferOptions,
  TransferPayload,
  TransferProgress,
} from "./types.js";
import { keepAlive, reportUncaught } from "./waiting.js";
import type { WasmIncomingTransfer, WasmNetworkHandler, WasmStream, WasmTransfer } from "./wasm.js";

/** How much of a received payload may wait for the page before the sender is held back, bytes. */
const WAITING = 1024 * 1024;

/** How often `onProgress` looks, milliseconds. */
const LOOK = 200;

type Settings = Pick<TransferOptions, "signal" | "onProgress">;

/**
 * A transfer under way. It ends as finished or failed, never in silence; letting this object go doesn't end it.
 *
 * @example
 * ```ts
 * const transfer = net.sendTransfer(peer, file, { signal, onProgress: ({ transferred }) => show(transferred) });
 * const hash = await transfer.finished;
 * ```
 */
export class Transfer {
  readonly #wasm: WasmTransfer;
  readonly #owner: object;
  #finished: Promise<PayloadHash> | undefined;

  /** @internal */
  constructor(wasm: WasmTransfer, owner: object, { signal, onProgress }: Settings) {
    this.#wasm = wasm;
    this.#owner = owner;
    // A node must not be collected, and so stopped, while somebody waits for this.
    keepAlive(owner, this);
    const cancel = () => this.cancel();
    signal?.addEventListener("abort", cancel, { once: true });
    const stopLooking = onProgress === undefined ? () => {} : look(this, onProgress);
    if (signal !== undefined || onProgress !== undefined) {
      const over = () => {
        signal?.removeEventListener("abort", cancel);
        stopLooking();
      };
      this.finished.then(over, over);
    }
    if (signal?.aborted) {
      cancel();
    }
  }

  /** Its id, the same on both sides. */
  get id(): TransferId {
    return translated(() => this.#wasm.id());
  }

  /** Whom it goes to or comes from. */
  get peer(): PeerId {
    return translated(() => this.#wasm.peer());
  }

  /** Which way it goes. */
  get direction(): TransferDirection {
    return translated(() => this.#wasm.direction());
  }

  /** How far it is, this very moment. */
  get progress(): TransferProgress {
    return translated(() => this.#wasm.progress());
  }

  /**
   * Resolves with the payload's BLAKE3 hash when everything is verified and written on the receiver's side, and rejects
   * with a {@link TransferError} when it never will be. The same promise each time. Whoever never reads it need not
   * handle its rejection.
   */
  get finished(): Promise<PayloadHash> {
    if (this.#finished === undefined) {
      this.#finished = translatedLater(() => this.#wasm.finished());
      this.#finished.catch(() => {});
      keepAlive(this.#owner, this.#finished);
    }
    return this.#finished;
  }

  /** Ends it; the other side is told. One that is over stays as it is. */
  cancel(): void {
    translated(() => this.#wasm.cancel());
  }
}

/** Tells of each change, until the function it gives is called; that tells the last one. */
function look(transfer: Transfer, onProgress: (progress: TransferProgress) => void): () => void {
  let told = "";
  const tell = () => {
    const progress = transfer.progress;
    const now = `${progress.state} ${progress.transferred}`;
    if (now !== told) {
      told = now;
      try {
        onProgress(progress);
      } catch (error) {
        reportUncaught(error);
      }
    }
  };
  const timer = setInterval(tell, LOOK);
  return () => {
    clearInterval(timer);
    tell();
  };
}

const utf8 = new TextEncoder();

/** Begins to send. */
export function sendTransfer(
  wasm: WasmNetworkHandler,
  owner: object,
  peer: PeerId,
  payload: TransferPayload,
  options: TransferOptions,
): Transfer {
  const { signal } = options;
  signal?.throwIfAborted();
  const { name, kind, length, bytes, read, pull } = taken(payload, options);
  const meta = typeof options.meta === "string" ? utf8.encode(options.meta) : (options.meta ?? new Uint8Array());
  const transfer = translated(() =>
    wasm.sendTransfer(peer, name, kind, meta, length, options.hash, bytes, read, pull?.next),
  );
  const begun = new Transfer(transfer, owner, options);
  // What is not sent need not be made either.
  begun.finished.catch((error: unknown) => pull?.cancel(error));
  return begun;
}

interface Taken {
  readonly name: string;
  readonly kind: string;
  readonly length?: number | undefined;
  readonly bytes?: Uint8Array;
  readonly read?: (offset: number, length: number) => Promise<Uint8Array>;
  readonly pull?: { readonly next: () => Promise<Uint8Array | undefined>; readonly cancel: (reason: unknown) => void };
}

function taken(payload: TransferPayload, { name = "", kind = "", length }: TransferOptions): Taken {
  if (typeof payload === "string") {
    return { name, kind, length, bytes: utf8.encode(payload) };
  }
  switch (Object.prototype.toString.call(payload)) {
    case "[object Uint8Array]":
      return { name, kind, length, bytes: payload as Uint8Array };
    case "[object File]":
    case "[object Blob]": {
      const blob = payload as Blob;
      const itsName = "name" in blob && typeof blob.name === "string" ? blob.name : "";
      return { name: name || itsName, kind: kind || blob.type, length: length ?? blob.size, read: partsOf(blob) };
    }
    case "[object ReadableStream]": {
      const reader = (payload as ReadableStream<Uint8Array>).getReader();
      const next = async () => (await reader.read()).value;
      // A stream that has failed already needs no end.
      return { name, kind, length, pull: { next, cancel: (reason) => void reader.cancel(reason).catch(() => {}) } };
    }
    default:
      throw new ArgumentError(
        `a payload of type ${typeof payload} can't be sent: expected a Blob, a ReadableStream, a Uint8Array or a string`,
        { code: "invalid_argument", retryable: false },
      );
  }
}

function partsOf(blob: Blob): (offset: number, length: number) => Promise<Uint8Array> {
  return async (offset, length) => new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer());
}

/** How to take an offer. */
export interface AcceptOptions extends Settings {
  /**
   * What is here already of the payload, from an earlier attempt that this page did not survive. What can be gone on with
   * is not sent again; the stream begins behind it, at `progress.transferred` of the transfer.
   */
  readonly have?: Blob | undefined;
  /**
   * The most bytes that are taken. One that is longer by its own word is refused; another one fails at this length, both
   * with a {@link TransferError} `too_long`. Without it `transfers.max_length` of the configuration is the bound.
   */
  readonly atMost?: number | undefined;
}

/** A transfer that was taken, and its bytes. */
export interface AcceptedTransfer {
  /** What becomes of it. */
  readonly transfer: Transfer;
  /**
   * The payload as it comes, verified. The sender is held back while nobody reads. It ends when all is there and fails
   * with a {@link TransferError} otherwise; cancelling it cancels the transfer.
   */
  readonly stream: ReadableStream<Uint8Array>;
  /** All of it, gathered by the browser. */
  blob(): Promise<Blob>;
}

/** A payload that a peer offers. It waits to be taken or refused; one that nobody takes is refused after a while. */
export class IncomingTransfer {
  readonly #wasm: WasmIncomingTransfer;
  readonly #owner: object;

  /** Who offers it. */
  readonly peer: PeerId;
  /** Its id, the same on both sides. */
  readonly id: TransferId;
  /** What the sender says of it. */
  readonly offer: TransferOffer;

  /** @internal */
  constructor(wasm: WasmIncomingTransfer, owner: object) {
    this.#wasm = wasm;
    this.#owner = owner;
    this.peer = wasm.peer();
    this.id = wasm.id();
    this.offer = wasm.offer();
  }

  /**
   * Takes it. Nothing is given that has not been verified, and nothing twice.
   *
   * @throws {@link TransferError} `gone` when it was answered before, waited too long, or its sender gave it up.
   */
  async accept(options: AcceptOptions = {}): Promise<AcceptedTransfer> {
    options.signal?.throwIfAborted();
    let readOn = () => {};
    let controller!: ReadableStreamDefaultController<Uint8Array>;
    let transfer: Transfer | undefined;
    const stream = new ReadableStream<Uint8Array>(
      {
        start: (given) => {
          controller = given;
        },
        pull: () => readOn(),
        cancel: () => transfer?.cancel(),
      },
      { highWaterMark: WAITING, size: (chunk) => chunk?.byteLength ?? 0 },
    );
    const write = (bytes: Uint8Array) => {
      controller.enqueue(bytes);
      return (controller.desiredSize ?? 0) > 0 ? undefined : new Promise<void>((resolve) => (readOn = resolve));
    };
    const read = options.have === undefined ? undefined : partsOf(options.have);
    const wasm = await translatedLater(() => this.#wasm.accept(read, write, () => controller.close(), options.atMost));
    const begun = new Transfer(wasm, this.#owner, options);
    transfer = begun;
    begun.finished.catch((error: unknown) => {
      // One that was cancelled by its reader has ended already.
      try {
        controller.error(toCpcError(error));
      } catch {}
    });
    const kind = this.offer.kind;
    return {
      transfer: begun,
      stream,
      blob: async () => {
        const whole = await new Response(stream).blob();
        return whole.slice(0, whole.size, kind);
      },
    };
  }

  /**
   * Refuses it, with a reason for people.
   *
   * @throws {@link TransferError} `gone` when it was answered before.
   */
  refuse(reason = ""): void {
    translated(() => this.#wasm.refuse(reason));
  }
}

/** The offers of the wasm side as this package's. */
export function offersOf(source: WasmStream<WasmIncomingTransfer>, owner: object): WasmStream<IncomingTransfer> {
  return {
    next: async () => {
      const wasm = await source.next();
      return wasm === undefined ? undefined : new IncomingTransfer(wasm, owner);
    },
    close: () => source.close(),
    free: () => source.free(),
  };
}
