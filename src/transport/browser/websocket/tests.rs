//! Stories of one socket: with a made-up one, whose every move is the test's, and with the browser's own.

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures::{AsyncRead as _, AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _};
use js_sys::{Array, Function, Object, Reflect, Uint8Array};
use libp2p::{
    Multiaddr, Transport as _,
    core::{Endpoint, transport::DialOpts},
};
use wasm_bindgen::{JsCast as _, JsValue};
use wasm_bindgen_test::wasm_bindgen_test;
use web_sys::WebSocket;

use super::{
    Transport,
    connection::{Connection, HIGH_WATER, MAX_HELD, MESSAGE},
};
use crate::transport::browser::live::{Kind, count};

const URL: &str = "ws://node.example:80/";

/// What a connection sees of a `WebSocket`, with nothing behind it.
struct Fake {
    object: Object,
}

impl Fake {
    fn new() -> Self {
        let make = Function::new_no_args(
            "return { bufferedAmount: 0, sent: [], closed: [],
                send(bytes) { this.sent.push(bytes.slice()); this.bufferedAmount += bytes.length; },
                close(code) { this.closed.push(code); } }",
        );
        Self { object: make.call0(&JsValue::NULL).expect("it only makes an object").unchecked_into() }
    }

    /// A connection over it, open.
    fn connected() -> (Self, Connection) {
        let fake = Self::new();
        let connection = fake.connection();
        fake.tell("onopen", &[]);
        (fake, connection)
    }

    fn connection(&self) -> Connection {
        Connection::new(self.object.clone().unchecked_into::<WebSocket>(), URL)
    }

    fn get(&self, name: &str) -> JsValue {
        Reflect::get(&self.object, &name.into()).expect("an object has properties")
    }

    fn tell(&self, handler: &str, event: &[(&str, JsValue)]) {
        let told = Object::new();
        for (name, value) in event {
            Reflect::set(&told, &(*name).into(), value).expect("an object takes properties");
        }
        let handler = self.get(handler).dyn_into::<Function>().expect("the handler is set");
        handler.call1(&JsValue::NULL, &told).expect("handlers don't throw");
    }

    fn receive(&self, bytes: &[u8]) {
        self.tell("onmessage", &[("data", Uint8Array::from(bytes).buffer().into())]);
    }

    fn close(&self, code: u16, reason: &str, clean: bool) {
        self.tell("onclose", &[("code", code.into()), ("reason", reason.into()), ("wasClean", clean.into())]);
    }

    fn set_buffered(&self, bytes: usize) {
        let bytes = u32::try_from(bytes).expect("small");
        Reflect::set(&self.object, &"bufferedAmount".into(), &bytes.into()).expect("an object takes properties");
    }

    /// The messages that were sent.
    fn sent(&self) -> Vec<Vec<u8>> {
        let sent = self.get("sent").unchecked_into::<Array>();
        sent.iter().map(|message| message.unchecked_into::<Uint8Array>().to_vec()).collect()
    }

    fn closed(&self) -> Vec<f64> {
        let closed = self.get("closed").unchecked_into::<Array>();
        closed.iter().filter_map(|code| code.as_f64()).collect()
    }
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Polls once; tells later whether that was worth another.
struct Once {
    woken: Arc<Woken>,
}

impl Once {
    fn new() -> Self {
        Self { woken: Arc::default() }
    }

    fn poll<T>(&self, poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        let waker = Waker::from(self.woken.clone());
        poll(&mut Context::from_waker(&waker))
    }

    fn was_woken(&self) -> bool {
        self.woken.0.load(Ordering::Relaxed) > 0
    }
}

fn read(connection: &mut Connection, once: &Once) -> Poll<io::Result<Vec<u8>>> {
    let mut buffer = [0; 8];
    let polled = once.poll(|context| Pin::new(connection).poll_read(context, &mut buffer));
    polled.map_ok(|count| buffer[..count].to_vec())
}

fn write(connection: &mut Connection, once: &Once, bytes: &[u8]) -> Poll<io::Result<usize>> {
    once.poll(|context| Pin::new(connection).poll_write(context, bytes))
}

fn words<T: std::fmt::Debug>(polled: Poll<io::Result<T>>) -> String {
    match polled {
        Poll::Ready(Err(error)) => error.to_string(),
        other => panic!("an error was expected, not {other:?}"),
    }
}

#[wasm_bindgen_test]
async fn what_is_written_leaves_with_the_flush_as_one_message() {
    let (fake, mut connection) = Fake::connected();
    connection.write_all(b"a header").await.expect("written");
    connection.write_all(b" and a body").await.expect("written");
    assert!(fake.sent().is_empty(), "nothing before the flush");
    connection.flush().await.expect("flushed");
    connection.flush().await.expect("flushed again");
    assert_eq!(fake.sent(), [b"a header and a body"]);
}

#[wasm_bindgen_test]
async fn much_is_cut_into_messages_and_stays_in_order() {
    let (fake, mut connection) = Fake::connected();
    let much = (0..MESSAGE * 2 + 100).map(|number| number as u8).collect::<Vec<_>>();
    connection.write_all(&much[..10]).await.expect("written");
    connection.write_all(&much[10..]).await.expect("written");
    connection.flush().await.expect("flushed");
    assert_eq!(fake.sent().iter().map(Vec::len).collect::<Vec<_>>(), [MESSAGE, MESSAGE, 100]);
    assert_eq!(fake.sent().concat(), much);
}

#[wasm_bindgen_test]
async fn a_flush_waits_for_nothing_and_a_writer_for_room() {
    let (fake, mut connection) = Fake::connected();
    connection.write_all(b"before").await.expect("written");
    fake.set_buffered(HIGH_WATER);
    let once = Once::new();
    assert!(write(&mut connection, &once, b"more").is_pending());
    connection.flush().await.expect("flushed, however full the socket is");
    assert_eq!(fake.sent(), [b"before"]);

    // What comes may be the answer to what has left.
    fake.set_buffered(HIGH_WATER - 1);
    fake.receive(b"a window");
    assert!(once.was_woken());
    assert!(matches!(write(&mut connection, &once, b"more"), Poll::Ready(Ok(4))));
}

#[wasm_bindgen_test]
async fn a_writer_goes_on_also_when_nothing_comes() {
    let (fake, mut connection) = Fake::connected();
    fake.set_buffered(HIGH_WATER);
    let mut looks = 0;
    poll_fn(|context| {
        looks += 1;
        if looks == 4 {
            fake.set_buffered(0);
        }
        Pin::new(&mut connection).poll_write(context, b"at last")
    })
    .await
    .expect("written");
    assert_eq!(looks, 4, "it looks by itself, and only now and then");
}

#[wasm_bindgen_test]
fn what_comes_is_read_in_order_whatever_the_size_of_the_reads() {
    let (fake, mut connection) = Fake::connected();
    let once = Once::new();
    assert!(read(&mut connection, &once).is_pending());
    fake.receive(b"ten bytes.");
    fake.receive(b"");
    fake.receive(b"!");
    assert!(once.was_woken());
    let mut all = Vec::new();
    while let Poll::Ready(read) = read(&mut connection, &once) {
        let read = read.expect("read");
        assert!(!read.is_empty(), "an empty read would be the end");
        all.extend(read);
    }
    assert_eq!(all, b"ten bytes.!");
}

#[wasm_bindgen_test]
fn a_close_wakes_all_and_tells_its_code_after_what_came_before() {
    let (fake, mut connection) = Fake::connected();
    let (reader, writer) = (Once::new(), Once::new());
    assert!(read(&mut connection, &reader).is_pending());
    fake.set_buffered(HIGH_WATER);
    assert!(write(&mut connection, &writer, b"x").is_pending());
    fake.close(1001, "the house is closing", true);
    assert!(reader.was_woken() && writer.was_woken());

    let said = words(read(&mut connection, &reader));
    assert!(said.contains("1001") && said.contains("the house is closing"), "{said}");
    assert_eq!(words(write(&mut connection, &writer, b"x")), said);
    assert_eq!(words(writer.poll(|context| Pin::new(&mut connection).poll_flush(context))), said);
    let closed = writer.poll(|context| Pin::new(&mut connection).poll_close(context));
    assert!(matches!(closed, Poll::Ready(Ok(()))), "what is closed can be closed");
}

#[wasm_bindgen_test]
fn what_came_before_the_end_is_read_before_it() {
    let (fake, mut connection) = Fake::connected();
    let once = Once::new();
    fake.receive(b"bye");
    fake.tell("onerror", &[]);
    fake.close(1006, "", false);
    assert!(matches!(read(&mut connection, &once), Poll::Ready(Ok(bytes)) if bytes == b"bye"));
    let said = words(read(&mut connection, &once));
    assert!(said.contains("broke"), "{said}");
}

#[wasm_bindgen_test]
fn a_close_of_ours_waits_for_the_browsers_word() {
    let (fake, mut connection) = Fake::connected();
    let once = Once::new();
    assert!(matches!(write(&mut connection, &once, b"the last"), Poll::Ready(Ok(8))));
    let close = |connection: &mut Connection| once.poll(|context| Pin::new(connection).poll_close(context));
    assert!(close(&mut connection).is_pending());
    assert_eq!(fake.sent(), [b"the last"]);
    assert_eq!(fake.closed(), [1000.0]);
    fake.close(1000, "", true);
    assert!(once.was_woken());
    assert!(matches!(close(&mut connection), Poll::Ready(Ok(()))));
}

#[wasm_bindgen_test]
fn text_and_too_much_end_the_connection() {
    let (fake, mut connection) = Fake::connected();
    fake.tell("onmessage", &[("data", "hello".into())]);
    let said = words(read(&mut connection, &Once::new()));
    assert!(said.contains("text"), "{said}");

    let (fake, mut connection) = Fake::connected();
    let much = Uint8Array::new_with_length(32 * 1024 * 1024).buffer();
    let pieces = MAX_HELD / (32 * 1024 * 1024) + 1;
    for _ in 0..pieces {
        fake.tell("onmessage", &[("data", much.clone().into())]);
    }
    let said = words(read(&mut connection, &Once::new()));
    assert!(said.contains(&MAX_HELD.to_string()), "{said}");
}

#[wasm_bindgen_test]
fn a_connection_that_goes_leaves_nothing_behind() {
    let before = count(Kind::WebSocket);
    let fake = Fake::new();
    let connection = fake.connection();
    assert_eq!(count(Kind::WebSocket), before + 1);
    drop(connection);
    assert_eq!(count(Kind::WebSocket), before);
    assert_eq!(fake.closed(), [1000.0]);
    for handler in ["onopen", "onmessage", "onerror", "onclose"] {
        assert!(fake.get(handler).is_falsy(), "{handler} is taken off");
    }
}

#[wasm_bindgen_test]
async fn a_dial_that_nobody_answers_fails_at_once_and_says_so() {
    // The discard port: Chromium refuses to go there, whoever listens. And one where nobody does.
    for address in ["/ip4/127.0.0.1/tcp/9/ws", "/ip4/127.0.0.1/tcp/49151/ws", "/dns/localhost/tcp/49151/ws"] {
        let dial = Transport.dial(address.parse().expect("an address"), options(Endpoint::Dialer));
        let Err(error) = dial.expect("a WebSocket address").await else { panic!("nobody is at {address}") };
        assert!(error.to_string().contains("can't be opened"), "{error}");
    }
}

#[wasm_bindgen_test]
async fn a_dial_that_is_dropped_closes_its_socket() {
    let before = count(Kind::WebSocket);
    let address = "/ip4/127.0.0.1/tcp/49151/ws".parse().expect("an address");
    {
        let mut dial = pin!(Transport.dial(address, options(Endpoint::Dialer)).expect("a WebSocket address"));
        assert!(futures::poll!(&mut dial).is_pending());
        assert_eq!(count(Kind::WebSocket), before + 1);
    }
    assert_eq!(count(Kind::WebSocket), before);
}

#[wasm_bindgen_test]
fn what_is_none_of_its_business_is_left_to_others() {
    let circuit = "/ip4/127.0.0.1/tcp/9/ws/p2p/12D3KooWGzBzXbKGRwQ1pFsqsBoQMjr8kQ7tMPjfSz5ayVwrEdGZ/p2p-circuit";
    for (address, role) in [(circuit, Endpoint::Dialer), ("/ip4/127.0.0.1/tcp/9/ws", Endpoint::Listener)] {
        let address = address.parse::<Multiaddr>().expect("an address");
        assert!(Transport.dial(address, options(role)).is_err());
    }
}

fn options(role: Endpoint) -> DialOpts {
    DialOpts { role, port_use: libp2p::core::transport::PortUse::Reuse }
}

#[wasm_bindgen_test]
async fn a_connection_can_be_split_between_two_tasks() {
    let (fake, connection) = Fake::connected();
    let (mut reader, mut writer) = connection.split();
    fake.receive(b"both ways");
    let mut buffer = [0; 9];
    reader.read_exact(&mut buffer).await.expect("read");
    writer.write_all(&buffer).await.expect("written");
    writer.flush().await.expect("flushed");
    assert_eq!(fake.sent(), [b"both ways"]);
}
