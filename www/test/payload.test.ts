import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { cleanName, cleanText, decode, encodeHello, encodeText, MAX_NAME, MAX_TEXT } from "../src/payload.js";

const bytes = (text: string) => new TextEncoder().encode(text);

describe("payloads", () => {
  it("read back what was written", () => {
    assert.deepEqual(decode(bytes(encodeText("post", "hello\nthere", "Ada", 5))), {
      type: "post",
      text: "hello\nthere",
      name: "Ada",
      at: 5,
    });
    assert.deepEqual(decode(bytes(encodeText("direct", "psst", "", 6))), { type: "direct", text: "psst", at: 6 });
    assert.deepEqual(decode(bytes(encodeHello("Ada"))), { type: "hello", name: "Ada" });
    assert.deepEqual(JSON.parse(encodeText("post", "x", "Ada", 5)), {
      app: "cpc-demo",
      type: "post",
      text: "x",
      name: "Ada",
      at: 5,
    });
  });

  it("of others are plain text, if they are text", () => {
    assert.deepEqual(decode(bytes(" plain ")), { type: "text", text: "plain" });
    assert.deepEqual(decode(bytes('{"app":"other","text":"x"}')), { type: "text", text: '{"app":"other","text":"x"}' });
    for (const json of ["null", "7", "[]", '{"app":"cpc-demo","type":"later"}', '{"app":"cpc-demo","type":"post"}']) {
      assert.equal(decode(bytes(json)).type, "text", json);
    }
    assert.deepEqual(decode(new Uint8Array([0xff, 0xfe])), { type: "bytes", size: 2 });
    assert.deepEqual(decode(new Uint8Array(256 * 1024 + 1)), { type: "bytes", size: 262145 });
  });

  it("with fields of the wrong type keep what is right", () => {
    const odd = { app: "cpc-demo", type: "post", text: "x", name: { toString: "no" }, at: "yesterday" };
    assert.deepEqual(decode(bytes(JSON.stringify(odd))), { type: "post", text: "x" });
    assert.deepEqual(decode(bytes('{"app":"cpc-demo","type":"hello","name":7}')), { type: "hello" });
    assert.deepEqual(decode(bytes('{"app":"cpc-demo","type":"post","text":"x","at":1e999}')), { type: "post", text: "x" });
  });
});

describe("text from strangers", () => {
  it("is bounded in length, height and depth", () => {
    assert.equal(Array.from(cleanText("😀".repeat(MAX_TEXT + 5))).length, MAX_TEXT);
    assert.ok(cleanText("\n".repeat(100_000)) === "");
    assert.ok(cleanText("a\n".repeat(1000)).split("\n").length <= 40);
    assert.equal(cleanText("a\n\n\n\n\nb"), "a\n\nb");
    assert.equal(cleanText(`a${"\u0301".repeat(500)}`).length, 5);
  });

  it("can't turn the direction of what follows, nor hold control characters", () => {
    assert.equal(cleanText("a\u202Eb\u2066c\u0000d\u001B[31me\u009Ff\tg\r\nh"), "abcd[31mef\tg\nh");
    assert.equal(cleanText("\uD800x"), "\uFFFDx");
  });

  it("stays as it is when there is nothing wrong with it", () => {
    const fine = "مرحبا — schön 👩‍👩‍👧 <b>&amp;</b>\n\tदेवनागरी";
    assert.equal(cleanText(fine), fine);
  });
});

describe("names", () => {
  it("are one short line", () => {
    assert.equal(cleanName("  Ada\n  Lovelace\t"), "Ada Lovelace");
    assert.equal(Array.from(cleanName("😀".repeat(100)) ?? "").length, MAX_NAME);
    assert.equal(cleanName("A\u200Bd\u202Ea\u2028"), "Ada");
  });

  it("that are none are not there", () => {
    for (const none of ["", " \n", "\u200B\u202E", 7, null, undefined, {}]) {
      assert.equal(cleanName(none), undefined);
    }
  });
});
