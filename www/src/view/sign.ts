/** The sign in the header: whether this page is part of the network. */

import type { SignPhase, State } from "../state.js";
import { byId, part, setAttribute, setText } from "./dom.js";

const titles: Record<SignPhase, string> = {
  starting: "Starting…",
  connecting: "Connecting…",
  alone: "Alone",
  online: "Connected",
  stopping: "Stopping…",
  stopped: "Stopped",
  failed: "Not started",
};

/** Shows the sign; the result brings it up to date. */
export function mountSign(state: State): () => void {
  const sign = byId("sign");
  const title = part(sign, "title");
  const detail = part(sign, "detail");
  return () => {
    setAttribute(sign, "data-phase", state.phase);
    setText(title, titles[state.phase]);
    setText(detail, state.phaseDetail);
  };
}
