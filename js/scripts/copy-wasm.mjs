// Puts the compiled network beside the code that loads it: wasm/ -> dist/wasm/.
import { access, cp } from "node:fs/promises";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";

const from = fileURLToPath(new URL("../wasm/", import.meta.url));
const to = fileURLToPath(new URL("../dist/wasm/", import.meta.url));

for (const needed of ["cpc_net.js", "cpc_net_bg.wasm"]) {
  try {
    await access(from + needed);
  } catch {
    console.error(
      `js/wasm/${needed} is missing: the Rust part has to be compiled first.\n` +
        "`cargo xtask demo` does everything; by hand:\n" +
        "  cargo build --lib --target wasm32-unknown-unknown --features js --profile web\n" +
        "  wasm-bindgen --target web --out-name cpc_net --out-dir js/wasm <target directory>/wasm32-unknown-unknown/web/cpc_net.wasm",
    );
    process.exit(1);
  }
}

// The package's own types describe the surface, so the generated declarations are not published.
await cp(from, to, { recursive: true, filter: (file) => !file.endsWith(".d.ts") && basename(file) !== ".gitignore" });
