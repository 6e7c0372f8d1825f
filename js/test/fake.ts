/** A stand-in for the compiled network: it keeps what it is told and does what the test says. */

import { replaceGlue } from "../src/runtime.js";
import type {
  NetworkEvent,
  NetworkStats,
  NetworkStatus,
  PeerInfo,
  ReceiptState,
  ReceivedMessage,
  TransferProgress,
} from "../src/index.js";
import type {
  WasmIncomingTransfer,
  WasmMessageStream,
  WasmModule,
  WasmNetworkHandler,
  WasmReceipt,
  WasmStream,
  WasmTransfer,
} from "../src/wasm.js";

/** A promise with its ends in hand. */
export class Later<Value> {
  resolve!: (value: Value) => void;
  reject!: (error: unknown) => void;
  readonly promise = new Promise<Value>((resolve, reject) => {
    this.resolve = resolve;
    this.reject = reject;
  });
}

/** An error as the wasm side throws them. */
export function wasmError(area: string, code: string, retryable: boolean, message = `${area} ${code}`): Error {
  return Object.assign(new Error(message), { area, code, retryable });
}

export class FakeStream<Item> implements WasmStream<Item> {
  closed = 0;
  freed = 0;
  #waiting: Later<Item | undefined> | undefined;
  readonly #items: Item[] = [];

  push(item: Item): void {
    if (this.#waiting === undefined) {
      this.#items.push(item);
    } else {
      this.#answer(item);
    }
  }

  /** The node has stopped, or `close` was called. */
  finish(): void {
    this.closed += 1;
    this.#answer(undefined);
  }

  fail(error: unknown): void {
    this.#waiting?.reject(error);
    this.#waiting = undefined;
  }

  next(): Promise<Item | undefined> {
    if (this.freed > 0) {
      throw new Error("next after free");
    }
    if (this.#waiting !== undefined) {
      throw new Error("two nexts at a time");
    }
    const item = this.#items.shift();
    if (item !== undefined || this.closed > 0) {
      return Promise.resolve(item);
    }
    this.#waiting = new Later();
    return this.#waiting.promise;
  }

  close(): void {
    if (this.freed > 0) {
      throw new Error("close after free");
    }
    this.finish();
  }

  free(): void {
    if (this.#waiting !== undefined) {
      throw new Error("free while a next is pending");
    }
    this.freed += 1;
  }

  #answer(item: Item | undefined): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.resolve(item);
  }
}

/** A stream of messages that counts confirmations. */
export class FakeMessageStream extends FakeStream<ReceivedMessage> implements WasmMessageStream {
  confirmed = 0;

  confirm(): void {
    if (this.freed > 0) {
      throw new Error("confirm after free");
    }
    this.confirmed += 1;
  }
}

export class FakeReceipt implements WasmReceipt {
  current: ReceiptState = { state: "queued", why: { type: "turn" } };
  asked = 0;
  freed = 0;
  readonly storing = new Later<void>();
  readonly end = new Later<void>();

  id(): string {
    return "12D3KooWme/1";
  }

  recipient(): string {
    return "12D3KooWyou";
  }

  accepted(): Promise<void> {
    if (this.freed > 0) {
      throw new Error("accepted after free");
    }
    return Promise.race([this.storing.promise, this.end.promise]);
  }

  state(): ReceiptState {
    if (this.freed > 0) {
      throw new Error("state after free");
    }
    return this.current;
  }

  delivered(): Promise<void> {
    this.asked += 1;
    return this.end.promise;
  }

  free(): void {
    this.freed += 1;
  }
}

export class FakeTransfer implements WasmTransfer {
  current: TransferProgress = { transferred: 0, length: null, state: "running" };
  cancelled = 0;
  readonly end = new Later<string>();

  id = () => "ab".repeat(16);
  peer = () => "12D3KooWyou";
  direction = () => "outgoing" as const;
  progress = () => this.current;
  finished = () => this.end.promise;

  cancel(): void {
    this.cancelled += 1;
  }

  free(): void {}
}

export class FakeIncomingTransfer implements WasmIncomingTransfer {
  readonly transfer = new FakeTransfer();
  refused: string | undefined;
  have: ((offset: number, length: number) => Promise<Uint8Array>) | null | undefined;
  write!: (bytes: Uint8Array) => Promise<void> | undefined;
  close!: () => void;
  atMost: number | undefined;

  peer = () => "12D3KooWyou";
  id = () => "ab".repeat(16);
  offer = () => ({ name: "a.txt", kind: "text/plain", meta: new Uint8Array(), length: 5, hash: null });

  accept: WasmIncomingTransfer["accept"] = async (have, write, close, atMost) => {
    Object.assign(this, { have, write, close, atMost });
    return this.transfer;
  };

  refuse(reason: string): void {
    this.refused = reason;
  }

  free(): void {}
}

export class FakeHandler implements WasmNetworkHandler {
  /** Every call with its arguments, in order. */
  readonly calls: unknown[][] = [];
  /** Thrown by the next call. */
  error: unknown;
  readonly receiptsSent: FakeReceipt[] = [];
  /** What an earlier run has left. */
  readonly receiptsKept: FakeReceipt[] = [];
  readonly eventStreams: FakeStream<NetworkEvent>[] = [];
  readonly messageStreams: FakeMessageStream[] = [];
  readonly connecting = new Later<string>();
  readonly stopped = new Later<void>();
  freed = 0;

  #call<Answer>(name: string, words: unknown[], answer: Answer): Answer {
    this.calls.push([name, ...words]);
    if (this.error !== undefined) {
      throw this.error;
    }
    return answer;
  }

  localPeerId = () => this.#call("localPeerId", [], "12D3KooWme");
  listenAddrs = () => this.#call("listenAddrs", [], ["/memory/1"]);
  connect = async (...words: unknown[]) => await this.#call("connect", words, this.connecting.promise);
  disconnect = async (...words: unknown[]) => this.#call("disconnect", words, undefined);
  broadcast = (...words: unknown[]) => this.#call("broadcast", words, "12D3KooWme/2");
  joinGroup = (...words: unknown[]) => this.#call("joinGroup", words, undefined);
  leaveGroup = (...words: unknown[]) => this.#call("leaveGroup", words, undefined);
  discoverPeers = (...words: unknown[]) => this.#call("discoverPeers", words, undefined);
  connectionState = (...words: unknown[]) => this.#call("connectionState", words, "connected" as const);
  peers = () => this.#call("peers", [], [] as PeerInfo[]);
  peerInfo = (...words: unknown[]) => this.#call("peerInfo", words, undefined);
  status = () => this.#call("status", [], { phase: "online" } as NetworkStatus);
  networkStats = () => this.#call("networkStats", [], { outbox: 3 } as NetworkStats);

  sendMessage = (...words: unknown[]) => {
    this.#call("sendMessage", words, undefined);
    this.receiptsSent.push(new FakeReceipt());
    return this.receiptsSent.at(-1) as FakeReceipt;
  };

  receipts = () => {
    this.#call("receipts", [], undefined);
    return [...this.receiptsKept];
  };

  events = () => {
    this.#call("events", [], undefined);
    this.eventStreams.push(new FakeStream());
    return this.eventStreams.at(-1) as FakeStream<NetworkEvent>;
  };

  messages = () => {
    this.#call("messages", [], undefined);
    this.messageStreams.push(new FakeMessageStream());
    return this.messageStreams.at(-1) as FakeMessageStream;
  };

  readonly transfersSent: FakeTransfer[] = [];
  readonly offerStreams: FakeStream<WasmIncomingTransfer>[] = [];

  sendTransfer = (...words: unknown[]) => {
    this.#call("sendTransfer", words, undefined);
    this.transfersSent.push(new FakeTransfer());
    return this.transfersSent.at(-1) as FakeTransfer;
  };

  transfers = () => {
    this.#call("transfers", [], undefined);
    this.offerStreams.push(new FakeStream());
    return this.offerStreams.at(-1) as FakeStream<WasmIncomingTransfer>;
  };

  shutdown = async () => {
    this.#call("shutdown", [], undefined);
    this.stopped.resolve();
    for (const stream of [...this.eventStreams, ...this.messageStreams]) {
      stream.finish();
    }
  };

  free(): void {
    this.freed += 1;
  }
}

export class FakeModule implements WasmModule {
  /** What `default` was called with, in order. */
  readonly inits: unknown[] = [];
  readonly configs: unknown[] = [];
  readonly handlers: FakeHandler[] = [];
  /** Awaited before a handler is there; rejects to make creation fail. */
  creating: Promise<void> = Promise.resolve();
  compiling: Promise<void> = Promise.resolve();

  default = async (options?: unknown) => {
    this.inits.push(options);
    await this.compiling;
  };

  WasmNetworkHandler = {
    create: async (config: unknown) => {
      this.configs.push(config);
      await this.creating;
      this.handlers.push(new FakeHandler());
      return this.handlers.at(-1) as FakeHandler;
    },
  };

  version = () => "0.0.0-fake";
}

/** A fresh fake in the place of the compiled network. */
export function installFake(): FakeModule {
  const module = new FakeModule();
  replaceGlue(async () => module);
  return module;
}

/** Collects garbage until `done` says so; `--expose-gc` is given by the test script. */
export async function collectUntil(done: () => boolean): Promise<void> {
  const collect = (globalThis as { gc?: () => void }).gc;
  if (collect === undefined) {
    throw new Error("run with node --expose-gc");
  }
  const deadline = performance.now() + 10_000;
  while (!done()) {
    if (performance.now() > deadline) {
      throw new Error("was not collected within 10 s");
    }
    collect();
    // Finalisation callbacks run as tasks of their own.
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** Lets everything that is ready to run do so. */
export async function settled(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}
