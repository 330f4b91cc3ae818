//! `/openapi/v2` and `/openapi/v3`. Made when first asked for, then kept compressed: they are large and rarely read.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::LazyLock;

use bytes::Bytes;
use corten_api::openapi::{Documents, Served, ServedPart, protobuf};
use corten_api::status::Status;
use corten_kinds::{AnyKind, KINDS};
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_ENCODING, ETAG, IF_NONE_MATCH, LOCATION, VARY};
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::KUBERNETES_VERSION;
use crate::body::{self, Answer};
use crate::discovery::{group_versions, hex, spoken};
use crate::negotiate::takes_gzip;
use crate::request::Request;
use crate::route::subresource_name;
use crate::server::Server;

/// How both names of the protobuf form begin: old clients ask for `…@v1.0+protobuf`, newer ones for [`PROTOBUF`].
const PROTOBUF_STEM: &str = "application/com.github.proto-openapi.spec.v2";
/// What all are answered: the parser of Go's clients refuses a type with `@` in it, which they ask for nevertheless.
const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// All documents.
pub(crate) struct OpenApi {
    v2: Document,
    v2_protobuf: Document,
    /// By path below `/openapi/v3/`.
    v3: BTreeMap<String, Document>,
}

struct Document {
    compressed: Bytes,
    hash: String,
}

impl Document {
    fn new(bytes: &[u8]) -> Self {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        // Writing to memory does not fail.
        let _ = encoder.write_all(bytes);
        Self { compressed: encoder.finish().unwrap_or_default().into(), hash: hex(&Sha256::digest(bytes)) }
    }

    fn bytes(&self) -> Result<Bytes, Status> {
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(&*self.compressed).read_to_end(&mut bytes).map_err(Status::internal)?;
        Ok(bytes.into())
    }

    fn answer(&self, request: &Request, kind: &'static str) -> Result<Answer, Status> {
        let etag = format!("\"{}\"", self.hash);
        if request.header(IF_NONE_MATCH) == Some(&etag) {
            return Ok(body::not_modified(&etag));
        }
        let zipped = takes_gzip(&request.headers);
        let bytes = if zipped { self.compressed.clone() } else { self.bytes()? };
        let mut answer = body::answer(StatusCode::OK, HeaderValue::from_static(kind), body::full(bytes));
        let headers = answer.headers_mut();
        if zipped {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        headers.insert(VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
        if let Ok(etag) = HeaderValue::from_str(&etag) {
            headers.insert(ETAG, etag);
        }
        Ok(answer)
    }
}

impl OpenApi {
    pub(crate) fn build() -> Self {
        let group_versions = group_versions();
        let documents = Documents::new(&SERVED, &group_versions, KUBERNETES_VERSION);
        let v3 = documents.v3_names().into_iter().map(|name| {
            let document = Document::new(documents.v3(&name).to_string().as_bytes());
            (name, document)
        });
        let v3 = v3.collect();
        let v2 = documents.v2();
        Self { v3, v2_protobuf: Document::new(&protobuf(&v2)), v2: Document::new(v2.to_string().as_bytes()) }
    }
}

/// All kinds as documents need them, for as long as the process lives.
static SERVED: LazyLock<Vec<Served>> = LazyLock::new(|| KINDS.iter().map(|kind| served(*kind)).collect());

fn served(kind: &'static dyn AnyKind) -> Served {
    let parts = kind.subresources().iter().map(|subresource| {
        let (gvk, verbs) = spoken(kind, *subresource);
        ServedPart { name: subresource_name(*subresource), gvk, verbs }
    });
    Served {
        names: kind.names(),
        list_kind: format!("{}List", kind.names().kind).leak(),
        scope: kind.scope(),
        verbs: kind.verbs(),
        shows_deleted: kind.shows_deleted(),
        subresources: parts.collect::<Vec<_>>().leak(),
    }
}

pub(crate) async fn answer(server: &Server, request: &Request, path: &[&str]) -> Result<Answer, Status> {
    let documents = server.openapi().await?;
    match path {
        ["v2"] => {
            let accept = request.header(ACCEPT).unwrap_or_default();
            if accept.contains(PROTOBUF_STEM) {
                documents.v2_protobuf.answer(request, PROTOBUF)
            } else {
                documents.v2.answer(request, "application/json")
            }
        }
        ["v3"] => {
            let entry = |(path, document): (&String, &Document)| {
                let url = format!("/openapi/v3/{path}?hash={}", document.hash);
                (path.clone(), json!({"serverRelativeURL": url}))
            };
            let paths: serde_json::Map<String, Value> = documents.v3.iter().map(entry).collect();
            Ok(body::value(StatusCode::OK, &json!({"paths": paths})))
        }
        ["v3", rest @ ..] => {
            let name = rest.join("/");
            let document = documents.v3.get(&name).ok_or_else(Status::no_such_path)?;
            match request.query.get("hash") {
                None => document.answer(request, "application/json"),
                // What has its hash in its address never changes there.
                Some(hash) if hash == document.hash => {
                    let mut answer = document.answer(request, "application/json")?;
                    let forever = HeaderValue::from_static("public, immutable, max-age=31536000");
                    answer.headers_mut().insert(CACHE_CONTROL, forever);
                    Ok(answer)
                }
                Some(_) => moved(&format!("/openapi/v3/{name}?hash={}", document.hash)),
            }
        }
        _ => Err(Status::no_such_path()),
    }
}

/// A client has an old address of a document.
fn moved(to: &str) -> Result<Answer, Status> {
    let mut answer = body::text(StatusCode::MOVED_PERMANENTLY, "");
    answer.headers_mut().insert(LOCATION, HeaderValue::from_str(to).map_err(Status::internal)?);
    Ok(answer)
}
