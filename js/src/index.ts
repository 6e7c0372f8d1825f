/// <reference lib="esnext.disposable" preserve="true" />
/**
 * A social network for an app with no server in the middle: peers that are found and kept, messages that arrive, all
 * through one {@link NetworkHandler}. The network itself is Rust compiled to WebAssembly; this package gives it the
 * manners of the web platform.
 *
 * @packageDocumentation
 */

export {
  ArgumentError,
  CommandError,
  ConfigError,
  ConnectError,
  CpcError,
  DeliveryError,
  SendError,
  StartError,
  TransferError,
  type CpcErrorOptions,
} from "./errors.js";
export { NetworkHandler } from "./handler.js";
export { init, version, type InitInput } from "./init.js";
export { Receipt } from "./receipt.js";
export { IncomingTransfer, Transfer } from "./transfer.js";
export type { MessageSubscription, Subscription } from "./stream.js";
export type * from "./types.js";
