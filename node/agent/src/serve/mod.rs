//! The node's HTTPS server: what the API server asks a node for.
//!
//! ```text
//! GET      /healthz
//! GET      /pods
//! GET      /containerLogs/<namespace>/<pod>/<container>?follow&tailLines&sinceSeconds&sinceTime&timestamps&previous&limitBytes
//! GET|POST /exec/<namespace>/<pod>/<container>?command&input&output&error&tty
//! GET|POST /attach/<namespace>/<pod>/<container>?input&output&error&tty
//! GET|POST /portForward/<namespace>/<pod>
//! ```
//! Paths and parameters follow the kubelet (pkg/kubelet/server/server.go). Streams speak WebSocket
//! (`v5.channel.k8s.io`, `v4.channel.k8s.io`, SPDY tunnelled) and SPDY/3.1.

mod auth;
mod exec;
pub(crate) mod fds;
mod logs;
mod messages;
mod port_channels;
mod port_forward;
mod spdy;
mod streams;
mod upgrade;
mod websocket;

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use corten_base::Clock;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::lookup::{ContainerView, Lookup, PodView};

pub(crate) type Body = BoxBody<Bytes, io::Error>;
type Answer = Response<Body>;

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// What the handlers need.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) lookup: Lookup,
    pub(crate) clock: Clock,
}

/// Serves the node's pods until `cancel` fires. `tls` must demand client certificates of the cluster's CA.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    lookup: Lookup,
    clock: Clock,
    cancel: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(tls);
    let node = Node { lookup, clock };
    corten_base::accept(&listener, "the node", &cancel, |stream| {
        let (acceptor, node, cancel) = (acceptor.clone(), node.clone(), cancel.clone());
        tokio::spawn(async move {
            let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await else { return };
            let allowed = auth::is_allowed(stream.get_ref().1.peer_certificates());
            let service = hyper::service::service_fn(move |request| {
                let node = node.clone();
                async move { Ok::<_, Infallible>(if allowed { route(node, request).await } else { forbidden() }) }
            });
            let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            let connection = server.serve_connection_with_upgrades(TokioIo::new(stream), service);
            let _ = cancel.run_until_cancelled(connection).await;
        });
    })
    .await;
}

async fn route(node: Node, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let streams = request.method() == Method::GET || request.method() == Method::POST;
    match parts.as_slice() {
        ["healthz"] => text(StatusCode::OK, "ok"),
        ["pods"] => pods(&node),
        ["containerLogs", namespace, pod, container] => match find(&node, namespace, pod, container) {
            Ok((pod, container)) => logs::answer(&node, &pod, &container, &Query::of(&request)).await,
            Err(answer) => *answer,
        },
        ["exec", namespace, pod, container] if streams => match find(&node, namespace, pod, container) {
            Ok((pod, container)) => exec::exec(&node, &pod, &container, request),
            Err(answer) => *answer,
        },
        ["attach", namespace, pod, container] if streams => match find(&node, namespace, pod, container) {
            Ok((pod, container)) => exec::attach(&node, &pod, &container, request),
            Err(answer) => *answer,
        },
        ["portForward", namespace, pod] if streams => match node.lookup.pod(namespace, pod) {
            Some(pod) => port_forward::answer(&node, &pod, request),
            None => no_pod(namespace, pod),
        },
        _ => text(StatusCode::NOT_FOUND, "404 page not found"),
    }
}

fn find(
    node: &Node,
    namespace: &str,
    pod: &str,
    container: &str,
) -> Result<(Arc<PodView>, ContainerView), Box<Answer>> {
    let Some(view) = node.lookup.pod(namespace, pod) else { return Err(Box::new(no_pod(namespace, pod))) };
    match view.container(container) {
        Some(found) => {
            let found = found.clone();
            Ok((view, found))
        }
        None => {
            let why = format!("container {container} not found in pod {pod}_{namespace}");
            Err(Box::new(text(StatusCode::NOT_FOUND, why)))
        }
    }
}

fn no_pod(namespace: &str, pod: &str) -> Answer {
    text(StatusCode::NOT_FOUND, format!("pod {pod}_{namespace} does not exist on this node"))
}

fn pods(node: &Node) -> Answer {
    let items: Vec<_> =
        node.lookup.pods().iter().map(|view| serde_json::to_value(&*view.pod).unwrap_or_default()).collect();
    let list = serde_json::json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items});
    let mut answer = text(StatusCode::OK, list.to_string());
    answer.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    answer
}

fn forbidden() -> Answer {
    text(StatusCode::FORBIDDEN, "forbidden: only the API server and cluster administrators may ask a node directly")
}

/// A short answer in plain text.
pub(crate) fn text(code: StatusCode, message: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(message.into()).map_err(|never: Infallible| match never {}).boxed());
    *answer.status_mut() = code;
    answer
}

/// Decoded query parameters, each with all its values in order.
pub(crate) struct Query(HashMap<String, Vec<String>>);

impl Query {
    pub(crate) fn of<B>(request: &Request<B>) -> Self {
        let mut values: HashMap<String, Vec<String>> = HashMap::new();
        for pair in request.uri().query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            values.entry(decode(name)).or_default().push(decode(value));
        }
        Self(values)
    }

    pub(crate) fn all(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn first(&self, name: &str) -> Option<&str> {
        self.all(name).first().map(String::as_str)
    }

    /// Go's reading of a boolean; a parameter without value counts as set.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.first(name).is_some_and(|value| matches!(value, "" | "1" | "t" | "T" | "true" | "TRUE" | "True"))
    }
}

fn decode(text: &str) -> String {
    let spaced = text.replace('+', " ");
    percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}
