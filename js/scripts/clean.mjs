// Removes what an earlier build left, so that a file without a source can't be published.
import { rm } from "node:fs/promises";

await rm(new URL("../dist/", import.meta.url), { recursive: true, force: true });
