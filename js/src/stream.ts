import { toCpcError, translated } from "./errors.js";
import type { ReceivedMessage } from "./types.js";
import { asyncDispose, keepAlive } from "./waiting.js";
import type { WasmMessageStream, WasmStream } from "./wasm.js";

/**
 * The items of a subscription, in order, for one `for await` loop. Leaving the loop, `return()`, `await using` and the
 * signal given at subscribing end it; so does the end of the node.
 */
export interface Subscription<Item> extends AsyncIterableIterator<Item>, AsyncDisposable {
  /** Waits for the next item; `done` when the subscription has ended. Rejects with a {@link CpcError}. */
  next(): Promise<IteratorResult<Item, undefined>>;
  /** Ends the subscription; a `next` that waits is answered with `done`. */
  return(): Promise<IteratorResult<Item, undefined>>;
  /** The subscription itself. */
  [Symbol.asyncIterator](): Subscription<Item>;
}

/**
 * A subscription to received messages. Asking for the next message confirms the one before: direct messages are kept until
 * then, where messages are kept at all. One that was handed over and not confirmed, because the page or the subscription
 * ended first, comes again with `redelivered` set.
 */
export interface MessageSubscription extends Subscription<ReceivedMessage> {
  /**
   * Confirms the message that came last without asking for another: it does not come again. Call it before leaving a loop
   * in the middle when the message has been dealt with.
   */
  confirm(): void;
}

/** What must be let go of when a stream ends, whoever ends it. */
interface Held {
  readonly source: WasmStream<unknown>;
  readonly forgetSignal: () => void;
}

/** The net for streams that nobody ends: a stream left alone must not collect events for ever. */
const abandoned = new FinalizationRegistry<Held>(({ source, forgetSignal }) => {
  forgetSignal();
  source.close();
  source.free();
});

/**
 * A subscription as an async iterator. Main invariants: the wasm stream is asked for one item at a time, and it is freed
 * exactly once, when the stream ends and no `next` of it is pending.
 */
export class Stream<Item> implements Subscription<Item> {
  readonly #source: WasmStream<Item>;
  readonly #forgetSignal: () => void;
  #ended = false;
  #pulling = false;
  #last: Promise<unknown> = Promise.resolve();

  constructor(source: WasmStream<Item>, owner: object, signal: AbortSignal | undefined) {
    this.#source = source;
    // A node must not be collected, and so stopped, while somebody listens to it.
    keepAlive(owner, this);
    // The signal may live longer than this stream and must not keep it alive.
    const self = new WeakRef(this);
    const end = () => {
      const stream = self.deref();
      if (stream !== undefined) {
        stream.#end();
      }
    };
    signal?.addEventListener("abort", end, { once: true });
    this.#forgetSignal = () => signal?.removeEventListener("abort", end);
    abandoned.register(this, { source, forgetSignal: this.#forgetSignal }, this);
    if (signal?.aborted) {
      this.#end();
    }
  }

  next(): Promise<IteratorResult<Item, undefined>> {
    const result = this.#last.then(() => this.#pull());
    this.#last = result.catch(() => {});
    return result;
  }

  return(): Promise<IteratorResult<Item, undefined>> {
    this.#end();
    return Promise.resolve({ done: true, value: undefined });
  }

  throw(error?: unknown): Promise<IteratorResult<Item, undefined>> {
    this.#end();
    return Promise.reject(error);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [asyncDispose](): Promise<void> {
    this.#end();
  }

  async #pull(): Promise<IteratorResult<Item, undefined>> {
    if (this.#ended) {
      return { done: true, value: undefined };
    }
    this.#pulling = true;
    try {
      const value = await this.#source.next();
      if (value !== undefined && !this.#ended) {
        return { done: false, value };
      }
      this.#end();
      return { done: true, value: undefined };
    } catch (thrown) {
      this.#end();
      throw toCpcError(thrown);
    } finally {
      this.#pulling = false;
      if (this.#ended) {
        this.#source.free();
      }
    }
  }

  /** Whether the source may be asked for something right now. */
  protected get idle(): boolean {
    return !this.#ended && !this.#pulling;
  }

  #end(): void {
    if (this.#ended) {
      return;
    }
    this.#ended = true;
    abandoned.unregister(this);
    this.#forgetSignal();
    translated(() => this.#source.close());
    if (!this.#pulling) {
      this.#source.free();
    }
  }
}

/** The messages' subscription. */
export class MessageStream extends Stream<ReceivedMessage> implements MessageSubscription {
  readonly #messages: WasmMessageStream;

  constructor(source: WasmMessageStream, owner: object, signal: AbortSignal | undefined) {
    super(source, owner, signal);
    this.#messages = source;
  }

  confirm(): void {
    // While a `next` is pending all before it is confirmed already; after the end nothing can be.
    if (this.idle) {
      translated(() => this.#messages.confirm());
    }
  }
}
