import { toCpcError, translated } from "./errors.js";
import { asyncDispose, keepAlive } from "./waiting.js";
import type { WasmStream } from "./wasm.js";

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
