/**
 * Compares the hand-written interface of the wasm module with the declarations that wasm-bindgen generates. It is only
 * compiled, never run, and needs `js/wasm/` to be there: `npm run check:surface -w js`.
 */

import type {
  WasmIncomingTransfer,
  WasmMessageStream,
  WasmModule,
  WasmNetworkHandler,
  WasmReceipt,
  WasmStream,
  WasmTransfer,
} from "../../src/wasm.js";
import type * as generated from "../../wasm/cpc_net.js";

/** Compiles only when `Actual` can stand for `Expected`. */
type Fits<Expected, Actual extends Expected> = Actual;

/** What the generated class has beyond the interface, apart from what wasm-bindgen adds by itself. */
type Beyond<Actual, Expected> = Exclude<keyof Actual, keyof Expected | typeof Symbol.dispose>;

/** Compiles only when nothing is left. */
type Nothing<Rest extends never> = Rest;

export type Checks = [
  Fits<WasmModule, typeof generated>,
  Fits<WasmNetworkHandler, generated.WasmNetworkHandler>,
  Fits<WasmReceipt, generated.WasmReceipt>,
  Fits<WasmStream<unknown>, generated.WasmEvents>,
  Fits<WasmMessageStream, generated.WasmMessages>,
  Fits<WasmStream<unknown>, generated.WasmTransfers>,
  Fits<WasmTransfer, generated.WasmTransfer>,
  Fits<WasmIncomingTransfer, generated.WasmIncomingTransfer>,
  Nothing<Beyond<generated.WasmTransfers, WasmStream<unknown>>>,
  Nothing<Beyond<generated.WasmTransfer, WasmTransfer>>,
  Nothing<Beyond<generated.WasmIncomingTransfer, WasmIncomingTransfer>>,
  Nothing<Beyond<generated.WasmNetworkHandler, WasmNetworkHandler>>,
  Nothing<Beyond<generated.WasmReceipt, WasmReceipt>>,
  Nothing<Beyond<generated.WasmEvents, WasmStream<unknown>>>,
  Nothing<Beyond<generated.WasmMessages, WasmMessageStream>>,
];
