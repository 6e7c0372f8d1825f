import { ArgumentError } from "./errors.js";
import { loadedRuntime, runtime } from "./runtime.js";
import type { InitInput } from "./wasm.js";

export type { InitInput } from "./wasm.js";

/**
 * Loads and compiles the network's WebAssembly module. {@link NetworkHandler.create} does it by itself; call it earlier
 * to have the download begin earlier, or to say where the module is.
 *
 * It may be called as often as one likes: the module is compiled once, and whoever calls meanwhile waits for the same
 * compilation. After a failure the next call tries again.
 *
 * @param input - Where the module is: an address, a response, its bytes, or a compiled module. Default: the file
 *   `cpc_net_bg.wasm` beside the package's own code, which bundlers find by themselves. It is ignored when the module is
 *   there already.
 * @throws {@link StartError} with the code `wasm_unavailable` when the module can't be fetched or compiled.
 */
export async function init(input?: InitInput | Promise<InitInput>): Promise<void> {
  await runtime(input);
}

/**
 * The version of the compiled network, such as `0.1.0`.
 *
 * @throws {@link ArgumentError} when {@link init} has not finished.
 */
export function version(): string {
  const module = loadedRuntime();
  if (module === undefined) {
    throw new ArgumentError("the network's module is not loaded yet; await init() first", {
      code: "invalid_argument",
      retryable: false,
    });
  }
  return module.version();
}
