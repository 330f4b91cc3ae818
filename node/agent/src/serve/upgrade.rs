//! Protocol upgrades: which protocol a request asks for, and the 101 that grants it.

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::upgrade::OnUpgrade;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::serve::Answer;

const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const WEBSOCKET_PROTOCOL: HeaderName = HeaderName::from_static("sec-websocket-protocol");
const WEBSOCKET_KEY: HeaderName = HeaderName::from_static("sec-websocket-key");
const WEBSOCKET_ACCEPT: HeaderName = HeaderName::from_static("sec-websocket-accept");

/// A protocol the client speaks, and the dialect that was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    WebSocket(&'static str),
    Spdy(&'static str),
}

/// The best of our dialects that the request offers. `Err` says why there is none.
pub(crate) fn choose(
    headers: &HeaderMap,
    websocket: &[&'static str],
    spdy: &[&'static str],
) -> Result<Protocol, String> {
    let upgrade = headers.get(UPGRADE).and_then(|value| value.to_str().ok()).unwrap_or_default().to_ascii_lowercase();
    let pick = |header: HeaderName, known: &[&'static str]| {
        let offered: Vec<&str> = headers
            .get_all(header)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .collect();
        known
            .iter()
            .copied()
            .find(|dialect| offered.contains(dialect))
            .ok_or_else(|| format!("unable to upgrade: none of the protocols {offered:?} is supported: {known:?}"))
    };
    match upgrade.as_str() {
        "websocket" => pick(WEBSOCKET_PROTOCOL, websocket).map(Protocol::WebSocket),
        "spdy/3.1" => pick(STREAM_PROTOCOL, spdy).map(Protocol::Spdy),
        _ => Err("unable to upgrade: missing upgrade header: `Upgrade: websocket` or `Upgrade: SPDY/3.1`".to_owned()),
    }
}

/// The 101 for the chosen protocol, and the connection that will be ours once it is sent.
pub(crate) fn accept<B>(request: &mut Request<B>, protocol: Protocol) -> (Answer, OnUpgrade) {
    let mut answer = Response::new(Empty::new().map_err(|never| match never {}).boxed());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    match protocol {
        Protocol::WebSocket(dialect) => {
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(WEBSOCKET_PROTOCOL, HeaderValue::from_static(dialect));
            let key = request.headers().get(WEBSOCKET_KEY).map(HeaderValue::as_bytes).unwrap_or_default();
            if let Ok(value) = HeaderValue::from_str(&derive_accept_key(key)) {
                headers.insert(WEBSOCKET_ACCEPT, value);
            }
        }
        Protocol::Spdy(dialect) => {
            headers.insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
            headers.insert(STREAM_PROTOCOL, HeaderValue::from_static(dialect));
        }
    }
    (answer, hyper::upgrade::on(request))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEBSOCKET: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
    const SPDY: [&str; 1] = ["v4.channel.k8s.io"];

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn the_best_common_dialect_is_chosen() {
        let listed =
            headers(&[("upgrade", "websocket"), ("sec-websocket-protocol", "v4.channel.k8s.io, v5.channel.k8s.io")]);
        assert_eq!(choose(&listed, &WEBSOCKET, &SPDY), Ok(Protocol::WebSocket("v5.channel.k8s.io")));
        let repeated = headers(&[
            ("upgrade", "SPDY/3.1"),
            ("x-stream-protocol-version", "v5.channel.k8s.io"),
            ("x-stream-protocol-version", "v4.channel.k8s.io"),
        ]);
        assert_eq!(choose(&repeated, &WEBSOCKET, &SPDY), Ok(Protocol::Spdy("v4.channel.k8s.io")));
    }

    #[test]
    fn nothing_in_common_is_said() {
        assert!(choose(&headers(&[]), &WEBSOCKET, &SPDY).expect_err("refused").contains("missing upgrade header"));
        let old = headers(&[("upgrade", "spdy/3.1"), ("x-stream-protocol-version", "channel.k8s.io")]);
        assert!(choose(&old, &WEBSOCKET, &SPDY).expect_err("refused").contains("channel.k8s.io"));
    }
}
