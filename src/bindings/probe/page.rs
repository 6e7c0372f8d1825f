//! The probe in a page, for JavaScript. Times are milliseconds.

#![allow(unreachable_pub, reason = "what is exported to JavaScript no Rust code reaches")]

use std::io;

use futures::{AsyncReadExt as _, AsyncWriteExt as _, future::try_join_all};
use js_sys::{Array, Object, Reflect};
use libp2p::{Multiaddr, swarm::Stream};
use sha2::{Digest as _, Sha256};
use wasm_bindgen::{JsError, JsValue, prelude::wasm_bindgen};
use web_time::Instant;

use super::{
    node::{self, Link, Node},
    work::{Work, pattern, read_all, write_pattern},
};
use crate::transport::live::{self, Kind};

/// The most streams that are opened in one go.
const AT_ONCE: usize = 50;

fn object(entries: &[(&str, JsValue)]) -> JsValue {
    let object = Object::new();
    for (name, value) in entries {
        // A plain object takes any property.
        let _ = Reflect::set(&object, &JsValue::from_str(name), value);
    }
    object.into()
}

fn optional(text: Option<String>) -> JsValue {
    text.map_or(JsValue::NULL, |text| JsValue::from_str(&text))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1_000.0
}

fn address(text: &str) -> Result<Multiaddr, JsError> {
    text.parse().map_err(|error| JsError::new(&format!("{text:?} is no multiaddr: {error}")))
}

/// How many of the browser's objects our transports hold.
#[wasm_bindgen(js_name = probeLive)]
pub fn probe_live() -> JsValue {
    object(&[
        ("peerConnections", live::count(Kind::PeerConnection).into()),
        ("dataChannels", live::count(Kind::DataChannel).into()),
        ("webSockets", live::count(Kind::WebSocket).into()),
    ])
}

/// A node.
#[wasm_bindgen]
pub struct ProbeNode {
    node: Node,
}

#[wasm_bindgen]
impl ProbeNode {
    /// Starts a node.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Result<ProbeNode, JsError> {
        console_error_panic_hook::set_once();
        Ok(Self { node: Node::start(&node::configuration(), false)? })
    }

    /// Its peer id.
    #[wasm_bindgen(js_name = peerId)]
    pub fn peer_id(&self) -> String {
        self.node.peer_id().to_string()
    }

    /// Listens at a relay; resolves when there is a place for it.
    pub async fn listen(&self, at: String) -> Result<(), JsError> {
        let node = self.node.clone();
        Ok(node.listen(address(&at)?).await?)
    }

    /// Connects.
    pub async fn dial(&self, to: String) -> Result<ProbeLink, JsError> {
        let node = self.node.clone();
        let begun = Instant::now();
        let link = node.dial(address(&to)?).await?;
        Ok(ProbeLink { link, connecting: milliseconds(begun) })
    }

    /// How it stands.
    pub async fn look(&self) -> Result<JsValue, JsError> {
        let node = self.node.clone();
        let sight = node.look().await?;
        let addresses = sight.addresses.iter().map(|address| JsValue::from_str(&address.to_string()));
        Ok(object(&[
            ("addresses", addresses.collect::<Array>().into()),
            ("connections", sight.connections.into()),
            ("running", sight.running.into()),
            ("served", (sight.served as f64).into()),
            ("failure", optional(sight.failure)),
            ("closed", optional(sight.closed)),
        ]))
    }
}

/// A connection.
#[wasm_bindgen]
pub struct ProbeLink {
    link: Link,
    connecting: f64,
}

#[wasm_bindgen]
impl ProbeLink {
    /// Who is at the other end.
    #[wasm_bindgen(js_name = peerId)]
    pub fn peer_id(&self) -> String {
        self.link.peer_id().to_string()
    }

    /// How long it took to connect.
    #[wasm_bindgen(getter)]
    pub fn connecting(&self) -> f64 {
        self.connecting
    }

    /// Sends so many bytes, closes for writing, and then reads what the other side says of them: with `hashed` their
    /// hash, which is compared, else their number.
    pub async fn upload(&self, count: f64, hashed: bool) -> Result<f64, JsError> {
        let link = self.link.clone();
        let count = count as u64;
        let begun = Instant::now();
        let mut hash = Sha256::new();
        let work = if hashed { Work::Hash } else { Work::Sink };
        let mut stream = link.open(work).await?;
        write_pattern(&mut stream, count, |part| {
            if hashed {
                hash.update(part);
            }
        })
        .await?;
        stream.close().await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        let taken = milliseconds(begun);
        if hashed {
            same(&answer, &hash.finalize(), "hash")?;
        } else {
            same(&answer, &count.to_be_bytes(), "length")?;
        }
        Ok(taken)
    }

    /// Asks for so many bytes and reads them to their end; with `hashed` they are compared by hash.
    pub async fn download(&self, count: f64, hashed: bool) -> Result<f64, JsError> {
        let link = self.link.clone();
        let count = count as u64;
        let begun = Instant::now();
        let mut stream = link.open(Work::Source).await?;
        stream.write_all(&count.to_be_bytes()).await?;
        stream.close().await?;
        let mut hash = Sha256::new();
        let came = read_all(&mut stream, |part| {
            if hashed {
                hash.update(part);
            }
        })
        .await?;
        let taken = milliseconds(begun);
        same(&came.to_be_bytes(), &count.to_be_bytes(), "length")?;
        if hashed {
            let mut expected = Sha256::new();
            write_pattern(&mut futures::io::sink(), count, |part| expected.update(part)).await?;
            same(&hash.finalize(), &expected.finalize(), "hash")?;
        }
        Ok(taken)
    }

    /// Sends so many bytes and gets them back, again and again on one stream; gives the time of each.
    #[wasm_bindgen(js_name = roundTrips)]
    pub async fn round_trips(&self, times: usize, size: usize) -> Result<Vec<f64>, JsError> {
        let link = self.link.clone();
        let sent = bytes(size);
        let mut stream = link.open(Work::Echo).await?;
        let mut taken = Vec::with_capacity(times);
        for _ in 0..times {
            let begun = Instant::now();
            there_and_back(&mut stream, &sent).await?;
            taken.push(milliseconds(begun));
        }
        stream.close().await?;
        end_of(&mut stream).await?;
        Ok(taken)
    }

    /// As `roundTrips`, with a new stream each.
    #[wasm_bindgen(js_name = openings)]
    pub async fn openings(&self, times: usize, size: usize) -> Result<Vec<f64>, JsError> {
        let (link, sent) = (self.link.clone(), bytes(size));
        let mut taken = Vec::with_capacity(times);
        for _ in 0..times {
            let begun = Instant::now();
            let mut stream = link.open(Work::Echo).await?;
            there_and_back(&mut stream, &sent).await?;
            taken.push(milliseconds(begun));
            stream.close().await?;
            end_of(&mut stream).await?;
        }
        Ok(taken)
    }

    /// Opens so many streams, many at the same time, uses each and closes it in good order.
    pub async fn streams(&self, count: usize) -> Result<(), JsError> {
        let mut left = count;
        while left > 0 {
            let batch = left.min(AT_ONCE);
            left -= batch;
            let uses = (0..batch).map(|_| {
                let link = self.link.clone();
                async move {
                    let mut stream = link.open(Work::Echo).await?;
                    there_and_back(&mut stream, b"to be sent back").await?;
                    stream.close().await?;
                    end_of(&mut stream).await
                }
            });
            try_join_all(uses).await?;
        }
        Ok(())
    }

    /// Opens so many streams and drops them in the middle of their use.
    #[wasm_bindgen(js_name = abandon)]
    pub async fn abandon(&self, count: usize) -> Result<(), JsError> {
        let mut left = count;
        while left > 0 {
            let batch = left.min(AT_ONCE);
            left -= batch;
            let uses = (0..batch).map(|_| {
                let link = self.link.clone();
                async move { there_and_back(&mut link.open(Work::Echo).await?, b"and then nothing").await }
            });
            try_join_all(uses).await?;
        }
        Ok(())
    }

    /// Sends so many bytes to somebody who reads nothing for a while; gives how it ended: `null` when all arrived.
    pub async fn flood(&self, count: f64, unread_for: f64) -> Result<JsValue, JsError> {
        let link = self.link.clone();
        let count = count as u64;
        let mut stream = link.open(Work::Hold).await?;
        let sent = async {
            stream.write_all(&(unread_for as u64).to_be_bytes()).await?;
            write_pattern(&mut stream, count, |_| {}).await?;
            stream.close().await?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            if answer == count.to_be_bytes() {
                Ok(())
            } else {
                Err(io::Error::other(format!("{count} bytes were sent, and the other side says {answer:?}")))
            }
        };
        let outcome: io::Result<()> = sent.await;
        Ok(optional(outcome.err().map(|error| error.to_string())))
    }

    /// Ends all connections with the peer; resolves when they are gone.
    #[wasm_bindgen(js_name = hangUp)]
    pub async fn hang_up(&self) -> Result<(), JsError> {
        let link = self.link.clone();
        Ok(link.hang_up().await?)
    }

    /// Ends the connection; resolves when it is gone.
    pub async fn close(&self) -> Result<(), JsError> {
        let link = self.link.clone();
        Ok(link.close().await?)
    }
}

fn bytes(count: usize) -> Vec<u8> {
    let mut bytes = pattern();
    bytes.truncate(count);
    bytes
}

async fn there_and_back(stream: &mut Stream, sent: &[u8]) -> io::Result<()> {
    stream.write_all(sent).await?;
    stream.flush().await?;
    let mut came = vec![0; sent.len()];
    stream.read_exact(&mut came).await?;
    if came == sent { Ok(()) } else { Err(io::Error::other("what came back is not what was sent")) }
}

async fn end_of(stream: &mut Stream) -> io::Result<()> {
    match stream.read(&mut [0]).await? {
        0 => Ok(()),
        _ => Err(io::Error::other("more came back than was sent")),
    }
}

fn same(came: &[u8], expected: &[u8], what: &str) -> Result<(), JsError> {
    if came == expected {
        return Ok(());
    }
    Err(JsError::new(&format!("the {what} is {}, expected was {}", hexadecimal(came), hexadecimal(expected))))
}
