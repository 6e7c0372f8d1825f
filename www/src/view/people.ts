/** Who is here: every known peer, how it is connected and how far away it is. */

import type { PeerInfo } from "cpc-net";

import type { State } from "../state.js";
import { count, kindWords, span } from "../words.js";
import { showAvatar } from "./avatar.js";
import { byId, fromTemplate, part, setAttribute, setBadge, setShown, setText, showList as showKeyed } from "./dom.js";

/** Shows the peers; `open` is told with whom to talk. The result brings it up to date. */
export function mountPeople(state: State, open: (peer: string) => void): () => void {
  const here = byId("people-here");
  const away = byId("people-away");
  const awayBox = byId("people-away-box");
  const awayCount = byId("people-away-count");
  const empty = byId("people-empty");
  const emptyWords = part(empty, "words");
  const secondWindow = byId<HTMLAnchorElement>("second-window");
  const total = byId("people-count");
  const facts = byId("facts-list");
  secondWindow.href = location.href;

  const create = ({ peer }: PeerInfo): HTMLElement => {
    const item = fromTemplate("peer-template");
    setAttribute(item, "data-peer-id", peer);
    showAvatar(part(item, "avatar"), peer);
    setAttribute(part(item, "name"), "title", peer);
    part(item, "open").addEventListener("click", () => open(peer));
    return item;
  };

  const update = (item: HTMLElement, info: PeerInfo): void => {
    const { peer, kind, latency } = info;
    const name = state.nameOf(peer);
    setAttribute(item, "data-kind", kind ?? "none");
    setAttribute(item, "data-state", info.state);
    setText(part(item, "name"), name);
    setAttribute(part(item, "open"), "aria-label", `Message ${name}`);
    setAttribute(part(item, "open"), "title", `Message ${name}`);
    setBadge(part(item, "unread"), state.conversations.get(peer)?.unread ?? 0, "unread");

    const role = part(item, "role");
    const roleWords = [state.nodes.has(peer) ? "node" : "", info.relay ? "relay" : ""].filter(Boolean).join(" · ");
    setText(role, roleWords);
    setShown(role, roleWords !== "");
    setAttribute(role, "title", info.agent === null ? undefined : `It runs ${info.agent.slice(0, 64)}`);

    const chip = part(item, "kind");
    const [label, meaning] = kindLabel(info);
    setText(chip, label);
    setAttribute(chip, "title", meaning);

    const distance = part(item, "latency");
    setShown(distance, latency !== null && info.state === "connected");
    if (latency !== null) {
      setText(distance, span(latency));
      setAttribute(distance, "data-level", latency < 80 ? "near" : latency < 250 ? "middle" : "far");
      setAttribute(distance, "title", "How long a message takes there and back");
    }
  };

  return () => {
    const connected = state.peers.filter((info) => info.state === "connected" || info.state === "disconnecting");
    const others = state.peers.filter((info) => !connected.includes(info));
    showList(here, inOrder(state, connected), create, update);
    showList(away, inOrder(state, others), create, update);
    setText(total, connected.length === 0 ? "" : `${connected.length} here`);
    setShown(awayBox, others.length > 0);
    setText(awayCount, String(others.length));

    const alone = connected.every(({ peer }) => state.nodes.has(peer));
    setShown(empty, alone);
    setText(
      emptyWords,
      connected.length === 0
        ? "Nobody is connected yet."
        : `Only ${count(connected.length, "a node is", "nodes are")} here so far. Invite somebody, or be two yourself:`,
    );
    setShown(secondWindow, state.phase === "online");
    showFacts(facts, state);
  };
}

function showList(
  list: HTMLElement,
  peers: PeerInfo[],
  create: (info: PeerInfo) => HTMLElement,
  update: (item: HTMLElement, info: PeerInfo) => void,
): void {
  setShown(list, peers.length > 0);
  showKeyed(list, peers, ({ peer }) => peer, create, update);
}

/** Nodes last, people by name: an order that does not change with every measurement. */
function inOrder(state: State, peers: PeerInfo[]): PeerInfo[] {
  const rank = ({ peer }: PeerInfo) => `${state.nodes.has(peer) ? 1 : 0}${state.nameOf(peer).toLowerCase()} ${peer}`;
  return peers.toSorted((one, other) => (rank(one) < rank(other) ? -1 : 1));
}

function kindLabel({ state, kind, retryIn }: PeerInfo): [label: string, meaning: string] {
  if (state === "connected" && kind !== null) {
    const { label, meaning } = kindWords(kind);
    return [label, meaning];
  }
  if (state === "connecting") {
    return ["connecting…", "an attempt is under way"];
  }
  if (state === "disconnecting") {
    return ["leaving", "the connection is being closed"];
  }
  if (retryIn !== null) {
    return [`again in ${span(Math.max(1000, retryIn))}`, "not connected; the next attempt is planned"];
  }
  return ["not connected", "a message finds its own way, if there is one"];
}

function showFacts(list: HTMLElement, state: State): void {
  showKeyed(
    list,
    state.facts,
    ([name]) => name,
    ([name]) => {
      const row = document.createElement("div");
      const term = document.createElement("dt");
      term.textContent = name;
      row.append(term, document.createElement("dd"));
      return row;
    },
    (row, [, value]) => setText(row.lastElementChild as Element, value),
  );
}
