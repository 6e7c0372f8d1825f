/** Stories: tests that start programs. What was started ends with the story, and speaks up when the story fails. */

import { test } from "node:test";

/** A story as a whole may not take longer; each of its waits has a nearer end of its own. In milliseconds. */
const LONGEST = 180_000;

/** What a story has started. */
export class Scope {
  #closers = [];
  #reporters = [];

  /** Is called when the story ends; what was started last is ended first. */
  defer(close) {
    this.#closers.push(close);
  }

  /** Is asked for its words when the story fails. */
  report(title, describe) {
    this.#reporters.push([title, describe]);
  }

  /** What everything that was started has to say. */
  words() {
    return this.#reporters.map(([title, describe]) => `--- ${title}\n${describe()}`).join("\n");
  }

  /** Ends everything. A failure to end something is a failure of the story. */
  async end() {
    const failures = [];
    for (const close of this.#closers.splice(0).reverse()) {
      try {
        await close();
      } catch (failure) {
        failures.push(failure);
      }
    }
    if (failures.length > 0) {
      throw failures.length === 1 ? failures[0] : new AggregateError(failures, "several things did not end well");
    }
  }
}

/** A test whose body gets a `Scope`. One that takes its time by intention may say how `longest`. */
export function story(name, body, { longest = LONGEST } = {}) {
  test(name, { timeout: longest }, async (context) => {
    const scope = new Scope();
    try {
      await body(scope, context);
    } catch (failure) {
      console.error(`${name}: failed. What was said meanwhile:\n${scope.words()}\n---`);
      await scope.end().catch((another) => console.error("and something did not end well:", another));
      throw failure;
    }
    await scope.end();
  });
}
