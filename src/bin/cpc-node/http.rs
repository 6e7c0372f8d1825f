//! What the node serves over HTTP: its health, metrics, snapshots and bootstrap addresses, and the page's files.
//!
//! Everything can only be read. Requests with bodies are refused, connections are bounded (see [`crate::bounded`]), and
//! pages get a content security policy under which they can load nothing from elsewhere but may talk to any node.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{Html, IntoResponse, Response},
    routing::get,
};
use cpc_net::{Multiaddr, NetworkHandler, NetworkStats, NetworkStatus, PeerInfo, Phase};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tower_http::services::ServeDir;

use crate::{
    addresses::{self, Host},
    bounded::BoundedListener,
    failure::Failure,
    metrics,
};

/// How long answers that are under way may take when the server stops.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// The page may run its own scripts and its wasm, show pictures that it holds itself, and open WebSockets to any node; no
/// other site may frame it.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; \
    img-src 'self' data: blob:; font-src 'self'; connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

const NO_PAGE: &str = "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>cpc-node</title>\n\
    <h1>This node is running</h1>\n\
    <p>It serves no page. Build the demo (<code>cargo xtask demo</code> does, and starts a node with it), or start the \
    node with <code>--www</code> and a folder that has an <code>index.html</code>.</p>\n\
    <p><a href=\"/healthz\">health</a>, <a href=\"/metrics\">metrics</a>, \
    <a href=\"/bootstrap.json\">bootstrap addresses</a>, <a href=\"/api/status\">status</a>, \
    <a href=\"/api/peers\">peers</a>, <a href=\"/api/stats\">statistics</a></p>\n</html>\n";

/// A place to serve at that is ours already.
#[derive(Debug)]
pub(crate) struct Bound {
    listener: TcpListener,
    address: SocketAddr,
}

impl Bound {
    /// Takes the place, so that a port in use is found before the node starts.
    pub(crate) async fn to(place: &str) -> Result<Self, Failure> {
        let refused = |error: io::Error| {
            Failure::Failed(format!(
                "can't serve HTTP on {place}: {error}; free the port, choose another with --http HOST:PORT (port 0 is \
                 any free one), or do without with --http off"
            ))
        };
        let listener = TcpListener::bind(place).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        Ok(Self { listener, address })
    }

    /// Where a person on this machine finds it.
    pub(crate) fn url(&self) -> String {
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(match address.ip() {
                IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            });
        }
        format!("http://{address}")
    }

    /// Begins to serve.
    pub(crate) fn serve(self, net: NetworkHandler, external: Vec<Multiaddr>, www: Option<&Path>) -> Server {
        let draining = Arc::new(AtomicBool::new(false));
        let site = Site { net, external: external.into(), draining: Arc::clone(&draining) };
        let router = router(site, www);
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            // A sender that is gone asks for the same as one that sends.
            let stopped = async {
                let _ = stopped.await;
            };
            let serving = axum::serve(BoundedListener::new(self.listener), router).with_graceful_shutdown(stopped);
            if let Err(error) = serving.await {
                tracing::error!(%error, "the HTTP server has stopped");
            }
        });
        Server { stop, task, draining }
    }
}

/// The HTTP server while it runs.
#[derive(Debug)]
pub(crate) struct Server {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
    draining: Arc<AtomicBool>,
}

impl Server {
    /// From now on `/healthz` says that the node is about to go.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Lets answers that are under way finish, and stops.
    pub(crate) async fn stop(mut self) {
        // If nobody receives it, the server has stopped already.
        let _ = self.stop.send(());
        if tokio::time::timeout(LAST_ANSWERS, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

/// What the handlers share.
#[derive(Clone)]
struct Site {
    net: NetworkHandler,
    external: Arc<[Multiaddr]>,
    draining: Arc<AtomicBool>,
}

fn router(site: Site, www: Option<&Path>) -> Router {
    let node: Router = Router::new()
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics_text))
        .route("/bootstrap.json", get(bootstrap))
        .route("/api/status", get(status))
        .route("/api/peers", get(peers))
        .route("/api/stats", get(stats))
        .with_state(site);
    let whole = match www {
        // A build may have put compressed twins beside its files.
        Some(folder) => node.fallback_service(ServeDir::new(folder).precompressed_br().precompressed_gzip()),
        None => node.route("/", get(no_page)).fallback(nothing_here),
    };
    whole.layer(middleware::from_fn(guard))
}

async fn healthz(State(site): State<Site>) -> (StatusCode, Json<Value>) {
    let status = site.net.status();
    let (code, word) = health(status.phase, site.draining.load(Ordering::Relaxed));
    let body = json!({
        "status": word,
        "peerId": status.local_peer_id.to_string(),
        "network": status.network,
        "connected": status.connected,
        "known": status.known,
    });
    (code, Json(body))
}

/// A node without peers is healthy: it may be the first one. One that drains wants no new work.
fn health(phase: Phase, draining: bool) -> (StatusCode, &'static str) {
    match phase {
        Phase::Stopped => (StatusCode::SERVICE_UNAVAILABLE, "stopped"),
        Phase::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
        _ if draining => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
        _ => (StatusCode::OK, "ok"),
    }
}

async fn metrics_text(State(site): State<Site>) -> Response {
    match metrics::text(&site.net.network_stats(), &site.net.status()) {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("the metrics can't be written: {error}\n")).into_response()
        }
    }
}

async fn bootstrap(State(site): State<Site>, headers: HeaderMap) -> Json<Value> {
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok()).and_then(Host::from_header);
    let status = site.net.status();
    let announced = addresses::announced(status.local_peer_id, &site.net.listen_addrs(), &site.external, host.as_ref());
    Json(json!({
        "peerId": status.local_peer_id.to_string(),
        "network": status.network,
        "addresses": announced.iter().map(Multiaddr::to_string).collect::<Vec<_>>(),
    }))
}

async fn status(State(site): State<Site>) -> Json<NetworkStatus> {
    Json(site.net.status())
}

async fn peers(State(site): State<Site>) -> Json<Vec<PeerInfo>> {
    Json(site.net.peers())
}

async fn stats(State(site): State<Site>) -> Json<NetworkStats> {
    Json(site.net.network_stats())
}

async fn no_page() -> Html<&'static str> {
    Html(NO_PAGE)
}

async fn nothing_here() -> (StatusCode, &'static str) {
    (StatusCode::NOT_FOUND, "nothing here; / says what there is\n")
}

/// Goes around every answer: refuses bodies, and adds the headers that all answers have.
async fn guard(request: Request, next: Next) -> Response {
    let caching = caching(request.uri().path());
    let mut response = if has_body(request.headers()) {
        (StatusCode::PAYLOAD_TOO_LARGE, "this server takes no request bodies\n").into_response()
    } else {
        next.run(request).await
    };
    let kept = response.status().is_success() || response.status() == StatusCode::NOT_MODIFIED;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, if kept { caching } else { "no-store" }),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn has_body(headers: &HeaderMap) -> bool {
    let announced = headers.get(header::CONTENT_LENGTH).is_some_and(|length| length.as_bytes() != b"0");
    announced || headers.contains_key(header::TRANSFER_ENCODING)
}

/// What the node tells is only true now; files that carry a hash of their content in their name never change; all other
/// files, `index.html` above all, are asked for again so that a new build is seen at once.
fn caching(path: &str) -> &'static str {
    let live = ["/healthz", "/metrics", "/bootstrap.json"].contains(&path) || path.starts_with("/api/");
    if live {
        "no-store"
    } else if is_hashed_asset(path) {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    }
}

/// Whether a path is of the form `/assets/<name>-<8 characters of a hash>.<extension>`, as Vite names what it builds.
fn is_hashed_asset(path: &str) -> bool {
    const HASH: usize = 8;
    let Some((stem, _extension)) = path.strip_prefix("/assets/").and_then(|file| file.rsplit_once('.')) else {
        return false;
    };
    let stem = stem.as_bytes();
    stem.len().checked_sub(HASH + 1).is_some_and(|dash| {
        stem[dash] == b'-' && stem[dash + 1..].iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_healthy_until_it_drains() {
        assert_eq!(health(Phase::Alone, false), (StatusCode::OK, "ok"));
        assert_eq!(health(Phase::Online, false), (StatusCode::OK, "ok"));
        assert_eq!(health(Phase::Online, true), (StatusCode::SERVICE_UNAVAILABLE, "draining"));
        assert_eq!(health(Phase::Draining, false).0, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(health(Phase::Stopped, true), (StatusCode::SERVICE_UNAVAILABLE, "stopped"));
    }

    #[test]
    fn only_what_never_changes_is_kept_for_ever() {
        for kept in ["/assets/index-BK2yHb5P.js", "/assets/cpc_net_bg-C0ff-e_1.wasm"] {
            assert!(caching(kept).contains("immutable"), "{kept}");
        }
        for asked in
            ["/", "/index.html", "/assets/index.js", "/assets/x-BK2yHb5.js", "/other/index-BK2yHb5P.js", "/assets/"]
        {
            assert_eq!(caching(asked), "no-cache", "{asked}");
        }
        for live in ["/bootstrap.json", "/healthz", "/metrics", "/api/peers"] {
            assert_eq!(caching(live), "no-store", "{live}");
        }
    }

    #[test]
    fn a_body_is_noticed_before_it_is_read() {
        let headers = |name: header::HeaderName, value: &'static str| {
            HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
        };
        assert!(has_body(&headers(header::CONTENT_LENGTH, "1")));
        assert!(has_body(&headers(header::TRANSFER_ENCODING, "chunked")));
        assert!(!has_body(&headers(header::CONTENT_LENGTH, "0")));
        assert!(!has_body(&HeaderMap::new()));
    }

    #[test]
    fn header_values_are_well_formed() {
        // `from_static` panics otherwise, and does so only when an answer is given.
        for value in [CONTENT_SECURITY_POLICY, metrics::CONTENT_TYPE] {
            assert!(HeaderValue::from_str(value).is_ok());
        }
    }

    #[tokio::test]
    async fn a_place_taken_is_named() {
        let taken = Bound::to("127.0.0.1:0").await.expect("a free port");
        let place = taken.address.to_string();
        assert_eq!(taken.url(), format!("http://{place}"));
        let failure = Bound::to(&place).await.expect_err("taken");
        assert_eq!(failure.exit_code(), 1);
        assert!(failure.to_string().contains(&place), "{failure}");
    }

    #[tokio::test]
    async fn the_url_leads_somewhere_even_when_every_interface_is_served() {
        let bound = Bound::to("0.0.0.0:0").await.expect("a free port");
        assert_eq!(bound.url(), format!("http://127.0.0.1:{}", bound.address.port()));
    }
}
