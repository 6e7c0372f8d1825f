/** Waiting for what is to happen, never for time to pass: every wait has an end, and says what did not come. */

/** How long something may take that takes a moment, on a machine however busy. In milliseconds. */
export const PATIENCE = 15_000;

/** The promise's own outcome, unless it takes too long. `describe` adds to the error what is known by then. */
export async function within(promise, what, milliseconds = PATIENCE, describe = () => "") {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => {
      reject(new Error(`not within ${milliseconds} ms: ${what}\n${describe()}`.trim()));
    }, milliseconds);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Things that come one after the other, and can be awaited whether they come later or are here already. */
export class Journal {
  #entries = [];
  #waiting = new Set();
  #ended;

  /** Something has come. */
  add(entry) {
    this.#entries.push(entry);
    for (const waiting of [...this.#waiting]) {
      waiting.look();
    }
  }

  /** Nothing more will come; whoever still waits is told why. */
  end(why) {
    this.#ended = why;
    for (const waiting of [...this.#waiting]) {
      waiting.look();
    }
  }

  /** How many have come so far: a place from which `first` can look. */
  get length() {
    return this.#entries.length;
  }

  /** All that have come since the given place. */
  since(place = 0) {
    return this.#entries.slice(place);
  }

  /** The first that is wanted, from the given place on. */
  async first(wanted, what, { since = 0, patience = PATIENCE, describe } = {}) {
    let place = since;
    const found = new Promise((resolve, reject) => {
      const waiting = {
        look: () => {
          while (place < this.#entries.length) {
            const entry = this.#entries[place];
            place += 1;
            if (wanted(entry)) {
              this.#waiting.delete(waiting);
              resolve(entry);
              return;
            }
          }
          if (this.#ended !== undefined) {
            this.#waiting.delete(waiting);
            reject(new Error(`${this.#ended} before this came: ${what}\n${describe?.() ?? ""}`.trim()));
          }
        },
      };
      this.#waiting.add(waiting);
      waiting.look();
    });
    return await within(found, what, patience, describe);
  }
}
