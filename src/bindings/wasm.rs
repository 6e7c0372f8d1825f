//! The JavaScript face of the handler, on which the npm package's TypeScript stands.
//!
//! Thin on purpose: it converts arguments and results, and nothing else. Objects go over in their serde view, payloads
//! as `Uint8Array`, errors as `Error` objects with the own properties `code`, `area` and `retryable`.

#![allow(unreachable_pub, reason = "what is exported to JavaScript no Rust code reaches")]

mod convert;
mod transfers;

use std::{cell::RefCell, rc::Rc, time::Duration};

use futures::{
    StreamExt as _,
    channel::oneshot,
    future::{Either, select},
};
use wasm_bindgen::{JsValue, prelude::wasm_bindgen};

use self::convert::{Failure, argument, config_from_js, from_js, message_to_js, to_js};
use self::transfers::{Payload, WasmTransfer, WasmTransfers};
use crate::{ConnectTarget, Events, GroupName, Message, Messages, NetworkHandler, PeerId, Receipt, TransferOffer};

/// Panics become errors in the console with their place, instead of "unreachable executed".
#[wasm_bindgen(start)]
pub fn start() {
    console_error_panic_hook::set_once();
}

/// The version of the crate this module was built from.
#[wasm_bindgen]
pub fn version() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}

/// See [`NetworkHandler`].
#[wasm_bindgen]
pub struct WasmNetworkHandler {
    net: NetworkHandler,
}

#[wasm_bindgen]
impl WasmNetworkHandler {
    /// See [`NetworkHandler::new`]. Keys of the configuration are written in camel case.
    pub async fn create(config: JsValue) -> Result<WasmNetworkHandler, Failure> {
        let config = config_from_js(config)?;
        Ok(Self { net: NetworkHandler::new(config).await? })
    }

    /// See [`NetworkHandler::local_peer_id`].
    #[wasm_bindgen(js_name = localPeerId)]
    pub fn local_peer_id(&self) -> String {
        self.net.local_peer_id().to_string()
    }

    /// See [`NetworkHandler::listen_addrs`].
    #[wasm_bindgen(js_name = listenAddrs)]
    pub fn listen_addrs(&self) -> Vec<String> {
        self.net.listen_addrs().iter().map(ToString::to_string).collect()
    }

    /// See [`NetworkHandler::connect`]; takes a peer id or a multiaddr.
    pub async fn connect(&self, target: String) -> Result<String, Failure> {
        let target = target.parse::<ConnectTarget>()?;
        let net = self.net.clone();
        Ok(net.connect(target).await?.to_string())
    }

    /// See [`NetworkHandler::disconnect`].
    pub async fn disconnect(&self, peer: String) -> Result<(), Failure> {
        let peer = peer_id(&peer)?;
        let net = self.net.clone();
        Ok(net.disconnect(peer).await?)
    }

    /// See [`NetworkHandler::send_message`]; `ttl` in milliseconds.
    #[wasm_bindgen(js_name = sendMessage)]
    pub fn send_message(
        &self,
        peer: &str,
        kind: JsValue,
        payload: &[u8],
        ttl: Option<f64>,
        priority: JsValue,
    ) -> Result<WasmReceipt, Failure> {
        let message = message(kind, payload, ttl)?;
        let priority = from_js(priority, "a priority")?;
        Ok(WasmReceipt { receipt: self.net.send_message(peer_id(peer)?, message, priority)? })
    }

    /// See [`NetworkHandler::receipts`].
    pub fn receipts(&self) -> Vec<WasmReceipt> {
        self.net.receipts().into_iter().map(|receipt| WasmReceipt { receipt }).collect()
    }

    /// See [`NetworkHandler::broadcast`]; returns the message's id.
    pub fn broadcast(
        &self,
        kind: JsValue,
        payload: &[u8],
        ttl: Option<f64>,
        propagation: JsValue,
        priority: JsValue,
        scope: JsValue,
    ) -> Result<String, Failure> {
        let mut message = message(kind, payload, ttl)?;
        if !propagation.is_undefined() {
            message = message.with_propagation(from_js(propagation, "a propagation")?);
        }
        let (priority, scope) = (from_js(priority, "a priority")?, from_js(scope, "a scope")?);
        Ok(self.net.broadcast(message, priority, scope)?.to_string())
    }

    /// See [`NetworkHandler::join_group`].
    #[wasm_bindgen(js_name = joinGroup)]
    pub fn join_group(&self, name: &str) -> Result<(), Failure> {
        Ok(self.net.join_group(name.parse::<GroupName>()?)?)
    }

    /// See [`NetworkHandler::leave_group`].
    #[wasm_bindgen(js_name = leaveGroup)]
    pub fn leave_group(&self, name: &str) -> Result<(), Failure> {
        Ok(self.net.leave_group(&name.parse::<GroupName>()?)?)
    }

    /// See [`NetworkHandler::discover_peers`].
    #[wasm_bindgen(js_name = discoverPeers)]
    pub fn discover_peers(&self, target: JsValue) -> Result<(), Failure> {
        Ok(self.net.discover_peers(from_js(target, "a target of discovery")?)?)
    }

    /// See [`NetworkHandler::connection_state`].
    #[wasm_bindgen(js_name = connectionState)]
    pub fn connection_state(&self, peer: &str) -> Result<JsValue, Failure> {
        to_js(&self.net.connection_state(&peer_id(peer)?))
    }

    /// See [`NetworkHandler::peers`].
    pub fn peers(&self) -> Result<JsValue, Failure> {
        to_js(&self.net.peers())
    }

    /// See [`NetworkHandler::peer_info`].
    #[wasm_bindgen(js_name = peerInfo)]
    pub fn peer_info(&self, peer: &str) -> Result<JsValue, Failure> {
        match self.net.peer_info(&peer_id(peer)?) {
            Some(info) => to_js(&info),
            None => Ok(JsValue::UNDEFINED),
        }
    }

    /// See [`NetworkHandler::status`].
    pub fn status(&self) -> Result<JsValue, Failure> {
        to_js(&self.net.status())
    }

    /// See [`NetworkHandler::network_stats`].
    #[wasm_bindgen(js_name = networkStats)]
    pub fn network_stats(&self) -> Result<JsValue, Failure> {
        to_js(&self.net.network_stats())
    }

    /// See [`NetworkHandler::events`].
    pub fn events(&self) -> WasmEvents {
        WasmEvents { pull: Pull::new(self.net.events()) }
    }

    /// See [`NetworkHandler::messages`].
    pub fn messages(&self) -> WasmMessages {
        WasmMessages { pull: Pull::new(self.net.messages()) }
    }

    /// See [`NetworkHandler::send_transfer`]. One of `bytes`, `read` and `pull` is given: the payload, a function that
    /// reads from an offset so many bytes of it, or one that gives what comes next; the latter two give promises.
    #[wasm_bindgen(js_name = sendTransfer)]
    #[allow(clippy::too_many_arguments, reason = "they are the fields of an object that JavaScript takes apart")]
    pub fn send_transfer(
        &self,
        peer: &str,
        name: String,
        kind: String,
        meta: Vec<u8>,
        length: Option<f64>,
        hash: Option<String>,
        bytes: Option<Vec<u8>>,
        read: Option<js_sys::Function>,
        pull: Option<js_sys::Function>,
    ) -> Result<WasmTransfer, Failure> {
        let length = match length {
            None => None,
            // Above 2^53 JavaScript doesn't count exactly.
            Some(length) if (0.0..=9_007_199_254_740_992.0).contains(&length) && length.fract() == 0.0 => {
                Some(length as u64)
            }
            Some(length) => return Err(argument(format!("a length of {length} is not a number of bytes"))),
        };
        let hash = hash.map(|hash| hash.parse()).transpose()?;
        let offer = TransferOffer { name, kind, meta: meta.into(), length, hash };
        let payload = match (bytes, read, pull) {
            (Some(bytes), _, _) => Payload::Bytes(bytes),
            (None, Some(read), _) => Payload::Read(read),
            (None, None, Some(pull)) => Payload::Pull(pull),
            (None, None, None) => return Err(argument("nothing to send was given".to_owned())),
        };
        transfers::send(&self.net, peer, offer, payload)
    }

    /// See [`NetworkHandler::transfers`].
    pub fn transfers(&self) -> WasmTransfers {
        WasmTransfers { pull: Pull::new(self.net.transfers()) }
    }

    /// See [`NetworkHandler::shutdown`].
    pub async fn shutdown(&self) {
        let net = self.net.clone();
        net.shutdown().await;
    }
}

/// See [`Receipt`].
#[wasm_bindgen]
pub struct WasmReceipt {
    receipt: Receipt,
}

#[wasm_bindgen]
impl WasmReceipt {
    /// See [`Receipt::id`].
    pub fn id(&self) -> String {
        self.receipt.id().to_string()
    }

    /// See [`Receipt::recipient`].
    pub fn recipient(&self) -> String {
        self.receipt.recipient().to_string()
    }

    /// See [`Receipt::accepted`].
    pub async fn accepted(&self) -> Result<(), Failure> {
        let receipt = self.receipt.clone();
        Ok(receipt.accepted().await?)
    }

    /// See [`Receipt::state`].
    pub fn state(&self) -> Result<JsValue, Failure> {
        to_js(&self.receipt.state())
    }

    /// See [`Receipt::delivered`].
    pub async fn delivered(&self) -> Result<(), Failure> {
        let receipt = self.receipt.clone();
        Ok(receipt.delivered().await?)
    }
}

/// See [`Events`].
#[wasm_bindgen]
pub struct WasmEvents {
    pull: Pull<Events>,
}

#[wasm_bindgen]
impl WasmEvents {
    /// The next event; undefined at the end.
    pub async fn next(&self) -> Result<JsValue, Failure> {
        let next = self.pull.next();
        next.await.map_or(Ok(JsValue::UNDEFINED), |event| to_js(&event))
    }

    /// Ends the stream; whoever waits for the next event gets undefined.
    pub fn close(&self) {
        self.pull.close();
    }
}

/// See [`Messages`].
#[wasm_bindgen]
pub struct WasmMessages {
    pull: Pull<Messages>,
}

#[wasm_bindgen]
impl WasmMessages {
    /// The next message; undefined at the end.
    pub async fn next(&self) -> Result<JsValue, Failure> {
        let next = self.pull.next();
        next.await.map_or(Ok(JsValue::UNDEFINED), |message| message_to_js(&message))
    }

    /// See [`Messages::confirm`]. While somebody waits for the next message, all before it are confirmed already.
    pub fn confirm(&self) {
        if let Some(stream) = &self.pull.state.borrow().stream {
            stream.confirm();
        }
    }

    /// Ends the stream; whoever waits for the next message gets undefined.
    pub fn close(&self) {
        self.pull.close();
    }
}

/// A stream that JavaScript pulls from, one at a time, and may close meanwhile.
struct Pull<S> {
    state: Rc<RefCell<PullState<S>>>,
}

struct PullState<S> {
    /// Away while somebody waits for the next item.
    stream: Option<S>,
    closed: bool,
    /// Wakes whoever waits.
    close: Option<oneshot::Sender<()>>,
}

impl<S: futures::Stream + Unpin> Pull<S> {
    fn new(stream: S) -> Self {
        Self { state: Rc::new(RefCell::new(PullState { stream: Some(stream), closed: false, close: None })) }
    }

    /// Borrows nothing of `self` while it waits, so that JavaScript may free the object meanwhile.
    fn next(&self) -> impl Future<Output = Option<S::Item>> + use<S> {
        let shared = self.state.clone();
        async move {
            let (mut stream, closed) = {
                let mut state = shared.borrow_mut();
                if state.closed {
                    return None;
                }
                // A second caller while the first waits gets nothing; iterables never do that.
                let stream = state.stream.take()?;
                let (sender, receiver) = oneshot::channel();
                state.close = Some(sender);
                (stream, receiver)
            };
            let item = match select(stream.next(), closed).await {
                Either::Left((item, _)) => item,
                Either::Right(_) => None,
            };
            let mut state = shared.borrow_mut();
            if !state.closed {
                state.stream = Some(stream);
            }
            item
        }
    }

    fn close(&self) {
        let mut state = self.state.borrow_mut();
        state.closed = true;
        state.stream = None;
        // Dropping the sender wakes whoever waits.
        state.close = None;
    }
}

impl<S> Drop for Pull<S> {
    fn drop(&mut self) {
        let mut state = self.state.borrow_mut();
        state.closed = true;
        state.stream = None;
        state.close = None;
    }
}

fn peer_id(text: &str) -> Result<PeerId, Failure> {
    text.parse().map_err(|_| argument(format!("{text:?} is not a peer id; expected such as 12D3KooW…")))
}

fn message(kind: JsValue, payload: &[u8], ttl: Option<f64>) -> Result<Message, Failure> {
    let message = Message::new(from_js(kind, "a message kind")?, payload.to_vec());
    match ttl {
        None => Ok(message),
        Some(ttl) => match Duration::try_from_secs_f64(ttl / 1000.0) {
            Ok(ttl) => Ok(message.with_ttl(ttl)),
            Err(_) => Err(argument(format!("ttl is {ttl}, expected a number of milliseconds from 0 up"))),
        },
    }
}
