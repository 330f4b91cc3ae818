//! get and list.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use corten_api::names::Scope;
use corten_api::status::Status;
use corten_store::{RevisionError, Snapshot};
use http::StatusCode;
use http::header::ACCEPT;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::options;
use crate::body::{self, Answer};
use crate::negotiate;
use crate::objects::{self, Filter};
use crate::request::Request;
use crate::route::Target;
use crate::server::Server;
use crate::{lists, storage};

pub(super) async fn get(server: &Server, request: &Request, target: &Target) -> Result<Answer, Status> {
    let form = negotiate::accept(request.header(ACCEPT))?;
    if let Some(version @ 1..) = revision(request)? {
        reached(server, version).await?;
    }
    let name = target.name.as_deref().unwrap_or_default();
    let snapshot = server.store().snapshot();
    let key = storage::key(target.kind.storage(), target.namespace.as_deref(), name);
    let entry = snapshot.get(&key).ok_or_else(|| Status::not_found(target.kind.names(), name))?;
    objects::show(server, request, form, target.kind, &entry.value, StatusCode::OK, &Vec::new())
}

/// Where a list in pieces goes on.
#[derive(Serialize, Deserialize)]
struct Continue {
    /// Revision of the list; 0 for the newest one, whatever that is by then.
    rv: u64,
    /// The first key of the rest, without what all keys of the list begin with.
    start: String,
    /// How many objects the rest has, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    left: Option<usize>,
}

/// A list, or a piece of it.
pub(super) struct Page {
    pub(super) items: Vec<Bytes>,
    pub(super) metadata: Value,
}

pub(super) async fn list(server: &Server, request: &Request, target: &Target) -> Result<Answer, Status> {
    let form = negotiate::accept(request.header(ACCEPT))?;
    let page = match page(server, request, target).await {
        Ok(page) => page,
        Err(status) => {
            let from = request.query.get("continue").filter(|_| status.code == 410).map(parse_continue).transpose()?;
            let Some(from) = from else { return Err(status) };
            // The refusal has a token with which to go on in the newest state.
            let mut refusal = status.to_json();
            refusal["metadata"]["continue"] = token(&Continue { rv: 0, start: from.start, left: None })?.into();
            return Ok(body::value(StatusCode::GONE, &refusal));
        }
    };
    lists::answer(server, request, form, target, &page.items, &page.metadata)
}

/// The objects that a request selects.
pub(super) async fn page(server: &Server, request: &Request, target: &Target) -> Result<Page, Status> {
    let filter = Filter::parse(target.kind, &request.query)?;
    let limit = usize::try_from(request.query.number("limit")?.unwrap_or(0).max(0)).unwrap_or(0);
    options::list(&request.query)?;
    let prefix = place(target, &filter);
    let from = request.query.get("continue").map(parse_continue).transpose()?;
    let snapshot = snapshot(server, request, from.as_ref(), limit > 0).await?;
    let metadata = json!({"resourceVersion": snapshot.revision().to_string()});
    // One object needs no walk.
    if let (Some(name), true) = (filter.name(), prefix.is_one_place) {
        let key = [&*prefix.bytes, name.as_bytes()].concat();
        let found = snapshot.get(&key).map(|entry| entry.value.clone()).filter(|value| filter.matches(value));
        return Ok(Page { items: found.into_iter().collect(), metadata });
    }
    let prefix = prefix.bytes;
    let known_left = from.as_ref().and_then(|from| from.left);
    let start = from.map_or_else(|| prefix.clone(), |from| Bytes::from([&*prefix, from.start.as_bytes()].concat()));
    let (mut items, mut next, mut metadata) = (Vec::new(), None, metadata);
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
    if let Some(start) = next {
        // Of what a selector leaves out nobody knows how many come.
        let left = filter.is_empty().then(|| match known_left {
            Some(left) => left.saturating_sub(items.len()),
            None => 1 + rest.count(),
        });
        if let Some(left) = left {
            metadata["remainingItemCount"] = left.into();
        }
        let start = start.get(prefix.len()..).map(String::from_utf8_lossy).unwrap_or_default().into_owned();
        metadata["continue"] = token(&Continue { rv: snapshot.revision(), start, left })?.into();
    }
    Ok(Page { items, metadata })
}

/// Where the objects of a request are.
pub(super) struct Place {
    /// What all their keys begin with.
    pub(super) bytes: Bytes,
    /// Whether a name names one object there.
    pub(super) is_one_place: bool,
}

/// The smallest place in the store that holds all that can match.
pub(super) fn place(target: &Target, filter: &Filter) -> Place {
    let namespace = target.namespace.as_deref().or_else(|| filter.namespace());
    let is_one_place = target.kind.scope() == Scope::Cluster || namespace.is_some();
    let namespace = namespace.filter(|_| target.kind.scope() == Scope::Namespaced);
    Place { bytes: storage::prefix(target.kind.storage(), namespace), is_one_place }
}

/// The state to list: now, or the one that the client names.
async fn snapshot(
    server: &Server,
    request: &Request,
    from: Option<&Continue>,
    limited: bool,
) -> Result<Snapshot, Status> {
    let store = server.store();
    match from {
        Some(Continue { rv: 0, .. }) => return store.read().await.map_err(storage::refused),
        Some(from) => return store.snapshot_at(from.rv).map_err(|error| lost(&error)),
        None => {}
    }
    // A version with a limit means that very version, unless the client says otherwise.
    let exact = match request.query.get("resourceVersionMatch") {
        Some(wanted) => wanted == "Exact",
        None => limited,
    };
    match revision(request)? {
        Some(version @ 1..) if exact => {
            reached(server, version).await?;
            store.snapshot_at(version).map_err(|error| match error {
                RevisionError::Compacted { .. } => {
                    Status::expired("The resourceVersion for the provided list is too old.")
                }
                error => unreadable(&error),
            })
        }
        Some(version @ 1..) => {
            reached(server, version).await?;
            Ok(store.snapshot())
        }
        Some(0) => Ok(store.snapshot()),
        None => store.read().await.map_err(storage::refused),
    }
}

/// The refusal to go on with a list whose revision is forgotten.
fn lost(error: &RevisionError) -> Status {
    if !matches!(error, RevisionError::Compacted { .. }) {
        return Status::bad_request("continue key is not valid");
    }
    Status::expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list \
         without the continue parameter, or use the continue token in this response to retrieve the remainder of the \
         results. Continuing with the provided token results in an inconsistent list - objects that were created, \
         modified, or deleted between the time the first chunk was returned and now may show up in the list.",
    )
}

fn token(place: &Continue) -> Result<String, Status> {
    Ok(URL_SAFE_NO_PAD.encode(serde_json::to_string(place).map_err(Status::internal)?))
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
