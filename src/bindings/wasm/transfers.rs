//! Transfers towards JavaScript: what a page gives is pulled by functions, what it takes is pushed into one, both as fast
//! as promises are kept. Nothing is gathered here.

use std::{
    io::{self, SeekFrom},
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::{AsyncRead, AsyncSeek, AsyncWrite, FutureExt as _};
use js_sys::{Function, Promise, Reflect, Uint8Array};
use send_wrapper::SendWrapper;
use wasm_bindgen::{JsCast as _, JsValue, prelude::wasm_bindgen};
use wasm_bindgen_futures::JsFuture;

use super::{
    Pull,
    convert::{Failure, argument, to_js},
    peer_id,
};
use crate::{
    IncomingTransfer, NetworkHandler, Transfer, TransferOffer, TransferPrefix, TransferSource, Transfers,
    error::TransferError,
};

/// See [`NetworkHandler::send_transfer`]. The payload is `bytes`; or `read(offset, length)` gives a promise of a part of
/// it, with `length` in the offer; or `pull()` gives a promise of what comes next, undefined at the end.
pub(super) fn send(
    net: &NetworkHandler,
    peer: &str,
    offer: TransferOffer,
    source: Payload,
) -> Result<WasmTransfer, Failure> {
    let length = offer.length;
    let source = match (source, length) {
        (Payload::Bytes(bytes), _) => bytes.into(),
        (Payload::Read(read), Some(length)) => TransferSource::of_length(Reader::at_any_place(read), length),
        (Payload::Read(_), None) => return Err(argument("what is read in parts needs a length".to_owned())),
        (Payload::Pull(pull), _) => TransferSource::once(Reader::once(pull)),
    };
    Ok(WasmTransfer { transfer: net.send_transfer(peer_id(peer)?, offer, source)? })
}

/// What JavaScript gives to be sent.
pub(super) enum Payload {
    Bytes(Vec<u8>),
    Read(Function),
    Pull(Function),
}

/// See [`Transfer`].
#[wasm_bindgen]
pub struct WasmTransfer {
    transfer: Transfer,
}

#[wasm_bindgen]
impl WasmTransfer {
    /// See [`Transfer::id`].
    pub fn id(&self) -> String {
        self.transfer.id().to_string()
    }

    /// See [`Transfer::peer`].
    pub fn peer(&self) -> String {
        self.transfer.peer().to_string()
    }

    /// See [`Transfer::direction`].
    pub fn direction(&self) -> Result<JsValue, Failure> {
        to_js(&self.transfer.direction())
    }

    /// See [`Transfer::progress`].
    pub fn progress(&self) -> Result<JsValue, Failure> {
        to_js(&self.transfer.progress())
    }

    /// See [`Transfer::finished`].
    pub async fn finished(&self) -> Result<String, Failure> {
        let transfer = self.transfer.clone();
        Ok(transfer.finished().await?.to_string())
    }

    /// See [`Transfer::cancel`].
    pub fn cancel(&self) {
        self.transfer.cancel();
    }
}

/// See [`Transfers`].
#[wasm_bindgen]
pub struct WasmTransfers {
    pub(super) pull: Pull<Transfers>,
}

#[wasm_bindgen]
impl WasmTransfers {
    /// The next offer; undefined at the end.
    pub async fn next(&self) -> Option<WasmIncomingTransfer> {
        let next = self.pull.next();
        next.await.map(|incoming| WasmIncomingTransfer { incoming: Some(incoming) })
    }

    /// Ends the stream; whoever waits for the next offer gets undefined.
    pub fn close(&self) {
        self.pull.close();
    }
}

/// See [`IncomingTransfer`].
#[wasm_bindgen]
pub struct WasmIncomingTransfer {
    /// Gone once it is answered.
    incoming: Option<IncomingTransfer>,
}

#[wasm_bindgen]
impl WasmIncomingTransfer {
    fn incoming(&self) -> Result<&IncomingTransfer, Failure> {
        Ok(self.incoming.as_ref().ok_or(TransferError::Gone)?)
    }

    /// See [`IncomingTransfer::peer`].
    pub fn peer(&self) -> Result<String, Failure> {
        Ok(self.incoming()?.peer().to_string())
    }

    /// See [`IncomingTransfer::id`].
    pub fn id(&self) -> Result<String, Failure> {
        Ok(self.incoming()?.id().to_string())
    }

    /// See [`IncomingTransfer::offer`]; `meta` as bytes.
    pub fn offer(&self) -> Result<JsValue, Failure> {
        let offer = self.incoming()?.offer();
        // The view without the bytes, so that they are not written out as numbers first.
        let view = to_js(&TransferOffer { meta: Default::default(), ..offer.clone() })?;
        let set = Reflect::set(&view, &"meta".into(), &Uint8Array::from(&offer.meta[..]));
        set.map(|_| view).map_err(|_| argument("an offer can't be shown in JavaScript".to_owned()))
    }

    /// See [`IncomingTransfer::accept_from`]: `read(offset, length)` gives a promise of what is there of the payload.
    /// `write(bytes)` may give a promise, which is awaited before the next; `close()` comes after the last. `at_most`: see
    /// [`IncomingTransfer::at_most`].
    pub async fn accept(
        &mut self,
        read: Option<Function>,
        write: Function,
        close: Function,
        at_most: Option<f64>,
    ) -> Result<WasmTransfer, Failure> {
        // Fractions are cut off; what is no length (NaN, below 0) becomes 0.
        let most = at_most.map_or(u64::MAX, |bytes| bytes as u64);
        let incoming = self.incoming.take().ok_or(TransferError::Gone)?.at_most(most);
        let prefix = match read {
            None => TransferPrefix::default(),
            Some(read) => {
                let read = TransferPrefix::read(Reader::at_any_place(read)).await;
                read.map_err(|error| TransferError::Source { reason: error.to_string() })?
            }
        };
        Ok(WasmTransfer { transfer: incoming.accept_from(prefix, Writer::new(write, close))? })
    }

    /// See [`IncomingTransfer::refuse`].
    pub fn refuse(&mut self, reason: String) -> Result<(), Failure> {
        self.incoming.take().ok_or(TransferError::Gone)?.refuse(reason);
        Ok(())
    }
}

/// What a page says went wrong.
fn said(thrown: &JsValue) -> io::Error {
    let text = match thrown.dyn_ref::<js_sys::Error>() {
        Some(error) => error.message().into(),
        None => thrown.as_string().unwrap_or_else(|| format!("{thrown:?}")),
    };
    io::Error::other(text)
}

/// Waits for what a function gave: a promise, or nothing to wait for.
struct Waiting(SendWrapper<JsFuture>);

impl Waiting {
    fn of(given: JsValue) -> Self {
        Self(SendWrapper::new(JsFuture::from(Promise::resolve(&given))))
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<JsValue>> {
        self.0.poll_unpin(context).map_err(|thrown| said(&thrown))
    }
}

/// A reader over functions of a page.
struct Reader {
    function: SendWrapper<Function>,
    /// Where the next read begins; `None` when it can't be told where.
    at: Option<u64>,
    waiting: Option<Waiting>,
    /// What came and did not fit, and how much of it is used.
    rest: Option<(SendWrapper<Uint8Array>, u32)>,
}

impl Reader {
    fn at_any_place(read: Function) -> Self {
        Self { function: SendWrapper::new(read), at: Some(0), waiting: None, rest: None }
    }

    fn once(pull: Function) -> Self {
        Self { function: SendWrapper::new(pull), at: None, waiting: None, rest: None }
    }

    fn ask(&self, length: usize) -> io::Result<Waiting> {
        let none = JsValue::UNDEFINED;
        let given = match self.at {
            Some(at) => self.function.call2(&none, &(at as f64).into(), &(length as f64).into()),
            None => self.function.call0(&none),
        };
        given.map(Waiting::of).map_err(|thrown| said(&thrown))
    }
}

impl AsyncRead for Reader {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        loop {
            if let Some((bytes, used)) = &mut this.rest {
                let left = bytes.length() - *used;
                let count = u32::try_from(buffer.len()).unwrap_or(u32::MAX).min(left);
                bytes.subarray(*used, *used + count).copy_to(&mut buffer[..count as usize]);
                *used += count;
                this.at = this.at.map(|at| at + u64::from(count));
                if *used == bytes.length() {
                    this.rest = None;
                }
                return Poll::Ready(Ok(count as usize));
            }
            let waiting = match &mut this.waiting {
                Some(waiting) => waiting,
                None => {
                    let asked = this.ask(buffer.len())?;
                    this.waiting.insert(asked)
                }
            };
            let given = ready!(waiting.poll(context));
            this.waiting = None;
            let given = given?;
            if given.is_undefined() {
                return Poll::Ready(Ok(0));
            }
            let Ok(bytes) = given.dyn_into::<Uint8Array>() else {
                return Poll::Ready(Err(io::Error::other("the page gave something else than bytes")));
            };
            match (bytes.length(), this.at) {
                // A part of nothing is the end; of a stream, nothing yet.
                (0, Some(_)) => return Poll::Ready(Ok(0)),
                (0, None) => {}
                _ => this.rest = Some((SendWrapper::new(bytes), 0)),
            }
        }
    }
}

impl AsyncSeek for Reader {
    fn poll_seek(self: Pin<&mut Self>, _: &mut Context<'_>, place: SeekFrom) -> Poll<io::Result<u64>> {
        let this = self.get_mut();
        let (SeekFrom::Start(at), Some(_)) = (place, this.at) else {
            return Poll::Ready(Err(io::ErrorKind::Unsupported.into()));
        };
        // What was asked for elsewhere is of no use.
        (this.at, this.waiting, this.rest) = (Some(at), None, None);
        Poll::Ready(Ok(at))
    }
}

/// A writer over functions of a page.
struct Writer {
    write: SendWrapper<Function>,
    close: SendWrapper<Function>,
    /// What was written is being taken.
    waiting: Option<Waiting>,
    closed: bool,
}

impl Writer {
    fn new(write: Function, close: Function) -> Self {
        Self { write: SendWrapper::new(write), close: SendWrapper::new(close), waiting: None, closed: false }
    }

    fn poll_taken(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(waiting) = &mut self.waiting {
            let taken = ready!(waiting.poll(context));
            self.waiting = None;
            taken?;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Writer {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_taken(context))?;
        let given = this.write.call1(&JsValue::UNDEFINED, &Uint8Array::from(bytes)).map_err(|thrown| said(&thrown))?;
        // Nothing to wait for is the common case, and a promise of nothing costs a turn of the page's loop.
        this.waiting = (!given.is_undefined()).then(|| Waiting::of(given));
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_taken(context)
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_taken(context))?;
        if !this.closed {
            this.closed = true;
            let given = this.close.call0(&JsValue::UNDEFINED).map_err(|thrown| said(&thrown))?;
            this.waiting = Some(Waiting::of(given));
        }
        this.poll_taken(context)
    }
}
