/**
 * Telling others one's name. Everybody who has not heard it should, and a crowd that arrives at once must not lead to a
 * crowd of greetings: those asked for within a short time become one.
 */

/** How long other reasons for a greeting are awaited, in milliseconds. */
const GATHER = 300;
/** The least time between two greetings. */
const PAUSE = 2000;
/** A peer that has only just connected may not yet hear broadcasts, so it is greeted once more after this long. */
const ONCE_MORE = 3000;

/** Sends greetings, not too often. */
export class Greetings {
  readonly #send: () => void;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #last = Number.NEGATIVE_INFINITY;
  #again = false;

  /** With what sends one greeting. */
  constructor(send: () => void) {
    this.#send = send;
  }

  /** There is somebody, or something, new: a greeting is due. */
  due(once: "once" | "twice" = "once"): void {
    this.#again ||= once === "twice";
    this.#schedule(Math.max(GATHER, this.#last + PAUSE - performance.now()));
  }

  /** No more greetings. */
  stop(): void {
    clearTimeout(this.#timer);
    this.#again = false;
  }

  #schedule(delay: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#last = performance.now();
      this.#send();
      if (this.#again) {
        this.#again = false;
        this.#schedule(ONCE_MORE);
      }
    }, delay);
  }
}
