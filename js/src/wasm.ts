/**
 * The seam between this package and the compiled network: what the wasm module offers, and the one place that loads it.
 *
 * The interfaces are written by hand so that the rest of the package can be checked and tested without a compiled
 * module; `npm run check:surface` compares them with the declarations that wasm-bindgen generates.
 */

import type { BroadcastScope } from "./generated/BroadcastScope.js";
import type { ConnectionState } from "./generated/ConnectionState.js";
import type { DiscoverTarget } from "./generated/DiscoverTarget.js";
import type { MessageKind } from "./generated/MessageKind.js";
import type { NetworkEvent } from "./generated/NetworkEvent.js";
import type { NetworkStats } from "./generated/NetworkStats.js";
import type { NetworkStatus } from "./generated/NetworkStatus.js";
import type { PeerInfo } from "./generated/PeerInfo.js";
import type { Priority } from "./generated/Priority.js";
import type { Propagation } from "./generated/Propagation.js";
import type { ReceiptState } from "./generated/ReceiptState.js";
import type { ReceivedMessage } from "./generated/ReceivedMessage.js";
import type { TransferDirection } from "./generated/TransferDirection.js";
import type { TransferProgress } from "./generated/TransferProgress.js";
import type { TransferOffer } from "./types.js";

/** Where the wasm module can come from; the same that `fetch` or `WebAssembly.instantiate` takes. */
export type InitInput = string | URL | Request | Response | BufferSource | WebAssembly.Module;

/** A stream of the wasm module. Only one `next` may be pending; `close` wakes it with `undefined`. */
export interface WasmStream<Item> {
  next(): Promise<Item | undefined>;
  close(): void;
  /** Must not be called while a `next` is pending. */
  free(): void;
}

/** The stream of received messages. */
export interface WasmMessageStream extends WasmStream<ReceivedMessage> {
  /** Confirms the message that was given last. */
  confirm(): void;
}

/** The receipt of a direct message. */
export interface WasmReceipt {
  id(): string;
  recipient(): string;
  /** Settles at once when the message has ended. */
  accepted(): Promise<void>;
  state(): ReceiptState;
  delivered(): Promise<void>;
  /** Must not be called while an `accepted` or a `delivered` is pending. */
  free(): void;
}

/** A transfer under way. */
export interface WasmTransfer {
  id(): string;
  peer(): string;
  direction(): TransferDirection;
  progress(): TransferProgress;
  finished(): Promise<string>;
  cancel(): void;
  /** Must not be called while a `finished` is pending. */
  free(): void;
}

/** An offer of another node. */
export interface WasmIncomingTransfer {
  peer(): string;
  id(): string;
  offer(): TransferOffer;
  accept(
    read: ((offset: number, length: number) => Promise<Uint8Array>) | null | undefined,
    write: (bytes: Uint8Array) => Promise<void> | undefined,
    close: () => void,
    atMost?: number,
  ): Promise<WasmTransfer>;
  refuse(reason: string): void;
  free(): void;
}

/** A running node. */
export interface WasmNetworkHandler {
  localPeerId(): string;
  listenAddrs(): string[];
  connect(target: string): Promise<string>;
  disconnect(peer: string): Promise<void>;
  sendMessage(
    peer: string,
    kind: MessageKind,
    payload: Uint8Array,
    ttl: number | undefined,
    priority: Priority,
  ): WasmReceipt;
  receipts(): WasmReceipt[];
  broadcast(
    kind: MessageKind,
    payload: Uint8Array,
    ttl: number | undefined,
    propagation: Propagation | undefined,
    priority: Priority,
    scope: BroadcastScope,
  ): string;
  joinGroup(name: string): void;
  leaveGroup(name: string): void;
  discoverPeers(target: DiscoverTarget): void;
  connectionState(peer: string): ConnectionState;
  peers(): PeerInfo[];
  peerInfo(peer: string): PeerInfo | undefined;
  status(): NetworkStatus;
  networkStats(): NetworkStats;
  events(): WasmStream<NetworkEvent>;
  messages(): WasmMessageStream;
  sendTransfer(
    peer: string,
    name: string,
    kind: string,
    meta: Uint8Array,
    length: number | null | undefined,
    hash: string | null | undefined,
    bytes: Uint8Array | null | undefined,
    read: ((offset: number, length: number) => Promise<Uint8Array>) | null | undefined,
    pull: (() => Promise<Uint8Array | undefined>) | null | undefined,
  ): WasmTransfer;
  transfers(): WasmStream<WasmIncomingTransfer>;
  shutdown(): Promise<void>;
  free(): void;
}

/** The module as wasm-bindgen writes it for `--target web`. */
export interface WasmModule {
  /** Compiles and starts the module; without an address it is looked for next to the glue code. */
  default(options?: { module_or_path: InitInput | Promise<InitInput> }): Promise<unknown>;
  WasmNetworkHandler: { create(config: unknown): Promise<WasmNetworkHandler> };
  version(): string;
}

/** Loads the glue code; the module itself is not compiled before its `default` is called. */
export async function importGlue(): Promise<WasmModule> {
  // @ts-ignore: the build puts the generated glue beside the compiled form of this file, so it can't be seen from here.
  return await import("./wasm/cpc_net.js");
}
