/**
 * Which identity this tab takes. Two nodes must not run under one identity, so a tab holds a Web Lock on its identity's
 * name for as long as it lives; a tab that finds the name taken goes on to the next one.
 */

/** An identity that is this tab's own. */
export interface Identity {
  /** Under which name it is kept; `undefined` for one that lasts as long as the page. */
  readonly dataDir: string | undefined;
  /** 1 for the name asked for, 2 for the second tab, and so on. */
  readonly place: number;
}

const MAX_TABS = 32;
/** After a reload the page before may hold its lock for a moment longer. */
const RELOAD_GRACE = 1000;

/** Takes the first identity that no other tab has. */
export async function claimIdentity(dataDir: string | undefined): Promise<Identity> {
  // Browsers have locks only where the connection to the server is secure, or to this machine itself.
  const locks = (navigator as { locks?: LockManager }).locks;
  if (dataDir === undefined || locks === undefined) {
    return { dataDir, place: 1 };
  }
  const remembered = rememberedPlace(dataDir);
  // A reloaded tab keeps the identity it had, whatever other tabs have closed meanwhile.
  if (remembered !== undefined && (await claim(locks, nameOf(dataDir, remembered), RELOAD_GRACE))) {
    return { dataDir: nameOf(dataDir, remembered), place: remembered };
  }
  for (let place = 1; place <= MAX_TABS; place += 1) {
    if (place !== remembered && (await claim(locks, nameOf(dataDir, place), 0))) {
      remember(dataDir, place);
      return { dataDir: nameOf(dataDir, place), place };
    }
  }
  return { dataDir: undefined, place: MAX_TABS + 1 };
}

function nameOf(dataDir: string, place: number): string {
  return place === 1 ? dataDir : `${dataDir}-${place}`;
}

/** Takes a lock for the life of the page; waits for it at most so many milliseconds. */
function claim(locks: LockManager, name: string, patience: number): Promise<boolean> {
  return new Promise((resolve) => {
    const options: LockOptions = patience > 0 ? { signal: AbortSignal.timeout(patience) } : { ifAvailable: true };
    locks
      .request(`cpc-demo:${name}`, options, (lock) => {
        resolve(lock !== null);
        // Never settles, so the lock is held until the page is gone.
        return lock === null ? undefined : new Promise(() => {});
      })
      .catch(() => resolve(false));
  });
}

function rememberedPlace(dataDir: string): number | undefined {
  try {
    const place = Number(sessionStorage.getItem(`cpc-demo.place.${dataDir}`));
    return Number.isInteger(place) && place >= 1 && place <= MAX_TABS ? place : undefined;
  } catch {
    return undefined;
  }
}

function remember(dataDir: string, place: number): void {
  try {
    sessionStorage.setItem(`cpc-demo.place.${dataDir}`, String(place));
  } catch {
    // Without storage a reload may get another place, which is no more than a blemish.
  }
}
