//! One node a database.

use futures::{
    channel::oneshot,
    future::{Either, select},
};
use futures_timer::Delay;
use js_sys::{Function, Object, Promise, Reflect};
use send_wrapper::SendWrapper;
use std::{pin::pin, time::Duration};
use wasm_bindgen::{JsCast as _, JsValue, closure::Closure};

use crate::error::StoreError;

/// The page before a reload holds its lock for a moment longer.
const PATIENCE: Duration = Duration::from_secs(3);

/// A database that is this node's own as long as this lives: a Web Lock (W3C Web Locks API), of which the browser lets
/// go however the page ends. Where the browser has no locks, in a page that is neither secure nor local, nothing is kept
/// apart.
pub(crate) struct Lock {
    /// Settles the promise that holds the lock.
    release: Option<SendWrapper<Function>>,
}

impl Lock {
    /// Takes the database; waits a moment for a page that is about to go.
    ///
    /// # Errors
    /// When another node has it, in whatever tab or worker.
    pub(crate) async fn take(place: &str) -> Result<Self, StoreError> {
        let Some((locks, request)) = locks() else {
            tracing::warn!("this page has no Web Locks: two nodes with one data_dir are not kept apart");
            return Ok(Self { release: None });
        };
        let (granted, grant) = oneshot::channel::<Option<Function>>();
        // Called with the lock; the promise it returns holds it. Never called when the request is given up.
        let mut granted = Some(granted);
        let callback = Closure::once_into_js(move |_lock: JsValue| -> Promise {
            let mut release = None;
            let held = Promise::new(&mut |resolve, _| release = Some(resolve));
            if let (Some(granted), Some(release)) = (granted.take(), release)
                && let Err(Some(unwanted)) = granted.send(Some(release))
            {
                // Nobody waits any more. Calling a promise's own function doesn't fail.
                let _ = unwanted.call0(&JsValue::UNDEFINED);
            }
            held
        });
        let give_up = web_sys::AbortController::new().map_err(|error| refused(place, &error))?;
        let options = Object::new();
        // Setting a property of a fresh object doesn't fail.
        let _ = Reflect::set(&options, &"signal".into(), &give_up.signal());
        let name = JsValue::from_str(&format!("cpc-net:{place}"));
        let requested = request.call3(&locks, &name, &options, &callback).map_err(|error| refused(place, &error))?;
        // It rejects when the request is given up, which is no news; unhandled it would be reported as an error.
        let requested = SendWrapper::new(requested.unchecked_into::<Promise>());
        wasm_bindgen_futures::spawn_local(async move {
            let _ = wasm_bindgen_futures::JsFuture::from(requested.take()).await;
        });
        match select(grant, pin!(Delay::new(PATIENCE))).await {
            Either::Left((Ok(Some(release)), _)) => Ok(Self { release: Some(SendWrapper::new(release)) }),
            Either::Left(_) => Err(in_use(place)),
            Either::Right(_) => {
                give_up.abort();
                Err(in_use(place))
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Some(release) = self.release.take() {
            // Calling a promise's own function doesn't fail.
            let _ = release.call0(&JsValue::UNDEFINED);
        }
    }
}

/// `navigator.locks` and its `request`, in a page or a worker.
fn locks() -> Option<(JsValue, Function)> {
    let navigator = Reflect::get(&js_sys::global(), &"navigator".into()).ok()?;
    let locks = Reflect::get(&navigator, &"locks".into()).ok().filter(JsValue::is_object)?;
    let request = Reflect::get(&locks, &"request".into()).ok()?.dyn_into().ok()?;
    Some((locks, request))
}

fn in_use(place: &str) -> StoreError {
    StoreError::InUse { item: format!("the database {place:?}") }
}

fn refused(place: &str, error: &JsValue) -> StoreError {
    StoreError::Io { action: "lock", item: format!("the database {place:?}"), reason: format!("{error:?}") }
}
