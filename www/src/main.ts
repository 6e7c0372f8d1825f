/** Starts the page: finds out how to join, takes an identity, starts the node, and shows what happens. */

import { CpcError, init, NetworkHandler } from "cpc-net";

import { claimIdentity, type Identity } from "./identity.js";
import { cleanName } from "./payload.js";
import { Session } from "./session.js";
import { type Entry, findEntry, readSettings } from "./settings.js";
import { State } from "./state.js";
import { mountPage } from "./view/page.js";
import { errorWords } from "./words.js";

declare global {
  /** For tests, and for whoever likes to play: the running node, from the console. */
  interface Window {
    cpc?: { readonly net: NetworkHandler };
  }
}

const state = new State();
let session: Session | undefined;
let nameKey: string | undefined;

mountPage(
  state,
  () => session,
  (name) => {
    state.name = name;
    keepName(name);
    session?.announceName();
    state.changed();
  },
);

try {
  await start();
} catch (error) {
  const withoutStore = error instanceof CpcError && error.code.startsWith("store_");
  state.phase = "failed";
  state.phaseDetail = "see below";
  state.addTrouble("start", {
    ...errorWords(error),
    action: withoutStore
      ? { label: "Join without", run: () => location.assign(withParameter("dataDir", "memory")) }
      : { label: "Reload", run: () => location.reload() },
  });
}

async function start(): Promise<void> {
  const settings = readSettings(location.search);
  // All three at once; a failure to load the module is told by `create`.
  init().catch(() => {});
  const [identity, entry] = await Promise.all([claimIdentity(settings.dataDir), entryOrNone()]);
  const { dataDir } = identity;
  state.identityNote = noteOn(identity);
  state.nodes = new Set(entry.nodes);
  nameKey = dataDir && `cpc-demo.name.${dataDir}`;
  state.name = keptName();
  state.phase = entry.addresses.length > 0 ? "connecting" : "starting";
  state.changed();

  const net = await NetworkHandler.create({
    bootstrap: [...entry.addresses],
    dataDir,
    network: entry.network,
  });
  window.cpc = { net };
  // A page that is only put aside may come back; one that goes for good says goodbye.
  addEventListener("pagehide", ({ persisted }) => {
    if (!persisted) {
      net.shutdown().catch(() => {});
    }
  });
  session = new Session(net, state, entry.addresses);

  async function entryOrNone(): Promise<Entry> {
    try {
      return await findEntry(settings, () => fetch("/bootstrap.json", { cache: "no-store" }));
    } catch (error) {
      state.addTrouble("entry", {
        title: "The server of this page does not say how to join the network.",
        advice: "Open the page from a running cpc-node, or add ?bootstrap= and a node's address to this page's address.",
        detail: error instanceof Error ? error.message : String(error),
        action: { label: "Reload", run: () => location.reload() },
      });
      return { addresses: [], nodes: [], network: settings.network };
    }
  }
}

function noteOn({ dataDir, place }: Identity): string {
  if (dataDir === undefined) {
    return "This identity lasts until the page is reloaded.";
  }
  return place === 1 ? "" : `Another tab has your usual identity. This one has its own, number ${place}.`;
}

function keptName(): string {
  try {
    return (nameKey && cleanName(localStorage.getItem(nameKey))) || "";
  } catch {
    return "";
  }
}

function keepName(name: string): void {
  try {
    if (nameKey !== undefined) {
      localStorage.setItem(nameKey, name);
    }
  } catch {
    // A browser that stores nothing still lets one have a name for now.
  }
}

function withParameter(name: string, value: string): string {
  const address = new URL(location.href);
  address.searchParams.set(name, value);
  return address.href;
}
