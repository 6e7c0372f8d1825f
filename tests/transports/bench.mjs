/**
 * Our transports beside those of js-libp2p: the same work, in the same browser, against the same node, in turns.
 *
 * `--json` prints what was measured instead of a table, `--rounds <n>` says how often, `--only <part of a row's name>`
 * leaves rows out.
 */

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { build } from "vite";

import { Scope } from "../support/story.mjs";
import { Lab } from "./lab.mjs";

const { values: options } = parseArgs({
  options: { json: { type: "boolean" }, rounds: { type: "string", default: "5" }, only: { type: "string", default: "" } },
});

const MB = 1_000_000;
const SENT = { websocket: 32 * MB, "webrtc-direct": 16 * MB, webrtc: 16 * MB, relayed: 16 * MB };
const ROUND_TRIPS = 200;
const SIZE = 256;

/** Work on one connection: what it is called, in what it is counted, and whether more of it is better. */
const WORKS = [
  {
    name: (way) => (PAGE_TO_PAGE.includes(way) ? "page → page" : "page → node"),
    unit: "MB/s",
    higher: true,
    run: async (link, way) => SENT[way] / 1000 / (await link.work("upload", SENT[way], false)),
  },
  {
    name: (way) => (PAGE_TO_PAGE.includes(way) ? "page ← page" : "page ← node"),
    unit: "MB/s",
    higher: true,
    run: async (link, way) => SENT[way] / 1000 / (await link.work("download", SENT[way], false)),
  },
  {
    name: () => "256 B and back, one stream",
    unit: "ms",
    run: async (link) => median(await link.work("roundTrips", ROUND_TRIPS, SIZE)),
  },
  {
    name: () => "256 B and back, a stream each",
    unit: "ms",
    run: async (link) => median(await link.work("openings", ROUND_TRIPS, SIZE)),
  },
];
const WAYS = ["websocket", "webrtc-direct", "webrtc", "relayed"];
const PAGE_TO_PAGE = ["webrtc", "relayed"];
const CONTENDERS = { ours: {}, theirs: { script: "/theirs/theirs.js" } };

function median(numbers) {
  const sorted = numbers.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** js-libp2p as a page gets it: one file, minified. */
async function bundle(scope) {
  const folder = await mkdtemp(join(tmpdir(), "cpc-net-bench-"));
  scope.defer(() => rm(folder, { recursive: true, force: true }));
  await build({
    configFile: false,
    logLevel: "warn",
    root: fileURLToPath(new URL(".", import.meta.url)),
    build: {
      outDir: folder,
      emptyOutDir: true,
      target: "esnext",
      lib: { entry: "page/theirs.mjs", formats: ["es"], fileName: () => "theirs.js" },
    },
    define: { "process.env.NODE_ENV": '"production"' },
  });
  return folder;
}

/** What went wrong, in one line. */
const firstLine = (error) => String(error?.message ?? error).split("\n")[0];

/** One line of the table: what each contender has measured so far, or why it can't. */
const row = (name, unit, higher = false) => ({ name, unit, higher, ours: [], theirs: [], failures: {} });

/**
 * Connects. js-libp2p, once it has hung up, now and then doesn't find the other page again; it gets new pages then, and
 * whoever fails with these too has failed.
 */
async function connect(lab, sides, contender, way) {
  for (let left = 2; ; left -= 1) {
    sides[contender] ??= await lab.way(way, { ...CONTENDERS[contender], spied: false });
    try {
      return await sides[contender].one.dial(sides[contender].address);
    } catch (error) {
      await close(sides[contender]);
      sides[contender] = undefined;
      if (left === 0) {
        throw error;
      }
    }
  }
}

/** Connects, does all the work that is wanted, and hangs up; gives one number for each row. */
async function round(lab, sides, contender, way, rows, count) {
  const fail = (rows, error) => rows.forEach(({ failures }) => (failures[contender] ??= firstLine(error)));
  const add = (row, value) => count && row[contender].push(value);
  let link;
  try {
    link = await connect(lab, sides, contender, way);
  } catch (error) {
    return fail(rows, error);
  }
  add(rows[0], link.connecting);
  for (const [index, { run }] of WORKS.entries()) {
    const row = rows[index + 1];
    if (row.name.includes(options.only) && !row.failures[contender]) {
      try {
        add(row, await run(link, way));
      } catch (error) {
        fail([row], error);
      }
    }
  }
  // What is gone already is told by the next round.
  await link.work("hangUp").catch(() => {});
}

/** Closes the pages of a way. */
async function close(side) {
  const pages = [side?.one.page, side?.other.page].filter(Boolean);
  await Promise.all(pages.map((page) => page.context().close()));
}

async function measure(lab, way) {
  const rows = [
    row(`${way}: connect`, "ms"),
    ...WORKS.map(({ name, unit, higher }) => row(`${way}: ${name(way)}`, unit, higher)),
  ];
  if (!rows.some(({ name }) => name.includes(options.only))) {
    return [];
  }
  const sides = {};
  // The first round warms up: the compilers of the browser have seen everything once.
  for (let number = 0; number <= Number(options.rounds); number += 1) {
    const order = Object.keys(CONTENDERS);
    for (const contender of number % 2 ? order : order.toReversed()) {
      await round(lab, sides, contender, way, rows, number > 0);
    }
  }
  // Pages that are done with must not slow down those that come.
  await Promise.all(Object.values(sides).map(close));
  return rows.filter(({ name }) => name.includes(options.only));
}

const shown = (value, unit) => `${value >= 100 ? value.toFixed(0) : value.toPrecision(3)} ${unit}`;

/** How many times as good as theirs ours is. */
function ratio({ ours, theirs, higher }) {
  if (!ours.length || !theirs.length) {
    return undefined;
  }
  return higher ? median(ours) / median(theirs) : median(theirs) / median(ours);
}

function cell(row, contender) {
  const values = row[contender];
  const fails = row.failures[contender] ? "fails" : "";
  if (values.length === 0) {
    return fails || "–";
  }
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const spread = `${shown(median(values), row.unit)} (${shown(least, "").trim()}–${shown(most, "").trim()})`;
  return fails ? `${spread}, then ${fails}` : spread;
}

function table(rows) {
  const lines = rows.map((row) => {
    const times = ratio(row);
    return [row.name, cell(row, "ours"), cell(row, "theirs"), times === undefined ? "–" : `${times.toFixed(2)} ×`];
  });
  const all = [["", "cpc-net", "js-libp2p", "ahead"], ...lines];
  const widths = [0, 1, 2, 3].map((column) => Math.max(...all.map((line) => line[column].length)));
  return all
    .map((line) => line.map((text, column) => (column ? text.padStart(widths[column]) : text.padEnd(widths[column]))))
    .map((line) => line.join("  "))
    .join("\n");
}

const scope = new Scope();
try {
  const lab = await Lab.start(scope, { places: { theirs: await bundle(scope) } });
  const rows = [];
  for (const way of WAYS) {
    const measured = await measure(lab, way);
    rows.push(...measured);
    // The whole takes minutes: what is known already may be looked at.
    measured.forEach((row) => console.error(`${row.name}: ${cell(row, "ours")}, theirs ${cell(row, "theirs")}`));
  }
  if (options.json) {
    console.log(JSON.stringify(rows.map((row) => ({ ...row, ahead: ratio(row) })), null, 1));
  } else {
    console.log(`\nMedians of ${options.rounds} rounds in turns (least–most); ${lab.browser.version()}\n`);
    console.log(table(rows));
    for (const { name, failures } of rows) {
      for (const [contender, why] of Object.entries(failures)) {
        console.log(`${name}, ${contender}: ${why}`);
      }
    }
  }
} catch (failure) {
  console.error(`What was said meanwhile:\n${scope.words()}\n---`);
  throw failure;
} finally {
  await scope.end();
}
