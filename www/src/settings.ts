/** Where the page gets its settings from: its own address, and the node that serves it. */

/** What the page's address says. */
export interface Settings {
  /** Addresses to join by; empty means to ask the node that serves the page. */
  readonly bootstrap: readonly string[];
  /** The network's name, when it is said. */
  readonly network: string | undefined;
  /** Under which name the identity is kept; `undefined` for one that lasts as long as the page. */
  readonly dataDir: string | undefined;
}

/** How to join the network. */
export interface Entry {
  readonly addresses: readonly string[];
  /** The peer ids of the nodes behind the addresses. */
  readonly nodes: readonly string[];
  readonly network: string | undefined;
}

const DEFAULT_DATA_DIR = "cpc-demo";
const MAX_ADDRESSES = 16;

/** Reads `?bootstrap=…&network=…&dataDir=…`; `bootstrap` may be repeated, the data directory `memory` means none. */
export function readSettings(query: string): Settings {
  const parameters = new URLSearchParams(query);
  const dataDir = parameters.get("dataDir")?.trim() || DEFAULT_DATA_DIR;
  return {
    bootstrap: parameters
      .getAll("bootstrap")
      .map((address) => address.trim())
      .filter((address) => address !== "")
      .slice(0, MAX_ADDRESSES),
    network: parameters.get("network")?.trim() || undefined,
    dataDir: dataDir === "memory" ? undefined : dataDir.slice(0, 64),
  };
}

/**
 * Finds out how to join: by the addresses in the page's own address, else by those that the serving node tells.
 *
 * @throws An `Error` that says why the node's answer is of no use.
 */
export async function findEntry(settings: Settings, ask: () => Promise<Response>): Promise<Entry> {
  if (settings.bootstrap.length > 0) {
    return { addresses: settings.bootstrap, nodes: peersIn(settings.bootstrap), network: settings.network };
  }
  const response = await ask();
  if (!response.ok) {
    throw new Error(`/bootstrap.json: the server answered ${response.status} ${response.statusText}`.trim());
  }
  let answer: unknown;
  try {
    answer = await response.json();
  } catch {
    throw new Error("/bootstrap.json: the server's answer is not JSON");
  }
  const { addresses, network } = (answer ?? {}) as Record<string, unknown>;
  if (!Array.isArray(addresses) || !addresses.every((address) => typeof address === "string")) {
    throw new Error("/bootstrap.json: the server's answer holds no list of addresses");
  }
  const usable = addresses.filter(canBeDialled).slice(0, MAX_ADDRESSES);
  if (usable.length === 0) {
    throw new Error("/bootstrap.json: the node listens on no address that a browser can dial (WebSocket, WebRTC-direct)");
  }
  return {
    addresses: usable,
    nodes: peersIn(usable),
    network: settings.network ?? (typeof network === "string" && network !== "" ? network : undefined),
  };
}

/** Whether a page can reach an address: browsers open neither TCP nor UDP sockets. */
export function canBeDialled(address: string): boolean {
  return /\/(ws|wss|webrtc-direct)(\/|$)/.test(address) && !address.includes("/p2p-circuit");
}

function peersIn(addresses: readonly string[]): string[] {
  const peers = addresses.map((address) => /\/p2p\/([^/]+)$/.exec(address)?.[1]);
  return [...new Set(peers.filter((peer) => peer !== undefined))];
}
