//! Bodies of answers: whole, or streamed.

use std::convert::Infallible;

use bytes::Bytes;
use corten_api::status::Status;
use futures::Stream;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use serde_json::Value;

/// Body of an answer.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// An answer.
pub(crate) type Answer = Response<Body>;

/// Marks an answer whose body is the JSON of one object: it may be rewritten in another syntax.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Object;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A body that is there as a whole.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed_unsync()
}

/// A body that comes in pieces.
pub(crate) fn stream(pieces: impl Stream<Item = Bytes> + Send + 'static) -> Body {
    use futures::StreamExt;
    StreamBody::new(pieces.map(|piece| Ok(Frame::data(piece)))).boxed_unsync()
}

/// An answer with a type.
pub(crate) fn answer(code: StatusCode, kind: HeaderValue, body: Body) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = code;
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}

/// A JSON answer.
pub(crate) fn json(code: StatusCode, bytes: impl Into<Bytes>) -> Answer {
    object(code, full(bytes))
}

/// A JSON answer, of which the client may want another form.
pub(crate) fn object(code: StatusCode, body: Body) -> Answer {
    let mut answer = answer(code, JSON, body);
    answer.extensions_mut().insert(Object);
    answer
}

/// A JSON answer from a value.
pub(crate) fn value(code: StatusCode, value: &Value) -> Answer {
    json(code, value.to_string())
}

/// Plain text.
pub(crate) fn text(code: StatusCode, text: impl Into<Bytes>) -> Answer {
    answer(code, HeaderValue::from_static("text/plain; charset=utf-8"), full(text))
}

/// The client has the document already. Without a type: caches put what comes with it over what they keep.
pub(crate) fn not_modified(etag: &str) -> Answer {
    let mut answer = Response::new(full(Bytes::new()));
    *answer.status_mut() = StatusCode::NOT_MODIFIED;
    if let Ok(etag) = HeaderValue::from_str(etag) {
        answer.headers_mut().insert(header::ETAG, etag);
    }
    answer
}

/// A refusal, as clients read it.
pub(crate) fn status(status: &Status) -> Answer {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = value(code, &status.to_json());
    let seconds = status.details.as_ref().and_then(|details| details["retryAfterSeconds"].as_u64());
    if let Some(seconds) = seconds.or((status.code == 429 || status.code == 503).then_some(1)) {
        answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    answer
}
