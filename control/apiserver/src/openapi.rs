//! `/openapi/v2` and `/openapi/v3`. Made when first asked for, then kept compressed: they are large and rarely read.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use bytes::Bytes;
use corten_api::openapi::{Documents, Served, protobuf};
use corten_api::status::Status;
use corten_kinds::{KINDS, Subresource};
use http::header::{ACCEPT, ETAG, IF_NONE_MATCH};
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::KUBERNETES_VERSION;
use crate::body::{self, Answer};
use crate::discovery::{group_versions, hex, spoken};
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
    compressed: Vec<u8>,
    hash: String,
}

impl Document {
    fn new(bytes: &[u8]) -> Self {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        // Writing to memory does not fail.
        let _ = encoder.write_all(bytes);
        Self { compressed: encoder.finish().unwrap_or_default(), hash: hex(&Sha256::digest(bytes)) }
    }

    fn bytes(&self) -> Result<Bytes, Status> {
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(self.compressed.as_slice()).read_to_end(&mut bytes).map_err(Status::internal)?;
        Ok(bytes.into())
    }

    fn answer(&self, request: &Request, kind: &'static str) -> Result<Answer, Status> {
        let etag = format!("\"{}\"", self.hash);
        if request.header(IF_NONE_MATCH) == Some(&etag) {
            return Ok(body::not_modified(&etag));
        }
        let mut answer = body::answer(StatusCode::OK, HeaderValue::from_static(kind), body::full(self.bytes()?));
        if let Ok(etag) = HeaderValue::from_str(&etag) {
            answer.headers_mut().insert(ETAG, etag);
        }
        Ok(answer)
    }
}

impl OpenApi {
    pub(crate) fn build() -> Self {
        let served = served();
        let documents = Documents::new(&served, KUBERNETES_VERSION);
        let v2 = documents.v2();
        let v3 = group_versions().into_iter().map(|(group, version)| {
            let path = if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") };
            (path, Document::new(documents.v3(group, version).to_string().as_bytes()))
        });
        Self {
            v3: v3.collect(),
            v2_protobuf: Document::new(&protobuf(&v2)),
            v2: Document::new(v2.to_string().as_bytes()),
        }
    }
}

fn served() -> Vec<Served> {
    KINDS
        .iter()
        .map(|kind| {
            let like_objects = kind
                .subresources()
                .iter()
                .filter(|subresource| matches!(subresource, Subresource::Status | Subresource::Scale))
                .map(|subresource| (subresource_name(*subresource), spoken(*kind, *subresource).0))
                .collect::<Vec<_>>();
            // The list lives as long as the process: documents are made once.
            Served { names: kind.names(), scope: kind.scope(), verbs: kind.verbs(), subresources: like_objects.leak() }
        })
        .collect()
}

pub(crate) fn answer(server: &Server, request: &Request, path: &[&str]) -> Result<Answer, Status> {
    let documents = server.openapi();
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
            let document = documents.v3.get(&rest.join("/")).ok_or_else(Status::no_such_path)?;
            document.answer(request, "application/json")
        }
        _ => Err(Status::no_such_path()),
    }
}
