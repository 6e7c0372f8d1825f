/**
 * The vocabulary: plain objects and unions without behaviour. Those under `generated/` are written from the Rust types,
 * so they can't differ from what the network delivers.
 */

import type { MessageKind } from "./generated/MessageKind.js";
import type { TransferProgress } from "./generated/TransferProgress.js";
import type { NetworkConfig } from "./generated/NetworkConfig.js";
import type { Propagation } from "./generated/Propagation.js";

export type { Duration } from "./duration.js";
export type { Authenticity } from "./generated/Authenticity.js";
export type { BandwidthConfig } from "./generated/BandwidthConfig.js";
export type { BroadcastScope } from "./generated/BroadcastScope.js";
export type { ConnectionKind } from "./generated/ConnectionKind.js";
export type { ConnectionsConfig } from "./generated/ConnectionsConfig.js";
export type { ConnectionState } from "./generated/ConnectionState.js";
export type { Delivery } from "./generated/Delivery.js";
export type { DeliveryConfig } from "./generated/DeliveryConfig.js";
// The same facts as the class `DeliveryError`, as a plain object inside a `ReceiptState`.
export type { DeliveryError as DeliveryFailure } from "./generated/DeliveryError.js";
export type { DiscoverTarget } from "./generated/DiscoverTarget.js";
export type { DiscoveryConfig } from "./generated/DiscoveryConfig.js";
export type { DiscoverySource } from "./generated/DiscoverySource.js";
export type { Durability } from "./generated/Durability.js";
export type { GroupName } from "./generated/GroupName.js";
export type { IceServer } from "./generated/IceServer.js";
export type { LimitsConfig } from "./generated/LimitsConfig.js";
export type { MessageId } from "./generated/MessageId.js";
export type { MessageKind } from "./generated/MessageKind.js";
export type { NetworkConfig } from "./generated/NetworkConfig.js";
export type { NetworkEvent } from "./generated/NetworkEvent.js";
export type { NetworkStats } from "./generated/NetworkStats.js";
export type { NetworkStatus } from "./generated/NetworkStatus.js";
export type { PeerInfo } from "./generated/PeerInfo.js";
export type { PerPriority } from "./generated/PerPriority.js";
export type { Phase } from "./generated/Phase.js";
export type { Priority } from "./generated/Priority.js";
export type { Propagation } from "./generated/Propagation.js";
export type { MailboxConfig } from "./generated/MailboxConfig.js";
export type { MailboxStats } from "./generated/MailboxStats.js";
export type { PropagationConfig } from "./generated/PropagationConfig.js";
export type { PropagationStats } from "./generated/PropagationStats.js";
export type { QueueReason } from "./generated/QueueReason.js";
export type { ReceiptState } from "./generated/ReceiptState.js";
export type { ReceivedMessage } from "./generated/ReceivedMessage.js";
export type { RejectReason } from "./generated/RejectReason.js";
export type { RelayConfig } from "./generated/RelayConfig.js";
export type { Security } from "./generated/Security.js";
export type { StateCause } from "./generated/StateCause.js";
export type { Strategy } from "./generated/Strategy.js";
export type { StrategyStats } from "./generated/StrategyStats.js";
export type { PayloadHash } from "./generated/PayloadHash.js";
export type { TransferDirection } from "./generated/TransferDirection.js";
// The same facts as the class `TransferError`, as a plain object inside events and states.
export type { TransferError as TransferFailure } from "./generated/TransferError.js";
export type { TransferId } from "./generated/TransferId.js";
export type { TransferProgress } from "./generated/TransferProgress.js";
export type { TransfersConfig } from "./generated/TransfersConfig.js";
export type { TransportConfig } from "./generated/TransportConfig.js";
export type { Way } from "./generated/Way.js";

/** The identity of a node, in its text form such as `12D3KooW…`. */
export type PeerId = string;

/** An address in its text form, such as `/dns4/node.example/tcp/443/wss/p2p/12D3KooW…`. */
export type Multiaddr = string;

/**
 * `T` with every field optional at every depth; lists are given whole. A field that is `undefined` counts as not given.
 */
export type DeepPartial<T> = T extends readonly unknown[]
  ? T
  : T extends object
    ? { [Key in keyof T]?: DeepPartial<T[Key]> | undefined }
    : T;

/** What {@link NetworkHandler.create} takes: any part of a {@link NetworkConfig}, the rest has defaults. */
export type NetworkOptions = DeepPartial<NetworkConfig>;

/** The kinds of messages that an app can send: all but those this version does not know. */
export type SendableKind = Exclude<MessageKind, object>;

/** A message to send. */
export interface OutgoingMessage {
  /** What it is for. Default `"event"`. */
  readonly kind?: SendableKind | undefined;
  /** The content: bytes, or text, which travels as UTF-8. Its limit in bytes is `limits.maxPayload`. */
  readonly payload: Uint8Array | string;
  /**
   * How long the message stays worth delivering, in milliseconds, more than 0; afterwards it is not delivered any more,
   * wherever it waits. Default: as long as the network's own limits allow.
   */
  readonly ttl?: number | undefined;
  /**
   * How it spreads when it is broadcast to all or to a group; elsewhere it means nothing. Default: what the configuration
   * says (`propagation.strategy`).
   */
  readonly propagation?: Propagation | undefined;
}

/** What a receiver is told of a payload before it takes it. All of it is the sender's word. */
export interface TransferOffer {
  /** For people, such as a file's name; never a path to be trusted. */
  readonly name: string;
  /** A media type, or the app's own word. */
  readonly kind: string;
  /** The app's own. */
  readonly meta: Uint8Array;
  /** Bytes in all; `null` when that is not known before the end. */
  readonly length: number | null;
  /** The payload's BLAKE3 hash, when it is promised. */
  readonly hash: string | null;
}

/** What is said of a payload that is sent, and how to give it up. */
export interface TransferOptions extends Abortable {
  /** For people, such as a file's name; at most 255 bytes. Default: the `File`'s own, else nothing. */
  readonly name?: string | undefined;
  /** A media type, or the app's own word; at most 127 bytes. Default: the `Blob`'s own type, else nothing. */
  readonly kind?: string | undefined;
  /** The app's own, at most 4096 bytes; text travels as UTF-8. */
  readonly meta?: Uint8Array | string | undefined;
  /** Bytes in all, where the payload is a stream; known by itself otherwise. */
  readonly length?: number | undefined;
  /** The payload's BLAKE3 hash, 64 hexadecimal digits: the receiver then takes nothing else. */
  readonly hash?: string | undefined;
  /** Called some times a second while it goes on, and at its end. */
  readonly onProgress?: ((progress: TransferProgress) => void) | undefined;
}

/** What can be sent as a transfer. A stream may be read once only; of the others a cut transfer reads again. */
export type TransferPayload = Blob | ReadableStream<Uint8Array> | Uint8Array | string;

/** What can be waited for can be given up. */
export interface Abortable {
  /** Ends the waiting when it is aborted. */
  readonly signal?: AbortSignal | undefined;
}
