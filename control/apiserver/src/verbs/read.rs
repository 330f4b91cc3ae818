//! get and list.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{BufMut, Bytes, BytesMut};
use corten_api::status::Status;
use corten_store::{RevisionError, Snapshot};
use http::StatusCode;
use http::header::ACCEPT;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::options;
use crate::body::{self, Answer};
use crate::negotiate::{self, Form, Shape};
use crate::objects::{self, Filter};
use crate::request::Request;
use crate::route::Target;
use crate::server::Server;
use crate::{storage, table};

pub(super) fn get(server: &Server, request: &Request, target: &Target) -> Result<Answer, Status> {
    let form = negotiate::accept(request.header(ACCEPT))?;
    let name = target.name.as_deref().unwrap_or_default();
    let snapshot = server.store().snapshot();
    let key = storage::key(target.kind.storage(), target.namespace.as_deref(), name);
    let entry = snapshot.get(&key).ok_or_else(|| Status::not_found(target.kind.names(), name))?;
    objects::show(server, request, form, target.kind, &entry.value, StatusCode::OK, &Vec::new())
}

/// Where a list in pieces goes on.
#[derive(Serialize, Deserialize)]
struct Continue {
    rv: u64,
    /// The first key of the rest.
    start: String,
}

pub(super) async fn list(server: &Server, request: &Request, target: &Target) -> Result<Answer, Status> {
    let form = negotiate::accept(request.header(ACCEPT))?;
    let filter = Filter::parse(target.kind, &request.query)?;
    let limit = usize::try_from(request.query.number("limit")?.unwrap_or(0).max(0)).unwrap_or(0);
    options::list(&request.query)?;
    let from = request.query.get("continue").map(parse_continue).transpose()?;
    let snapshot = snapshot(server, request, from.as_ref()).await?;
    let prefix = storage::prefix(target.kind.storage(), target.namespace.as_deref());
    let start = from.map_or_else(|| prefix.clone(), |from| Bytes::from(from.start));
    let mut items = Vec::new();
    let mut next = None;
    let mut rest = snapshot.range(start..).take_while(|(key, _)| key.starts_with(&prefix));
    for (key, entry) in rest.by_ref() {
        if !filter.matches(&entry.value) {
            continue;
        }
        if limit > 0 && items.len() == limit {
            next = Some(key.clone());
            break;
        }
        items.push(entry.value.clone());
    }
    let mut metadata = json!({"resourceVersion": snapshot.revision().to_string()});
    if let Some(start) = next {
        if filter.is_empty() {
            metadata["remainingItemCount"] = (1 + rest.count()).into();
        }
        let token = Continue { rv: snapshot.revision(), start: String::from_utf8_lossy(&start).into_owned() };
        let text = serde_json::to_string(&token).map_err(Status::internal)?;
        metadata["continue"] = URL_SAFE_NO_PAD.encode(text).into();
    }
    answer(server, request, form, target, &items, &metadata)
}

pub(crate) fn answer(
    server: &Server,
    request: &Request,
    form: Form,
    target: &Target,
    items: &[Bytes],
    metadata: &Value,
) -> Result<Answer, Status> {
    let names = target.kind.names();
    let (version, kind) = (names.api_version(), format!("{}List", names.kind));
    match form.shape {
        Shape::Table => {
            let table = table::of(server, request, form, target.kind, items, metadata.clone())?;
            Ok(objects::value(StatusCode::OK, form, &table))
        }
        Shape::Metadata => {
            let items = items.iter().map(|bytes| objects::partial(form, bytes)).collect::<Result<Vec<_>, _>>()?;
            let version = format!("meta.k8s.io/{}", form.version);
            let list = json!({"kind": "PartialObjectMetadataList", "apiVersion": version, "metadata": metadata, "items": items});
            Ok(objects::value(StatusCode::OK, form, &list))
        }
        Shape::Object | Shape::Discovery(_) if form.yaml => {
            let items = items.iter().map(|bytes| {
                serde_json::from_slice::<Value>(&objects::served(target.kind, bytes)?).map_err(Status::internal)
            });
            let items = items.collect::<Result<Vec<_>, _>>()?;
            let list = json!({"kind": kind, "apiVersion": version, "metadata": metadata, "items": items});
            Ok(objects::value(StatusCode::OK, form, &list))
        }
        Shape::Object | Shape::Discovery(_) => {
            let converted: Vec<Bytes>;
            let items = if target.kind.is_view() {
                converted = items.iter().map(|item| objects::served(target.kind, item)).collect::<Result<_, _>>()?;
                converted.as_slice()
            } else {
                items
            };
            let size: usize = items.iter().map(|item| item.len() + 1).sum();
            let mut bytes = BytesMut::with_capacity(size + 256);
            let head = json!({"kind": kind, "apiVersion": version, "metadata": metadata}).to_string();
            bytes.extend_from_slice(head.trim_end_matches('}').as_bytes());
            // The head ends with the metadata's brace and its own; both were cut.
            bytes.extend_from_slice(b"},\"items\":[");
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    bytes.put_u8(b',');
                }
                bytes.extend_from_slice(item);
            }
            bytes.extend_from_slice(b"]}");
            Ok(body::json(StatusCode::OK, bytes.freeze()))
        }
    }
}

/// The state to list: now, or the one that the client names.
async fn snapshot(server: &Server, request: &Request, from: Option<&Continue>) -> Result<Snapshot, Status> {
    let store = server.store();
    if let Some(from) = from {
        return store.snapshot_at(from.rv).map_err(|_| {
            Status::expired("The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter.")
        });
    }
    let version = revision(request)?;
    match (request.query.get("resourceVersionMatch"), version) {
        (Some("Exact"), Some(version @ 1..)) => store.snapshot_at(version).map_err(|error| unreadable(&error)),
        (_, Some(version @ 1..)) => {
            reached(server, version).await?;
            Ok(store.snapshot())
        }
        _ => store.read().await.map_err(storage::refused),
    }
}

/// The resourceVersion of a request; `None` if it names none.
pub(super) fn revision(request: &Request) -> Result<Option<u64>, Status> {
    let parse = |text: &str| {
        text.parse::<u64>()
            .map_err(|_| Status::bad_request(format!("invalid resource version: {text:?}: it must be a number")))
    };
    request.query.get("resourceVersion").map(parse).transpose()
}

/// Waits a little for a version that is not here yet.
pub(super) async fn reached(server: &Server, version: u64) -> Result<(), Status> {
    let wait = tokio::time::timeout(std::time::Duration::from_secs(3), server.store().reached(version));
    wait.await.map_err(|_| too_large(version, server.store().snapshot().revision()))
}

/// The refusal for a version that is not here in time. Clients know it by its cause, and list anew.
fn too_large(asked: u64, current: u64) -> Status {
    let message = format!("Too large resource version: {asked}, current: {current}");
    let mut status = Status::failure(504, "Timeout", format!("Timeout: {message}"));
    let cause = json!({"reason": "ResourceVersionTooLarge", "message": "Too large resource version"});
    status.details = Some(json!({"causes": [cause], "retryAfterSeconds": 1}));
    status
}

/// The refusal for a version that is gone or not there yet.
pub(super) fn unreadable(error: &RevisionError) -> Status {
    match error {
        RevisionError::Compacted { asked, oldest } => {
            Status::expired(format!("too old resource version: {asked} ({oldest})"))
        }
        RevisionError::Future { asked, current } => too_large(*asked, *current),
        RevisionError::Slow => Status::expired("too old resource version"),
    }
}

fn parse_continue(token: &str) -> Result<Continue, Status> {
    let bytes = URL_SAFE_NO_PAD.decode(token.trim_end_matches('=')).ok();
    let token = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    token.ok_or_else(|| Status::bad_request("continue key is not valid"))
}
