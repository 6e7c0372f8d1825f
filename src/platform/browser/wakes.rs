//! The life of a page: shown, frozen and resumed, left and come back to, offline and online. A worker has less of it.
//!
//! That a page is hidden or frozen it is told too late to do anything about it, and what happened meanwhile to its
//! connections they tell themselves; so only what may wake the node is heard.

use std::{cell::RefCell, future::poll_fn, rc::Rc, task::Poll, time::Duration};

use js_sys::Reflect;
use wasm_bindgen::{JsCast as _, JsValue, closure::Closure};
use web_sys::{Event, EventTarget};

use crate::platform::Wake;

/// How late a timer is when the page has slept.
const PAUSE: Duration = Duration::from_secs(5);

/// The same in a hidden page, whose timers the browser lets run once a minute.
const PAUSE_WHEN_HIDDEN: Duration = Duration::from_secs(90);

/// Hears what wakes the node.
pub(crate) struct Wakes {
    heard: Rc<RefCell<Heard>>,
    _listeners: Vec<Listener>,
}

/// What was heard since the last look: later facts join earlier ones, so nothing piles up.
#[derive(Default)]
struct Heard {
    wake: Option<Wake>,
    /// The kind of network, where the browser tells it.
    network: Option<String>,
    waker: Option<std::task::Waker>,
}

impl Heard {
    fn join(&mut self, wake: Wake) {
        let joined = self.wake.get_or_insert_default();
        joined.woken |= wake.woken;
        joined.online = wake.online.or(joined.online);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// One event that is listened to until it is dropped.
struct Listener {
    target: EventTarget,
    event: &'static str,
    callback: Closure<dyn FnMut(Event)>,
}

impl Listener {
    fn new(target: &EventTarget, event: &'static str, callback: impl FnMut(Event) + 'static) -> Self {
        let callback = Closure::<dyn FnMut(Event)>::new(callback);
        // It fails for things that are no event targets, and then nothing is ever heard.
        let _ = target.add_event_listener_with_callback(event, callback.as_ref().unchecked_ref());
        Self { target: target.clone(), event, callback }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let callback = self.callback.as_ref().unchecked_ref();
        let _ = self.target.remove_event_listener_with_callback(self.event, callback);
    }
}

impl Wakes {
    /// Begins to listen. That the page is offline from the start is heard first.
    pub(crate) fn new() -> Self {
        let heard = Rc::<RefCell<Heard>>::default();
        let mut listeners = Vec::new();
        let mut listen = |target: &EventTarget, event, meaning: fn(&Event, &mut Heard) -> Option<Wake>| {
            let heard = heard.clone();
            listeners.push(Listener::new(target, event, move |event| {
                let mut heard = heard.borrow_mut();
                if let Some(wake) = meaning(&event, &mut heard) {
                    heard.join(wake);
                }
            }));
        };
        let global = js_sys::global();
        listen(global.unchecked_ref(), "online", |_, _| Some(Wake { woken: false, online: Some(true) }));
        listen(global.unchecked_ref(), "offline", |_, _| Some(Wake { woken: false, online: Some(false) }));
        // Kept in memory while another page was shown.
        listen(global.unchecked_ref(), "pageshow", |event, _| is_true(event, "persisted").then_some(WOKEN));
        if let Some(document) = child(&global, "document") {
            listen(&document, "resume", |_, _| Some(WOKEN));
            // Timers have been slow; now what is due is done.
            listen(&document, "visibilitychange", |_, _| (!is_hidden()).then(Wake::default));
        }
        let navigator = child(&global, "navigator");
        if let Some(network) = navigator.as_ref().and_then(|navigator| child(navigator, "connection")) {
            heard.borrow_mut().network = kind_of(&network);
            // It also tells each estimate of the network's speed, which is nothing to wake up for.
            listen(&network, "change", |event, heard| {
                let kind = event.target().and_then(|network| kind_of(&network));
                let changed = heard.network != kind;
                heard.network = kind;
                changed.then_some(WOKEN)
            });
        }
        if navigator.is_some_and(|navigator| is_false(&navigator, "onLine")) {
            heard.borrow_mut().join(Wake { woken: false, online: Some(false) });
        }
        Self { heard, _listeners: listeners }
    }

    /// The next reason to look around.
    pub(crate) async fn next(&mut self) -> Wake {
        poll_fn(|context| {
            let mut heard = self.heard.borrow_mut();
            match heard.wake.take() {
                Some(wake) => Poll::Ready(wake),
                None => {
                    heard.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// A timer that is later than this was held up by sleep, not by the browser's way with timers.
    pub(crate) fn longest_pause(&self) -> Duration {
        if is_hidden() { PAUSE_WHEN_HIDDEN } else { PAUSE }
    }
}

const WOKEN: Wake = Wake { woken: true, online: None };

fn child(parent: &JsValue, name: &str) -> Option<EventTarget> {
    let child = Reflect::get(parent, &name.into()).ok()?;
    child.is_object().then(|| child.unchecked_into())
}

fn is_true(object: &JsValue, name: &str) -> bool {
    Reflect::get(object, &name.into()).is_ok_and(|value| value.is_truthy())
}

fn is_false(object: &JsValue, name: &str) -> bool {
    Reflect::get(object, &name.into()).is_ok_and(|value| value == JsValue::FALSE)
}

/// Whether the page is not shown; a worker doesn't know, and has timers that run.
fn is_hidden() -> bool {
    child(&js_sys::global(), "document").is_some_and(|document| is_true(&document, "hidden"))
}

/// `wifi`, `cellular` and so on; only some browsers on some devices tell.
fn kind_of(network: &JsValue) -> Option<String> {
    Reflect::get(network, &"type".into()).ok()?.as_string()
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    fn dispatch(target: &JsValue, name: &str) {
        let event = Event::new(name).expect("an event");
        target.unchecked_ref::<EventTarget>().dispatch_event(&event).expect("dispatched");
    }

    #[wasm_bindgen_test]
    fn what_wakes_a_page_is_heard_and_joined() {
        let mut wakes = Wakes::new();
        // A headless browser may begin without a network.
        let _ = wakes.next().now_or_never();
        assert_eq!(wakes.next().now_or_never(), None);
        let global = js_sys::global();
        dispatch(&global, "offline");
        dispatch(&global, "online");
        assert_eq!(wakes.next().now_or_never(), Some(Wake { woken: false, online: Some(true) }));
        let document = child(&global, "document").expect("tests run in a window");
        dispatch(&document, "resume");
        dispatch(&global, "offline");
        assert_eq!(wakes.next().now_or_never(), Some(Wake { woken: true, online: Some(false) }));
        dispatch(&global, "pageshow");
        assert_eq!(wakes.next().now_or_never(), None, "a page that is shown first has not slept");
    }

    #[wasm_bindgen_test]
    fn who_listens_no_more_hears_nothing() {
        let wakes = Wakes::new();
        let heard = wakes.heard.clone();
        drop(wakes);
        heard.borrow_mut().wake = None;
        dispatch(&js_sys::global(), "online");
        assert_eq!(heard.borrow().wake, None);
        assert_eq!(Rc::strong_count(&heard), 1, "the handlers are gone");
    }
}
