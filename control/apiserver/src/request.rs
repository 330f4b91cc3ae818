//! A request as the stages see it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::PoisonError;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use corten_api::status::Status;
use http::{HeaderMap, Method, Uri};
use http_body_util::BodyExt;
use percent_encoding::percent_decode_str;

use crate::identity::Identity;

/// Most bytes of a request's body, as upstream.
const MOST_BODY: usize = 3 << 20;
/// So much of a body that is too large is read all the same: clients that are still sending take an answer for a broken
/// stream. Who sends more than this gets just that.
const MOST_DROPPED: usize = 64 << 20;

/// A body that is handed on as it comes.
pub(crate) type Incoming = http_body_util::combinators::UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// Clients that take longer to send a body than this are not waited for.
const LONGEST_READ: Duration = Duration::from_secs(60);
/// So much of the body of a request that is refused by its head is read, for so long: small requests are answered to
/// clients that only listen once they have sent all, and nobody unknown keeps us reading.
const MOST_REFUSED: usize = 256 << 10;
const LONGEST_REFUSED: Duration = Duration::from_secs(1);

/// Reads a body in time, or says why not.
pub(crate) async fn read_in_time(body: Incoming) -> Result<Bytes, Status> {
    tokio::time::timeout(LONGEST_READ, read_body(body)).await.unwrap_or_else(|_| {
        let message = "Timeout: request did not complete within requested timeout - the body did not come to its end";
        Err(Status::failure(504, "Timeout", message))
    })
}

/// Reads a little of a body that nobody wants.
pub(crate) async fn drop_body(mut body: Incoming) {
    let read = async {
        let mut length = 0;
        while let Some(Ok(frame)) = body.frame().await {
            length += frame.data_ref().map_or(0, Bytes::len);
            if length > MOST_REFUSED {
                break;
            }
        }
    };
    // Either way the answer is on its way then.
    let _ = tokio::time::timeout(LONGEST_REFUSED, read).await;
}

/// Reads a body, or says why not.
async fn read_body<B>(body: B) -> Result<Bytes, Status>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut body = std::pin::pin!(body);
    let (mut bytes, mut length) = (BytesMut::new(), 0_usize);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            let error: Box<dyn std::error::Error + Send + Sync> = error.into();
            Status::bad_request(format!("cannot read the request: {error}"))
        })?;
        // Trailers say nothing that matters here.
        let Ok(data) = frame.into_data() else { continue };
        length += data.len();
        if length <= MOST_BODY {
            bytes.extend_from_slice(&data);
        } else if length > MOST_DROPPED {
            break;
        } else {
            bytes = BytesMut::new();
        }
    }
    if length > MOST_BODY {
        let message = format!("Request entity too large: limit is {MOST_BODY}");
        return Err(Status::failure(413, "RequestEntityTooLarge", message));
    }
    Ok(bytes.freeze())
}

/// The address that a request came from, among the request's extensions.
#[derive(Clone, Copy)]
pub(crate) struct PeerAddress(pub(crate) IpAddr);

/// A request. Its body is read once its head is found good.
pub(crate) struct Request {
    pub(crate) method: Method,
    /// Decoded path.
    pub(crate) path: String,
    pub(crate) uri: Uri,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The body while it has not been read; that of a proxied request is the backend's to read. Bodies are not `Sync`;
    /// the lock makes it so.
    pub(crate) incoming: std::sync::Mutex<Option<Incoming>>,
    pub(crate) user: Identity,
    /// The address that it came from; none in process.
    pub(crate) peer: Option<IpAddr>,
    /// For requests that become streams.
    pub(crate) upgrade: Option<hyper::upgrade::OnUpgrade>,
}

impl Request {
    /// Takes the body, if it has not been read.
    pub(crate) fn take_incoming(&mut self) -> Option<Incoming> {
        self.incoming.get_mut().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Value of a header, if it is text.
    pub(crate) fn header(&self, name: http::header::HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// Query parameters; of one that appears twice the first counts, `all` has all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(HashMap<String, Vec<String>>);

impl Query {
    pub(crate) fn parse(query: Option<&str>) -> Self {
        let mut map: HashMap<String, Vec<String>> = HashMap::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            map.entry(decode(name)).or_default().push(decode(value));
        }
        Self(map)
    }

    /// A parameter that is there and not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(|values| values.first()).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Whether a parameter is there, with or without a value.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(crate) fn all(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether a flag is set. As upstream reads them, only its absence, `0` and `false` are no.
    pub(crate) fn flag(&self, name: &str) -> bool {
        let value = self.0.get(name).and_then(|values| values.first());
        value.is_some_and(|value| value != "0" && !value.eq_ignore_ascii_case("false"))
    }

    /// A number.
    pub(crate) fn number(&self, name: &str) -> Result<Option<i64>, Status> {
        self.get(name)
            .map(|text| {
                text.parse().map_err(|_| {
                    Status::bad_request(format!(
                        "invalid parameter {name}: strconv.ParseInt: parsing {text:?}: invalid syntax"
                    ))
                })
            })
            .transpose()
    }
}

/// Percent-decoding, with `+` as a space.
fn decode(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

/// Percent-decoding of a path.
pub(crate) fn decode_path(path: &str) -> String {
    percent_decode_str(path).decode_utf8_lossy().into_owned()
}
