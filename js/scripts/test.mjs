// Compiles the tests of the package in the current folder together with the sources they look into, and runs them in
// plain Node, without the wasm module.
import { spawnSync } from "node:child_process";
import { readdir, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

const compiled = join("test", "dist");

function run(...words) {
  const { status } = spawnSync(process.execPath, words, { stdio: "inherit" });
  if (status !== 0) {
    process.exit(status ?? 1);
  }
}

await rm(compiled, { recursive: true, force: true });
const typescript = dirname(createRequire(import.meta.url).resolve("typescript/package.json"));
run(join(typescript, "bin", "tsc"), "-p", join("test", "tsconfig.json"));

const files = (await readdir(join(compiled, "test"))).filter((name) => name.endsWith(".test.js"));
run("--test", "--expose-gc", "--enable-source-maps", ...files.map((name) => join(compiled, "test", name)));
