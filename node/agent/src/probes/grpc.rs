//! Probes that ask a gRPC server by the health checking protocol.
//!
//! Spec: <https://github.com/grpc/grpc/blob/master/doc/health-checking.md>
//! The two messages have one field each, so they are written and read by hand.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, TE, USER_AGENT};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio_util::task::AbortOnDropHandle;

use super::answer::Answer;
use super::{http as web, tcp};

/// `ServingStatus.SERVING`.
const SERVING: u64 = 1;
const UNIMPLEMENTED: &str = "12";

pub(super) async fn run(host: &str, port: u16, service: &str, timeout: Duration) -> Answer {
    match tokio::time::timeout(timeout, ask(host, port, service)).await {
        Ok(Ok(())) => Answer::Healthy,
        Ok(Err(error)) => Answer::Unhealthy(error),
        Err(_) => Answer::Unhealthy(format!(
            "timeout: failed to connect service {:?} within {}s: context deadline exceeded",
            tcp::address(host, port),
            timeout.as_secs()
        )),
    }
}

async fn ask(host: &str, port: u16, service: &str) -> Result<(), String> {
    let address = tcp::address(host, port);
    let failed = |error: hyper::Error| format!("error: health rpc probe failed: {error}");
    let stream = tcp::connect(host, port).await;
    let stream = stream.map_err(|error| format!("error: failed to connect service at {address:?}: {error}"))?;
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(failed)?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(async move {
        let _ = connection.await;
    }));
    let request = Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers")
        .header(USER_AGENT, web::AGENT)
        .body(Full::new(Bytes::from(request_message(service))))
        .map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(failed)?;
    let headers = response.headers().clone();
    let body = response.into_body().collect().await.map_err(failed)?;
    let trailers = body.trailers().cloned().unwrap_or_default();
    check_status(&trailers, &headers)?;
    match serving_status(&body.to_bytes()) {
        Some(SERVING) => Ok(()),
        Some(other) => {
            let names = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];
            let name = usize::try_from(other).ok().and_then(|other| names.get(other)).copied().unwrap_or("UNKNOWN");
            Err(format!("service unhealthy (responded with {name:?})"))
        }
        None => Err("error: health rpc probe failed: the answer cannot be read".to_owned()),
    }
}

/// A server that has nothing to say puts the status into the headers.
fn check_status(trailers: &HeaderMap, headers: &HeaderMap) -> Result<(), String> {
    let text = |name: &str| {
        let value = trailers.get(name).or_else(|| headers.get(name));
        value.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    };
    let message = text("grpc-message");
    match text("grpc-status").as_str() {
        "0" => Ok(()),
        UNIMPLEMENTED => Err(format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {message}"
        )),
        code => Err(format!("error: health rpc probe failed: rpc error: code = {code} desc = {message}")),
    }
}

/// `HealthCheckRequest { service = 1 }`, framed.
fn request_message(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        push_varint(&mut message, service.len() as u64);
        message.extend_from_slice(service.as_bytes());
    }
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[0], length.as_slice(), &message].concat()
}

fn push_varint(message: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        message.push(u8::try_from(number & 0x7f).unwrap_or(0) | 0x80);
        number >>= 7;
    }
    message.push(u8::try_from(number).unwrap_or(0));
}

/// `HealthCheckResponse { status = 1 }`, framed. A field that is not there is zero.
fn serving_status(framed: &[u8]) -> Option<u64> {
    let message = framed.get(5..)?;
    match message {
        [] => Some(0),
        [0x08, rest @ ..] => {
            let mut number = 0;
            for (index, byte) in rest.iter().enumerate().take(9) {
                number |= u64::from(byte & 0x7f) << (7 * index);
                if byte & 0x80 == 0 {
                    return Some(number);
                }
            }
            None
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_written_and_read() {
        assert_eq!(request_message(""), [0; 5]);
        assert_eq!(request_message("db"), [0, 0, 0, 0, 4, 0x0a, 2, b'd', b'b']);
        assert_eq!(request_message(&"x".repeat(200))[5..8], [0x0a, 0xc8, 1]);
        assert_eq!(serving_status(&[0, 0, 0, 0, 2, 0x08, 1]), Some(1));
        assert_eq!(serving_status(&[0, 0, 0, 0, 0]), Some(0));
        assert_eq!(serving_status(&[0, 0]), None);
    }
}
