//! Hands a request to a backend and its answer back, or joins both connections if they become a stream.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use corten_api::status::Status;
use futures::StreamExt;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST,
    LOCATION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use http_body_util::{BodyExt, BodyStream};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;

use super::backend::Backend;
use super::links::{Page, Place};
use super::tls;
use crate::body::{self, Answer};
use crate::node_proxy::NodeStream;
use crate::request::{Incoming, Request};
use crate::server::Server;

/// Headers that are about one connection.
const HOP_BY_HOP: [HeaderName; 7] =
    [CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];

/// What a backend says of who may read its answers.
const CORS: [HeaderName; 4] = [
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN,
];
/// Addresses of all by whom a request came, the client's first.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// `own` is our path up to the backend's root, `below` the path there.
pub(super) async fn forward(
    server: &Arc<Server>,
    mut request: Request,
    backend: &Backend,
    own: &str,
    below: &str,
) -> Result<Answer, Status> {
    let unreachable = |error: &dyn std::error::Error| {
        let message = format!("error trying to reach service: {}", corten_base::chain(error));
        Status::failure(503, "ServiceUnavailable", message)
    };
    let (connection, host) = connect(server, backend).await.map_err(|error| unreachable(&error))?;
    let handshake = hyper::client::conn::http1::handshake::<_, Incoming>(TokioIo::new(connection));
    let (mut sender, driver) = handshake.await.map_err(|error| unreachable(&error))?;
    tokio::spawn(async move {
        let _ = driver.with_upgrades().await;
    });
    let query = request.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let uri: Uri = format!("{below}{query}")
        .parse()
        .map_err(|error: http::uri::InvalidUri| Status::bad_request(format!("{below:?} is no path: {error}")))?;
    let upgrade = request.upgrade.take();
    let body = request.take_incoming().unwrap_or_else(empty);
    let mut outgoing = http::Request::new(body);
    *outgoing.method_mut() = request.method.clone();
    *outgoing.uri_mut() = uri;
    *outgoing.headers_mut() = headers_for(&request, &host, own, below, upgrade.is_some());
    let mut response = sender.send_request(outgoing).await.map_err(|error| unreachable(&error))?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let unasked = || Status::failure(502, "", "the backend changed the protocol, which nobody had asked for");
        return Ok(joined(upgrade.ok_or_else(unasked)?, &mut response));
    }
    let asked = asked_host(&request).and_then(|host| host.to_str().ok().map(str::to_owned));
    let place = Place { hosts: [host].into_iter().chain(asked).collect(), own: own.to_owned() };
    Ok(answered(response, place))
}

/// The backend's answer, with its links as our clients can follow them.
fn answered(response: http::Response<hyper::body::Incoming>, place: Place) -> Answer {
    let (mut parts, incoming) = response.into_parts();
    let headers = &mut parts.headers;
    // It is framed anew by the server that sends it on.
    strip(headers, &[]);
    // Whom the backend lets read its answers is not who may read ours.
    CORS.iter().for_each(|name| drop(headers.remove(name)));
    let location = headers.get(LOCATION).and_then(|location| place.link(location.to_str().ok()?));
    if let Some(location) = location.and_then(|location| HeaderValue::from_str(&location).ok()) {
        headers.insert(LOCATION, location);
    }
    let page = if parts.status == StatusCode::PARTIAL_CONTENT { None } else { page(headers, place) };
    if page.is_some() {
        headers.remove(CONTENT_ENCODING);
        headers.remove(CONTENT_LENGTH);
    }
    // What the backend sends ends where its connection does; there is no way to say more once the head is sent.
    let pieces = BodyStream::new(incoming)
        .take_while(|frame| std::future::ready(frame.is_ok()))
        .filter_map(|frame| std::future::ready(frame.ok().and_then(|frame| frame.into_data().ok())));
    let body = match page {
        None => body::stream(pieces),
        Some(mut page) => {
            let most = page.most();
            let pieces = pieces.flat_map(move |piece| futures::stream::iter(slices(piece, most)));
            let pieces = pieces.map(Some).chain(futures::stream::iter([None]));
            let rewritten = pieces.map(move |piece| Bytes::from(page.piece(piece.as_deref())));
            body::stream(rewritten.filter(|piece| std::future::ready(!piece.is_empty())))
        }
    };
    Answer::from_parts(parts, body)
}

/// A piece in slices of at most this length. Each is a piece of its own to whoever reads the answer: the next one is
/// decompressed when there is room for what comes of it.
fn slices(mut piece: Bytes, most: usize) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        let length = piece.len().min(most);
        (length > 0).then(|| piece.split_to(length))
    })
}

/// The page that an answer is, if it is one whose links can be rewritten.
fn page(headers: &HeaderMap, place: Place) -> Option<Page> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = text(CONTENT_TYPE).split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    (kind == "text/html").then(|| Page::new(text(CONTENT_ENCODING), place)).flatten()
}

/// By which host the client asked.
fn asked_host(request: &Request) -> Option<HeaderValue> {
    let authority = || request.uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    request.headers.get(HOST).cloned().or_else(authority)
}

fn empty() -> Incoming {
    http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync()
}

async fn connect(server: &Server, backend: &Backend) -> io::Result<(Box<dyn NodeStream>, String)> {
    let dialer = &server.config().dialer;
    match backend {
        Backend::Kubelet(node) => {
            let name = node.metadata.name.clone().unwrap_or_default();
            Ok((dialer.dial(node).await?, name))
        }
        Backend::Address { address, tls } => {
            let stream = dialer.dial_address(*address).await?;
            if !tls {
                return Ok((stream, address.to_string()));
            }
            let connector = tls::connector().map_err(io::Error::other)?;
            let name = ServerName::IpAddress(address.ip().into());
            Ok((Box::new(connector.connect(name, stream).await?), address.to_string()))
        }
    }
}

/// The client's headers as the backend gets them.
fn headers_for(request: &Request, host: &str, own: &str, below: &str, upgrades: bool) -> HeaderMap {
    let mut headers = request.headers.clone();
    let asked = asked_host(request);
    let hops: Vec<&str> = headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok()).collect();
    let peer = request.peer.map(|peer| peer.to_canonical().to_string());
    let hops = hops.into_iter().map(str::to_owned).chain(peer).collect::<Vec<_>>().join(", ");
    strip(&mut headers, if upgrades { &[CONNECTION, UPGRADE] } else { &[] });
    headers.remove(AUTHORIZATION);
    headers.remove(CONTENT_LENGTH);
    if let Some(length) = request.headers.get(CONTENT_LENGTH) {
        headers.insert(CONTENT_LENGTH, length.clone());
    }
    let secret: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with("impersonate-")).cloned().collect();
    for name in secret {
        headers.remove(name);
    }
    let mut put = |name: &'static str, value: Option<HeaderValue>| {
        if let Some(value) = value {
            headers.insert(name, value);
        }
    };
    put("host", HeaderValue::from_str(host).ok());
    put(FORWARDED_FOR, HeaderValue::from_str(&hops).ok().filter(|_| !hops.is_empty()));
    put("x-forwarded-host", asked);
    put("x-forwarded-proto", Some(HeaderValue::from_static("https")));
    put("x-forwarded-uri", HeaderValue::from_str(&format!("{own}{below}")).ok());
    headers
}

/// Takes away what is about one connection, save what is named.
fn strip(headers: &mut HeaderMap, kept: &[HeaderName]) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let more = ["keep-alive", "proxy-connection"].map(HeaderName::from_static);
    for name in named.iter().chain(&HOP_BY_HOP).chain(&more).filter(|name| !kept.contains(name)) {
        headers.remove(name);
    }
}

/// Both ends have agreed on another protocol: their bytes go through.
fn joined(upgrade: hyper::upgrade::OnUpgrade, response: &mut http::Response<hyper::body::Incoming>) -> Answer {
    let from_backend = hyper::upgrade::on(&mut *response);
    tokio::spawn(async move {
        let (client, backend) = match tokio::try_join!(upgrade, from_backend) {
            Ok(both) => both,
            Err(error) => {
                tracing::debug!(error = corten_base::chain(&error), "a proxied stream was not upgraded");
                return;
            }
        };
        let (mut client, mut backend) = (TokioIo::new(client), TokioIo::new(backend));
        // Either end may go away at any time; that ends the other.
        let _ = tokio::io::copy_bidirectional(&mut client, &mut backend).await;
    });
    let mut answer = Answer::new(body::full(Bytes::new()));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *answer.headers_mut() = response.headers().clone();
    answer
}
