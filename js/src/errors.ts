/**
 * What can go wrong, one class per area. Every failure of this package is a {@link CpcError}, with one exception: what
 * was given up through an `AbortSignal` rejects with the signal's own reason, as everywhere on the web platform.
 */

/** What an error carries beside its message. */
export interface CpcErrorOptions {
  /** A stable name, the same in Rust, logs and metrics. */
  readonly code: string;
  /** Whether the same call may succeed later without a change. */
  readonly retryable: boolean;
  /** What it was made from. */
  readonly cause?: unknown;
}

/**
 * The base of all errors of this package. The message says what happened, to whom, and what to do about it.
 *
 * An error that is of no subclass has the code `internal`: the network's code itself failed. It can't be relied upon
 * afterwards; reload the page and report the fault.
 */
export class CpcError extends Error {
  override name = "CpcError";

  /** A stable name of what happened; programs decide by it, never by the message. */
  readonly code: string;

  /** Whether the same call may succeed later without a change. */
  readonly retryable: boolean;

  /** Makes an error of the given code. */
  constructor(message: string, options: CpcErrorOptions) {
    super(message, "cause" in options ? { cause: options.cause } : undefined);
    this.code = options.code;
    this.retryable = options.retryable;
  }
}

/**
 * A configuration that can't be used; nothing was started. The message names the field and what is allowed.
 *
 * Codes: `config_syntax`, `config_field`, `config_out_of_range`.
 */
export class ConfigError extends CpcError {
  override name = "ConfigError";
}

/**
 * The node could not be started; nothing keeps running.
 *
 * Codes: `wasm_unavailable` (the compiled module can't be fetched or compiled; retryable), `listen_failed`,
 * `store_io`, `store_damaged`, `transport_unavailable`.
 */
export class StartError extends CpcError {
  override name = "StartError";
}

/**
 * A message was not accepted; nothing was queued.
 *
 * Codes: `queue_full`, `bytes_full` and `peer_full` (retryable), `too_large`,
 * `shutting_down`, `to_self`, `not_a_member`, `reserved_kind`,
 * `recipients`.
 */
export class SendError extends CpcError {
  override name = "SendError";
}

/**
 * A connection could not be made or closed.
 *
 * Codes: `no_address`, `connect_failed`, `connect_timed_out`, `busy` (these are retryable), `to_self`,
 * `shutting_down`.
 */
export class ConnectError extends CpcError {
  override name = "ConnectError";
}

/**
 * A command that needs no answer from the network was not taken.
 *
 * Codes: `busy` (retryable), `shutting_down`, `too_many_groups`.
 */
export class CommandError extends CpcError {
  override name = "CommandError";
}

/**
 * An accepted message was not delivered.
 *
 * Codes: `unreachable`, `unacknowledged` and `shed` (retryable), `rejected`, `expired`, `shut_down`.
 */
export class DeliveryError extends CpcError {
  override name = "DeliveryError";
}

/**
 * A transfer was not begun, or will never be complete.
 *
 * Codes: `too_many`, `busy`, `peer_busy`, `unanswered`, `unreachable`, `relay_limited`, `stalled`, `corrupt` (these are
 * retryable), `invalid_offer`, `to_self`, `shut_down`, `refused`, `unsupported`, `cancelled`, `cancelled_by_peer`, `too_long`,
 * `wrong_length`, `wrong_hash`, `source_changed`, `source`, `writer`, `peer_failed`, `gone`.
 */
export class TransferError extends CpcError {
  override name = "TransferError";
}

/**
 * An argument that is not what it should be: a peer id, an address, a group name, a payload. The message says what was
 * expected.
 *
 * Code: `invalid_argument`.
 */
export class ArgumentError extends CpcError {
  override name = "ArgumentError";
}

const byArea: Readonly<Record<string, typeof CpcError>> = {
  config: ConfigError,
  start: StartError,
  send: SendError,
  connect: ConnectError,
  command: CommandError,
  delivery: DeliveryError,
  transfer: TransferError,
  argument: ArgumentError,
};

/** Makes a {@link CpcError} of whatever the wasm module threw. */
export function toCpcError(thrown: unknown): CpcError {
  if (thrown instanceof CpcError) {
    return thrown;
  }
  const { code, area, retryable, message } = (thrown ?? {}) as Record<string, unknown>;
  const text = typeof message === "string" ? message : String(thrown);
  if (typeof code === "string" && typeof area === "string") {
    const ErrorClass = Object.hasOwn(byArea, area) ? (byArea[area] ?? CpcError) : CpcError;
    return new ErrorClass(text, { code, retryable: retryable === true, cause: thrown });
  }
  return new CpcError(`the network's code failed: ${text}; reload the page, and report this fault`, {
    code: "internal",
    retryable: false,
    cause: thrown,
  });
}

/** Runs a call into the wasm module, its errors made ours. */
export function translated<Result>(call: () => Result): Result {
  try {
    return call();
  } catch (thrown) {
    throw toCpcError(thrown);
  }
}

/** As {@link translated}, for calls that answer later. */
export async function translatedLater<Result>(call: () => Promise<Result>): Promise<Result> {
  try {
    return await call();
  } catch (thrown) {
    throw toCpcError(thrown);
  }
}
