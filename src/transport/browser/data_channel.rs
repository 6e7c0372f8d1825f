//! One `RTCDataChannel` as a [`Channel`].

use std::{cell::RefCell, io, rc::Rc};

use bytes::Bytes;
use js_sys::{ArrayBuffer, Uint8Array};
use send_wrapper::SendWrapper;
use wasm_bindgen::{JsCast as _, JsValue, closure::Closure};
use web_sys::{Event, MessageEvent, RtcDataChannel, RtcDataChannelState, RtcDataChannelType};

use super::live::{Kind, Live};
use crate::transport::webrtc::{Channel, Handle, LOW_WATER};

/// One data channel. Closing it takes the handlers off, so nothing of it is left behind.
pub(crate) struct DataChannel {
    inner: SendWrapper<Inner>,
}

struct Inner {
    channel: RtcDataChannel,
    handlers: Handlers,
    _live: Live,
}

/// Where a channel's handlers are kept: they need the stream, and the stream needs the channel.
#[derive(Clone)]
pub(super) struct Handlers {
    kept: Rc<RefCell<Option<Callbacks>>>,
}

struct Callbacks {
    message: Closure<dyn FnMut(MessageEvent)>,
    open: Closure<dyn FnMut(Event)>,
    low: Closure<dyn FnMut(Event)>,
    close: Closure<dyn FnMut(Event)>,
}

impl DataChannel {
    /// Wraps a channel. Its events are heard once [`Handlers::attach`] is called, in the same turn of the event loop.
    pub(super) fn new(channel: RtcDataChannel) -> (Self, Handlers) {
        channel.set_binary_type(RtcDataChannelType::Arraybuffer);
        channel.set_buffered_amount_low_threshold(u32::try_from(LOW_WATER).expect("a few KiB"));
        let handlers = Handlers { kept: Rc::default() };
        let inner = Inner { channel, handlers: handlers.clone(), _live: Live::new(Kind::DataChannel) };
        (Self { inner: SendWrapper::new(inner) }, handlers)
    }

    /// Whether it can be written to.
    pub(super) fn is_open(&self) -> bool {
        self.inner.channel.ready_state() == RtcDataChannelState::Open
    }

    fn take_off(&self) {
        let channel = &self.inner.channel;
        if let Some(callbacks) = self.inner.handlers.kept.borrow_mut().take() {
            channel.set_onmessage(None);
            channel.set_onopen(None);
            channel.set_onbufferedamountlow(None);
            channel.set_onclose(None);
            channel.set_onerror(None);
            drop(callbacks);
        }
    }
}

impl Handlers {
    /// Tells a stream what happens on its channel.
    pub(super) fn attach(&self, channel: &RtcDataChannel, stream: &Handle<DataChannel>) {
        let callbacks = Callbacks {
            message: Closure::new({
                let stream = stream.clone();
                move |event: MessageEvent| stream.received(bytes_of(event.data()))
            }),
            open: Closure::new({
                let stream = stream.clone();
                move |_| stream.opened()
            }),
            low: Closure::new({
                let stream = stream.clone();
                move |_| stream.drained()
            }),
            close: Closure::new({
                let stream = stream.clone();
                move |_| stream.closed()
            }),
        };
        channel.set_onmessage(Some(callbacks.message.as_ref().unchecked_ref()));
        channel.set_onopen(Some(callbacks.open.as_ref().unchecked_ref()));
        channel.set_onbufferedamountlow(Some(callbacks.low.as_ref().unchecked_ref()));
        channel.set_onclose(Some(callbacks.close.as_ref().unchecked_ref()));
        channel.set_onerror(Some(callbacks.close.as_ref().unchecked_ref()));
        *self.kept.borrow_mut() = Some(callbacks);
    }
}

/// The one copy of what came. A text message is none of libp2p's; its bytes break the framing as they should.
fn bytes_of(data: JsValue) -> Bytes {
    match data.dyn_into::<ArrayBuffer>() {
        Ok(buffer) => Uint8Array::new(&buffer).to_vec().into(),
        Err(_) => Bytes::from_static(&[u8::MAX; 16]),
    }
}

impl Channel for DataChannel {
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        self.inner
            .channel
            .send_with_u8_array(message)
            .map_err(|error| super::js_error("send on a data channel", &error))
    }

    fn buffered(&self) -> usize {
        usize::try_from(self.inner.channel.buffered_amount()).unwrap_or(usize::MAX)
    }

    fn close(&mut self) {
        self.take_off();
        // Hands over what waits first (W3C WebRTC, "RTCDataChannel closing procedure").
        self.inner.channel.close();
    }
}

impl Drop for DataChannel {
    fn drop(&mut self) {
        self.take_off();
        self.inner.channel.close();
    }
}
