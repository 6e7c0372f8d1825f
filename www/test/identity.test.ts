import assert from "node:assert/strict";
import { beforeEach, describe, it } from "node:test";

import { claimIdentity } from "../src/identity.js";

/** Web Locks as far as the page uses them, over all pretended tabs. */
class Locks {
  readonly held = new Set<string>();

  async request(name: string, options: LockOptions, use: (lock: object | null) => Promise<void> | undefined): Promise<void> {
    if (this.held.has(name)) {
      if (options.ifAvailable) {
        await use(null);
        return;
      }
      await new Promise((_, reject) => options.signal?.addEventListener("abort", () => reject(options.signal?.reason)));
    }
    this.held.add(name);
    await use({});
  }
}

const scope = globalThis as unknown as { sessionStorage: unknown };

function newTab(): void {
  const items = new Map<string, string>();
  scope.sessionStorage = {
    getItem: (key: string) => items.get(key) ?? null,
    setItem: (key: string, value: string) => items.set(key, value),
  };
}

describe("an identity", () => {
  let locks: Locks;
  beforeEach(() => {
    locks = new Locks();
    Object.defineProperty(globalThis, "navigator", { value: { locks }, configurable: true });
    newTab();
  });

  it("belongs to one tab", async () => {
    assert.deepEqual(await claimIdentity("cpc-demo"), { dataDir: "cpc-demo", place: 1 });
    newTab();
    assert.deepEqual(await claimIdentity("cpc-demo"), { dataDir: "cpc-demo-2", place: 2 });
    newTab();
    assert.deepEqual(await claimIdentity("other"), { dataDir: "other", place: 1 });
    assert.deepEqual([...locks.held], ["cpc-demo:cpc-demo", "cpc-demo:cpc-demo-2", "cpc-demo:other"]);
  });

  it("is kept by a tab that is reloaded, though a better one is free by now", async () => {
    locks.held.add("cpc-demo:cpc-demo");
    assert.equal((await claimIdentity("cpc-demo")).place, 2);
    locks.held.clear();
    assert.equal((await claimIdentity("cpc-demo")).place, 2);
  });

  it("is another one in a tab that was duplicated", async () => {
    assert.equal((await claimIdentity("cpc-demo")).place, 1);
    // The signal's own timer does not keep Node running.
    const awake = setInterval(() => {}, 1000);
    assert.equal((await claimIdentity("cpc-demo")).place, 2);
    clearInterval(awake);
  });

  it("is taken as it is where there are no locks, or none is asked for", async () => {
    assert.deepEqual(await claimIdentity(undefined), { dataDir: undefined, place: 1 });
    Object.defineProperty(globalThis, "navigator", { value: {}, configurable: true });
    assert.deepEqual(await claimIdentity("cpc-demo"), { dataDir: "cpc-demo", place: 1 });
  });
});
