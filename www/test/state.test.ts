import assert from "node:assert/strict";
import { beforeEach, describe, it, mock } from "node:test";

import { Greetings } from "../src/greetings.js";
import { type Direct, type Post, State } from "../src/state.js";

(globalThis as { document?: unknown }).document = { hidden: false };

const post = (id: string): Post => ({ id, sender: "p", text: "x", at: 0, unheard: false });
const direct = (key: string, state: Direct["state"] = "received"): Direct => ({ key, sender: "p", text: "x", at: 0, state });

describe("the state", () => {
  let state: State;
  beforeEach(() => {
    state = new State();
    state.me = "me";
  });

  it("holds a bounded number of posts, the newest first, each once", () => {
    for (let index = 0; index < 600; index += 1) {
      state.addPost(post(String(index)));
    }
    assert.equal(state.posts.length, 500);
    assert.equal(state.posts[0]?.id, "599");
    assert.equal(state.addPost(post("599")), false);
    assert.equal(state.posts.length, 500);
  });

  it("holds a bounded number of messages in each conversation", () => {
    for (let index = 0; index < 300; index += 1) {
      state.addDirect("a", direct(String(index)));
    }
    assert.equal(state.conversations.get("a")?.directs.length, 200);
    assert.equal(state.conversations.get("a")?.directs.at(-1)?.key, "299");
  });

  it("keeps what people answered, and what is open, before what strangers sent", () => {
    state.addDirect("answered", direct("1", "delivered"));
    state.addDirect("open", direct("1"));
    state.openConversation("open");
    for (let index = 0; index < 200; index += 1) {
      state.addDirect(`stranger ${index}`, direct("1"));
    }
    assert.equal(state.conversations.size, 50);
    assert.ok(state.conversations.has("answered") && state.conversations.has("open"));
  });

  it("counts what has not been read", () => {
    state.addDirect("a", direct("1"));
    state.addDirect("b", direct("1"));
    state.addDirect("b", direct("2"));
    state.addDirect("b", direct("3", "queued"));
    assert.equal(state.unread(), 3);
    state.openConversation("b");
    state.addDirect("b", direct("4"));
    assert.equal(state.unread(), 1);
  });

  it("names peers as they name themselves, else always alike", () => {
    assert.equal(state.nameOf("a"), state.nameOf("a"));
    state.setName("a", "Ada");
    assert.equal(state.nameOf("a"), "Ada");
    state.setName("me", "somebody else's idea");
    assert.notEqual(state.nameOf("me"), "somebody else's idea");
    for (let index = 0; index < 2000; index += 1) {
      state.setName(`p${index}`, "x");
    }
    assert.ok(!state.isNamed("a"));
  });

  it("shows a lasting trouble no more once it is dismissed, until it is over", () => {
    const lasting = { lasting: true, title: "t", advice: "a" };
    state.addTrouble("k", lasting);
    state.dismissTrouble("k");
    state.addTrouble("k", lasting);
    assert.equal(state.trouble(), undefined);
    state.removeTrouble("k");
    state.addTrouble("k", lasting);
    assert.equal(state.trouble()?.key, "k");
    state.addTrouble("other", { title: "t", advice: "a" });
    state.dismissTrouble("other");
    state.addTrouble("other", { title: "t", advice: "a" });
    assert.equal(state.trouble()?.key, "other");
  });
});

describe("greetings", () => {
  it("that are due together become one, and are repeated when asked for", () => {
    mock.timers.enable({ apis: ["setTimeout"] });
    try {
      let sent = 0;
      const greetings = new Greetings(() => (sent += 1));
      greetings.due("twice");
      greetings.due();
      greetings.due();
      mock.timers.tick(300);
      assert.equal(sent, 1);
      mock.timers.tick(3000);
      assert.equal(sent, 2);
      mock.timers.tick(60_000);
      assert.equal(sent, 2);
      greetings.due("twice");
      greetings.stop();
      mock.timers.tick(60_000);
      assert.equal(sent, 2);
    } finally {
      mock.timers.reset();
    }
  });
});
