//! Logs, exec, attach and port-forward: the API server finds the node and hands the bytes through.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use corten_api::api::core::v1::{Node, Pod};
use corten_api::names::Names;
use corten_api::status::Status;
use corten_kinds::Subresource;
use futures::StreamExt;
use http::header::{CONNECTION, HOST, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::body::{self, Answer};
use crate::request::Request;
use crate::route::Target;
use crate::server::Server;
use crate::storage;

/// The kind that the parameters of a request for a log are.
static LOG_OPTIONS: Names =
    Names { group: "", version: "v1", kind: "PodLogOptions", plural: "", singular: "", short: &[], categories: &[] };

/// A connection to a kubelet.
pub trait NodeStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> NodeStream for T {}

/// Reaches kubelets.
#[async_trait]
pub trait NodeDialer: Send + Sync + 'static {
    /// A TLS connection to the kubelet of that node, ready for HTTP/1.1.
    async fn dial(&self, node: &Node) -> io::Result<Box<dyn NodeStream>>;

    /// A TCP connection to an address of the cluster: a pod's, or another port of a node.
    async fn dial_address(&self, address: SocketAddr) -> io::Result<Box<dyn NodeStream>> {
        Err(io::Error::new(io::ErrorKind::Unsupported, format!("{address} cannot be reached from here")))
    }
}

/// `pods/log`.
pub(crate) async fn logs(server: &Arc<Server>, request: &Request, target: &Target) -> Result<Answer, Status> {
    let pod: Pod = storage::of(server, target)?;
    let container = container(&pod, request.query.get("container"))?;
    for name in ["tailLines", "limitBytes", "sinceSeconds"] {
        let least = i64::from(name != "tailLines");
        if let Some(number) = request.query.number(name)?.filter(|number| *number < least) {
            let mut errs = corten_api::field::FieldErrors::default();
            errs.invalid(name, number, format!("must be greater than or equal to {least}"));
            return Err(Status::invalid(&LOG_OPTIONS, target.name.as_deref().unwrap_or_default(), &errs));
        }
    }
    let (node, waiting) = placed(server, &pod)?;
    let Some(node) = node else {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        return Err(Status::bad_request(format!(
            "container \"{container}\" in pod \"{name}\" is waiting to start: {waiting}"
        )));
    };
    let path = format!("/containerLogs/{}/{container}{}", path_of(&pod), query(request));
    let response = send(server, &node, Method::GET, &path, &HeaderMap::new()).await?;
    let (parts, incoming) = response.into_parts();
    if parts.status != StatusCode::OK {
        return Err(refusal(
            parts.status,
            incoming.collect().await.map(|body| body.to_bytes()).unwrap_or_default().as_ref(),
        ));
    }
    // The stream ends where the kubelet's ends, also if that is early: there is no way to say more in a log.
    let pieces = http_body_util::BodyStream::new(incoming)
        .filter_map(|frame| std::future::ready(frame.ok().and_then(|frame| frame.into_data().ok())));
    Ok(body::answer(StatusCode::OK, HeaderValue::from_static("text/plain"), body::stream(pieces)))
}

/// `pods/exec`, `pods/attach`, `pods/portforward`: an upgraded connection, copied both ways.
pub(crate) async fn stream(
    server: &Arc<Server>,
    request: Request,
    target: &Target,
    what: Subresource,
) -> Result<Answer, Status> {
    let pod: Pod = storage::of(server, target)?;
    let mut path = match what {
        Subresource::PortForward => format!("/portForward/{}", path_of(&pod)),
        _ => {
            let container = container(&pod, request.query.get("container"))?;
            let verb = if what == Subresource::Exec { "exec" } else { "attach" };
            if what == Subresource::Exec && request.query.all("command").is_empty() {
                return Err(Status::bad_request("you must specify at least 1 command for the container"));
            }
            format!("/{verb}/{}/{container}", path_of(&pod))
        }
    };
    path.push_str(&query(&request));
    let (node, _) = placed(server, &pod)?;
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let node = node.ok_or_else(|| Status::bad_request(format!("pod {name} does not have a host assigned")))?;
    let Some(upgrade) = request.upgrade else {
        return Err(Status::bad_request(
            "you must request an upgrade: unable to upgrade: missing upgrade headers in request",
        ));
    };
    let mut response = send(server, &node, request.method.clone(), &path, &request.headers).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let (parts, incoming) = response.into_parts();
        let bytes = incoming.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        return Err(refusal(parts.status, &bytes));
    }
    let from_node = hyper::upgrade::on(&mut response);
    tokio::spawn(async move {
        let (client, node) = match tokio::try_join!(upgrade, from_node) {
            Ok(both) => both,
            Err(error) => {
                tracing::debug!(error = corten_base::chain(&error), "a stream to a node was not upgraded");
                return;
            }
        };
        let (mut client, mut node) = (TokioIo::new(client), TokioIo::new(node));
        // Either end may go away at any time; that ends the other.
        let _ = tokio::io::copy_bidirectional(&mut client, &mut node).await;
    });
    let mut answer = http::Response::new(body::full(Bytes::new()));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    for (name, value) in response.headers() {
        answer.headers_mut().append(name.clone(), value.clone());
    }
    Ok(answer)
}

fn path_of(pod: &Pod) -> String {
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    format!("{}/{}", part(&pod.metadata.namespace), part(&pod.metadata.name))
}

/// The container that is meant: the named one, the annotated default, or the only one.
fn container(pod: &Pod, asked: Option<&str>) -> Result<String, Status> {
    const DEFAULT: &str = "kubectl.kubernetes.io/default-container";
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let spec = pod.spec.clone().unwrap_or_default();
    let own: Vec<&str> = spec.containers.iter().map(|container| container.name.as_str()).collect();
    let init: Vec<&str> = spec.init_containers.iter().flatten().map(|container| container.name.as_str()).collect();
    if let Some(asked) = asked {
        let mut debug = spec.ephemeral_containers.iter().flatten();
        let known = own.contains(&asked) || init.contains(&asked) || debug.any(|container| container.name == asked);
        return if known {
            Ok(asked.to_owned())
        } else {
            Err(Status::bad_request(format!("container {asked} is not valid for pod {name}")))
        };
    }
    let annotated = pod.metadata.annotations.as_ref().and_then(|all: &BTreeMap<String, String>| all.get(DEFAULT));
    if let Some(default) = annotated.filter(|default| own.contains(&default.as_str())) {
        return Ok(default.clone());
    }
    match (own.as_slice(), init.as_slice()) {
        ([only], []) => Ok((*only).to_owned()),
        (_, []) => Err(Status::bad_request(format!(
            "a container name must be specified for pod {name}, choose one of: [{}]",
            own.join(" ")
        ))),
        _ => Err(Status::bad_request(format!(
            "a container name must be specified for pod {name}, choose one of: [{}] or one of the init containers: [{}]",
            own.join(" "),
            init.join(" ")
        ))),
    }
}

/// The node a pod is on; or what it waits for.
fn placed(server: &Server, pod: &Pod) -> Result<(Option<Node>, String), Status> {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
    if node.is_empty() {
        return Ok((None, "PodScheduled".to_owned()));
    }
    let found = storage::find(&server.store().snapshot(), "minions", None, &node)?;
    let found = found.ok_or_else(|| {
        let mut status = Status::failure(404, "NotFound", format!("nodes \"{node}\" not found"));
        status.details = Some(serde_json::json!({"name": node, "kind": "nodes"}));
        status
    })?;
    Ok((Some(found), String::new()))
}

/// The request's parameters, as the kubelet takes them; the container is in the path already.
fn query(request: &Request) -> String {
    let pairs = request.uri.query().unwrap_or_default().split('&');
    let kept: Vec<&str> = pairs.filter(|pair| !pair.is_empty() && !pair.starts_with("container=")).collect();
    if kept.is_empty() { String::new() } else { format!("?{}", kept.join("&")) }
}

async fn send(
    server: &Server,
    node: &Node,
    method: Method,
    path: &str,
    headers: &HeaderMap,
) -> Result<http::Response<hyper::body::Incoming>, Status> {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let failed = |error: &dyn std::error::Error| {
        Status::internal(format!("error dialing backend of node {name}: {}", corten_base::chain(error)))
    };
    let connection = server.config().dialer.dial(node).await.map_err(|error| failed(&error))?;
    let (mut sender, driver) =
        hyper::client::conn::http1::handshake(TokioIo::new(connection)).await.map_err(|error| failed(&error))?;
    tokio::spawn(async move {
        let _ = driver.with_upgrades().await;
    });
    let mut request = http::Request::builder().method(method).uri(path).header(HOST, encoded(name));
    let passed = |name: &HeaderName| {
        *name == UPGRADE
            || *name == CONNECTION
            || name.as_str().starts_with("sec-websocket-")
            || name == "x-stream-protocol-version"
    };
    for (name, value) in headers.iter().filter(|(name, _)| passed(name)) {
        request = request.header(name, value);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| failed(&error))?;
    sender.send_request(request).await.map_err(|error| failed(&error))
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// What a kubelet said no with, as the API says it.
fn refusal(code: StatusCode, body: &[u8]) -> Status {
    let message = String::from_utf8_lossy(body).trim().to_owned();
    match code.as_u16() {
        404 => Status::failure(404, "NotFound", message),
        400..500 => Status::bad_request(message),
        _ => Status::internal(message),
    }
}
