/** Waiting for a state that nothing announces: it is looked at again and again, up to an end. */

import { setTimeout } from "node:timers/promises";

/** Longer than WebRTC streams linger for their last answer (10 s), and connections to be given up by the other side. */
const PATIENCE = 20_000;

/** What `look` gives once `good` is content with it. */
export async function eventually(look, good, what = "it is so") {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const seen = await look();
    if (good(seen)) {
      return seen;
    }
    if (Date.now() > end) {
      throw new Error(`not within ${PATIENCE} ms: ${what}; it is ${JSON.stringify(seen)}`);
    }
    await setTimeout(100);
  }
}
