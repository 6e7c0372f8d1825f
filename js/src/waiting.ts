/** Waiting that can be given up, and tidying up that does not depend on anybody remembering it. */

/**
 * `Symbol.asyncDispose`, also where the engine lacks it: compilers and polyfills agree on the registered symbol of that
 * name, or define `Symbol.asyncDispose` before this module is loaded.
 */
export const asyncDispose: typeof Symbol.asyncDispose =
  (Symbol as { asyncDispose?: typeof Symbol.asyncDispose }).asyncDispose ??
  (Symbol.for("Symbol.asyncDispose") as typeof Symbol.asyncDispose);

/**
 * Waits for `promise` until `signal` is aborted; then rejects with the signal's reason. What is going on can't be
 * stopped by that: should a result still come, it goes to `late`.
 */
export function abortable<Result>(
  promise: Promise<Result>,
  signal: AbortSignal | undefined,
  late: (result: Result) => void = () => {},
): Promise<Result> {
  if (signal === undefined) {
    return promise;
  }
  return new Promise((resolve, reject) => {
    const giveUp = () => {
      reject(signal.reason);
      // Its failure no longer concerns anybody.
      promise.then(late, () => {});
    };
    if (signal.aborted) {
      giveUp();
      return;
    }
    signal.addEventListener("abort", giveUp, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", giveUp));
  });
}

const owners = new WeakMap<object, object>();

/** Keeps `owner` from being collected as long as `dependent` is not. */
export function keepAlive(owner: object, dependent: object): void {
  owners.set(dependent, owner);
}

/** Tells the page of an error that no caller is there to catch, as an uncaught one would be. */
export function reportUncaught(error: unknown): void {
  if (typeof globalThis.reportError === "function") {
    globalThis.reportError(error);
  } else {
    queueMicrotask(() => {
      throw error;
    });
  }
}
