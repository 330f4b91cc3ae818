//! Hands a request to a backend and its answer back, or joins both connections if they become a stream.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use corten_api::status::Status;
use futures::StreamExt;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, LOCATION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use http_body_util::{BodyExt, BodyStream};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;

use super::backend::Backend;
use super::tls;
use crate::body::{self, Answer};
use crate::node_proxy::NodeStream;
use crate::request::{Incoming, Request};
use crate::server::Server;

/// Headers that are about one connection.
const HOP_BY_HOP: [HeaderName; 7] =
    [CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];

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
    if response.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(upgrade) = upgrade
    {
        return Ok(joined(upgrade, &mut response));
    }
    let (parts, incoming) = response.into_parts();
    // What the backend sends ends where its connection does; there is no way to say more once the head is sent.
    let pieces = BodyStream::new(incoming)
        .take_while(|frame| std::future::ready(frame.is_ok()))
        .filter_map(|frame| std::future::ready(frame.ok().and_then(|frame| frame.into_data().ok())));
    let mut answer = Answer::new(body::stream(pieces));
    *answer.status_mut() = parts.status;
    *answer.headers_mut() = parts.headers;
    // Kept by the server that sends it on: it frames the body itself.
    strip(answer.headers_mut(), &[]);
    if let Some(location) = answer.headers().get(LOCATION).and_then(|location| rewritten(location, &host, own)) {
        answer.headers_mut().insert(LOCATION, location);
    }
    Ok(answer)
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
    let asked = headers
        .get(HOST)
        .cloned()
        .or_else(|| request.uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok()));
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

/// Where a redirect of the backend leads, as our clients reach it; `None` if it leads elsewhere.
fn rewritten(location: &HeaderValue, host: &str, own: &str) -> Option<HeaderValue> {
    let uri: Uri = location.to_str().ok()?.parse().ok()?;
    let is_own = uri.authority().is_none_or(|authority| authority.as_str() == host);
    let path = uri.path_and_query()?.as_str();
    (is_own && path.starts_with('/')).then(|| HeaderValue::from_str(&format!("{own}{path}")).ok()).flatten()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_of_the_backend_stay_below_the_proxy() {
        let own = "/api/v1/namespaces/n/pods/p/proxy";
        let cases = [
            ("/login?next=1", Some("/api/v1/namespaces/n/pods/p/proxy/login?next=1")),
            ("http://10.42.0.5:80/x", Some("/api/v1/namespaces/n/pods/p/proxy/x")),
            ("https://example.com/x", None),
        ];
        for (location, expected) in cases {
            let new = rewritten(&HeaderValue::from_static(location), "10.42.0.5:80", own);
            assert_eq!(new.as_ref().and_then(|new| new.to_str().ok()), expected, "{location}");
        }
    }
}
