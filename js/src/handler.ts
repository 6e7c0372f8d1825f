import { ArgumentError, translated, translatedLater } from "./errors.js";
import { Receipt } from "./receipt.js";
import { runtime } from "./runtime.js";
import { MessageStream, type MessageSubscription, Stream, type Subscription } from "./stream.js";
import { type IncomingTransfer, type Transfer, offersOf, sendTransfer } from "./transfer.js";
import type {
  Abortable,
  BroadcastScope,
  ConnectionState,
  DiscoverTarget,
  MessageId,
  Multiaddr,
  NetworkEvent,
  NetworkOptions,
  NetworkStats,
  NetworkStatus,
  OutgoingMessage,
  PeerId,
  PeerInfo,
  Priority,
  ReceivedMessage,
  TransferOptions,
  TransferPayload,
} from "./types.js";
import { abortable, asyncDispose, reportUncaught } from "./waiting.js";
import type { WasmNetworkHandler } from "./wasm.js";

/** The net for nodes that nobody stops: one that can't be reached any more says goodbye instead of running on. */
const forgotten = new FinalizationRegistry<WasmNetworkHandler>(stop);

/**
 * A node of the network, and the whole API. Calls never block: what takes time returns a promise, everything else is
 * answered from snapshots that are cheap enough to read in every frame.
 *
 * Stop a node with {@link NetworkHandler.shutdown}, or bind it with `await using`. One to which no reference is left, and
 * of which no subscription is read and no receipt awaited, is stopped when the engine happens to notice.
 *
 * @example
 * ```ts
 * const net = await NetworkHandler.create({ bootstrap: [address], dataDir: "my-app" });
 * net.broadcast({ payload: "hello, everybody" });
 * for await (const message of net.messages()) {
 *   console.log(message.sender, new TextDecoder().decode(message.payload));
 * }
 * ```
 */
export class NetworkHandler implements AsyncDisposable {
  readonly #wasm: WasmNetworkHandler;

  private constructor(wasm: WasmNetworkHandler) {
    this.#wasm = wasm;
    forgotten.register(this, wasm);
  }

  /**
   * Starts a node. Calls {@link init} first if nobody has.
   *
   * @param config - What differs from the defaults. Durations are text such as `"30s"` or numbers of milliseconds.
   * @param options - With a `signal` the start can be given up; what had been started by then is stopped again.
   * @throws {@link ConfigError} when a field is unknown or out of its range.
   * @throws {@link StartError} when the node can't be started: the module, the store or a transport fails.
   */
  static async create(config: NetworkOptions = {}, options: Abortable = {}): Promise<NetworkHandler> {
    options.signal?.throwIfAborted();
    const module = await abortable(runtime(), options.signal);
    const starting = translatedLater(() => module.WasmNetworkHandler.create(withoutUndefined(config)));
    return new NetworkHandler(await abortable(starting, options.signal, stop));
  }

  /** The identity of this node. */
  localPeerId(): PeerId {
    return translated(() => this.#wasm.localPeerId());
  }

  /** The addresses this node can be reached at, without its peer id; in a browser those at relays. */
  listenAddrs(): Multiaddr[] {
    return translated(() => this.#wasm.listenAddrs());
  }

  /**
   * Connects to a peer, and keeps the connection up from then on.
   *
   * @param target - A peer id, or an address.
   * @param options - With a `signal` the waiting can be given up; the attempt itself goes on to its own end.
   * @returns The peer's id.
   * @throws {@link ConnectError} when no address leads to the peer.
   * @throws {@link ArgumentError} when the target is neither a peer id nor an address.
   */
  async connect(target: PeerId | Multiaddr, options: Abortable = {}): Promise<PeerId> {
    options.signal?.throwIfAborted();
    return await abortable(
      translatedLater(() => this.#wasm.connect(target)),
      options.signal,
    );
  }

  /**
   * Closes the connections to a peer in good order, and does not renew them by itself.
   *
   * @throws {@link ConnectError} when the node is too busy or shutting down.
   * @throws {@link ArgumentError} when it is not a peer id.
   */
  async disconnect(peer: PeerId): Promise<void> {
    await translatedLater(() => this.#wasm.disconnect(peer));
  }

  /**
   * Sends a message to one peer: at once if it is connected, else as soon as a way is found.
   *
   * @param peer - The recipient.
   * @param message - What to send.
   * @param priority - How urgent it is. Default `"medium"`.
   * @returns The receipt: `await receipt.accepted` means that the message is stored and outlives the page, where messages
   *   are kept at all (`delivery.durability`), `await receipt.delivered` that the peer has it.
   * @throws {@link SendError} when the message is not accepted.
   * @throws {@link ArgumentError} when the peer id, the payload or the ttl is none.
   */
  sendMessage(peer: PeerId, message: OutgoingMessage, priority: Priority = "medium"): Receipt {
    const { kind, payload, ttl } = checked(message);
    return new Receipt(
      translated(() => this.#wasm.sendMessage(peer, kind, payload, ttl, priority)),
      this,
    );
  }

  /**
   * The receipts of all direct messages that have not ended, those of an earlier run included. The first call also gives
   * those of an earlier run that have ended since the start, so that none ends unseen.
   */
  receipts(): Receipt[] {
    return translated(() => this.#wasm.receipts()).map((receipt) => new Receipt(receipt, this));
  }

  /**
   * Sends a message to many. There is no receipt: who gets it is not known beforehand.
   *
   * @param message - What to send, and with `propagation` how it spreads: `"gossip"`, `"flood"`, or `{ directed: peers }`
   *   to these peers only. Default is what the configuration says (`propagation.strategy`).
   * @param priority - How urgent it is. Default `"medium"`.
   * @param scope - `"all"` for the whole network (default), `"neighbors"` for the peers connected now, or
   *   `{ group: name }` for the members of a group that this node has joined.
   * @returns The identity of the message.
   * @throws {@link SendError} when the message is not accepted.
   * @throws {@link ArgumentError} when the payload, the ttl, the propagation or the group name is none.
   */
  broadcast(message: OutgoingMessage, priority: Priority = "medium", scope: BroadcastScope = "all"): MessageId {
    const { kind, payload, ttl } = checked(message);
    return translated(() => this.#wasm.broadcast(kind, payload, ttl, message.propagation, priority, scope));
  }

  /**
   * Joins a group, so that broadcasts to it arrive here and can be sent from here.
   *
   * @param name - 1 to 64 letters, digits, `-`, `_` or `.`.
   * @throws {@link CommandError} when too many groups are joined, or the node is busy or shutting down.
   * @throws {@link ArgumentError} when the name is not well formed.
   */
  joinGroup(name: string): void {
    translated(() => this.#wasm.joinGroup(name));
  }

  /**
   * Leaves a group. Nothing happens when this node is not a member.
   *
   * @throws {@link CommandError} when the node is busy or shutting down.
   * @throws {@link ArgumentError} when the name is not well formed.
   */
  leaveGroup(name: string): void {
    translated(() => this.#wasm.leaveGroup(name));
  }

  /**
   * Begins to search for peers. What is found arrives as `peerDiscovered` events, the end as `discoveryFinished`.
   *
   * @param target - `"all"` (default) for every way of searching, `{ peer: id }` for one peer across the network.
   *   `"localNetwork"` finds nobody in a browser.
   * @throws {@link CommandError} when the node is busy or shutting down.
   * @throws {@link ArgumentError} when the target holds no peer id.
   */
  discoverPeers(target: DiscoverTarget = "all"): void {
    translated(() => this.#wasm.discoverPeers(target));
  }

  /**
   * The state of the connection to a peer; `"disconnected"` for one that is not known.
   *
   * @throws {@link ArgumentError} when it is not a peer id.
   */
  connectionState(peer: PeerId): ConnectionState {
    return translated(() => this.#wasm.connectionState(peer));
  }

  /** Every known peer, connected ones first. */
  peers(): PeerInfo[] {
    return translated(() => this.#wasm.peers());
  }

  /**
   * What is known of one peer; `undefined` when it is not known.
   *
   * @throws {@link ArgumentError} when it is not a peer id.
   */
  peerInfo(peer: PeerId): PeerInfo | undefined {
    return translated(() => this.#wasm.peerInfo(peer)) ?? undefined;
  }

  /** How the node is doing, in one consistent snapshot. */
  status(): NetworkStatus {
    return translated(() => this.#wasm.status());
  }

  /** Counters since the start, in one consistent snapshot. */
  networkStats(): NetworkStats {
    return translated(() => this.#wasm.networkStats());
  }

  /**
   * Subscribes to what happens. The subscription begins with the call; the first one also gets what happened before.
   * One that does not keep up is told how much it missed by a `lagged` event. The last event is `stopped`.
   *
   * @param options - With a `signal` the subscription can be ended; the loop over it then ends without an error.
   */
  events(options: Abortable = {}): Subscription<NetworkEvent> {
    return new Stream(
      translated(() => this.#wasm.events()),
      this,
      options.signal,
    );
  }

  /**
   * Subscribes to received messages, each of them checked and never delivered twice. The subscription begins with the
   * call; the first one also gets what arrived before.
   *
   * With a `dataDir`, direct messages are stored before their senders hear that they have arrived, and kept until every
   * subscription that there is has confirmed them by asking for the next one. When too many wait, further ones stay with
   * their senders (`inboxFull`), so end a subscription that is not read. What was handed over and not confirmed comes again
   * after the next start, or to the next subscription, with `redelivered` set.
   *
   * @param options - With a `signal` the subscription can be ended; the loop over it then ends without an error.
   */
  messages(options: Abortable = {}): MessageSubscription {
    return new MessageStream(
      translated(() => this.#wasm.messages()),
      this,
      options.signal,
    );
  }

  /**
   * Calls a function for each received message, one after the other: a promise that it returns is awaited before the
   * next call. An error that it throws is reported like an uncaught one, and the next message is handled all the same.
   * A message is confirmed when the function is through with it, also with an error.
   *
   * @returns A function that ends the registration.
   */
  registerMessageHandler(handler: (message: ReceivedMessage) => unknown): () => void {
    const messages = this.messages();
    void (async () => {
      for await (const message of messages) {
        try {
          await handler(message);
        } catch (error) {
          reportUncaught(error);
        }
        messages.confirm();
      }
    })().catch(reportUncaught);
    return () => void messages.return();
  }

  /**
   * Sends a payload of any length to one peer, whose app is asked first. It is read as fast as it is taken, so its length
   * costs no memory; a transfer that is cut goes on where it was when the peer is connected again. Messages don't wait
   * behind it.
   *
   * @param payload - A `Blob` or `File`, a stream of bytes, bytes, or text.
   * @param options - What the receiver is told of it; a `signal` that cancels it; `onProgress`.
   * @throws {@link TransferError} when it is not begun.
   * @throws {@link ArgumentError} when the peer id, the payload or the length is none.
   */
  sendTransfer(peer: PeerId, payload: TransferPayload, options: TransferOptions = {}): Transfer {
    return sendTransfer(this.#wasm, this, peer, payload, options);
  }

  /**
   * Subscribes to the payloads that others offer. Each offer goes to one subscription, and is refused when nobody takes
   * it within `transfers.offerTimeout`.
   *
   * @param options - With a `signal` the subscription can be ended; the loop over it then ends without an error.
   */
  transfers(options: Abortable = {}): Subscription<IncomingTransfer> {
    const source = translated(() => this.#wasm.transfers());
    return new Stream(offersOf(source, this), this, options.signal);
  }

  /**
   * Stops the node: sends what is queued (for at most `delivery.drainTimeout`), says goodbye to the peers and ends all
   * subscriptions. It may be called again; every call resolves when the node has stopped. Snapshots can still be read.
   */
  async shutdown(): Promise<void> {
    await translatedLater(() => this.#wasm.shutdown());
  }

  /** As {@link NetworkHandler.shutdown}, for `await using`. */
  async [asyncDispose](): Promise<void> {
    await this.shutdown();
  }
}

/** Stops a node that nobody has a hand on any more, so nobody is there to hear of a failure either. */
function stop(wasm: WasmNetworkHandler): void {
  void (async () => {
    await wasm.shutdown();
    wasm.free();
  })().catch(() => {});
}

/** Plain objects lose their undefined fields at every depth: to the wasm side such a field is one set to nothing. */
function withoutUndefined(value: unknown): unknown {
  if (value === null || typeof value !== "object" || Array.isArray(value)) {
    return value;
  }
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, field]) => field !== undefined)
      .map(([name, field]) => [name, withoutUndefined(field)]),
  );
}

const utf8 = new TextEncoder();

/** What only a caller without types can get wrong is checked all the same, as the wasm side would misread it. */
function checked({ kind = "event", payload, ttl }: OutgoingMessage): {
  kind: NonNullable<OutgoingMessage["kind"]>;
  payload: Uint8Array;
  ttl: number | undefined;
} {
  if (ttl !== undefined && !(Number.isFinite(ttl) && ttl > 0)) {
    throw invalid(`a ttl of ${String(ttl)} is not a time to live: expected milliseconds, more than 0`);
  }
  if (typeof payload === "string") {
    return { kind, payload: utf8.encode(payload), ttl };
  }
  if (Object.prototype.toString.call(payload) !== "[object Uint8Array]") {
    throw invalid(`a payload of type ${typeof payload} can't be sent: expected a Uint8Array or a string`);
  }
  return { kind, payload, ttl };
}

function invalid(message: string): ArgumentError {
  return new ArgumentError(message, { code: "invalid_argument", retryable: false });
}
