/**
 * The one instance of the compiled network that a page has. Main invariant: the module is compiled at most once, however
 * often and from wherever it is asked for; only a failure is not remembered.
 */

import { StartError } from "./errors.js";
import { importGlue, type InitInput, type WasmModule } from "./wasm.js";

let loadGlue: () => Promise<WasmModule> = importGlue;
let loading: Promise<WasmModule> | undefined;
let loaded: WasmModule | undefined;

/** The compiled module; the first call compiles it, from `input` if given. */
export function runtime(input?: InitInput | Promise<InitInput>): Promise<WasmModule> {
  loading ??= load(input).catch((error: unknown) => {
    loading = undefined;
    throw error;
  });
  return loading;
}

/** The compiled module if it is there already. */
export function loadedRuntime(): WasmModule | undefined {
  return loaded;
}

/** Puts another module in place of the compiled one and forgets what was loaded: for tests. */
export function replaceGlue(load: () => Promise<WasmModule>): void {
  loadGlue = load;
  loading = undefined;
  loaded = undefined;
}

async function load(input?: InitInput | Promise<InitInput>): Promise<WasmModule> {
  try {
    const module = await loadGlue();
    await module.default(input === undefined ? undefined : { module_or_path: input });
    loaded = module;
    return module;
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new StartError(
      `the WebAssembly part of cpc-net can't be loaded: ${reason}; see that cpc_net_bg.wasm is served beside cpc_net.js, ` +
        "or pass its address to init()",
      { code: "wasm_unavailable", retryable: true, cause },
    );
  }
}
