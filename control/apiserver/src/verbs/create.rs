//! create.

use bytes::Bytes;
use corten_api::names::Scope;
use corten_api::status::Status;
use corten_kinds::{AnyKind, Operation, WriteContext};
use http::StatusCode;
use serde_json::Value;

use super::Write;
use crate::admission::guards::{self, Act};
use crate::body::Answer;
use crate::managed::{self, Tracking, Writer};
use crate::request::Request;
use crate::route::Target;
use crate::server::{FreeIn, Server};
use crate::storage::{self, Commit, Committed};
use crate::{admission, negotiate, objects};

/// How often a name or an address that turns out to be taken is drawn anew.
const ATTEMPTS: u32 = 8;

pub(super) async fn create(server: &Server, request: &Request, target: &Target) -> Result<Answer, Status> {
    let form = negotiate::accept(request.header(http::header::ACCEPT))?;
    let (object, mut warnings) = objects::decode_stored(server, request, target.kind)?;
    let writer = Writer::of(request, target)?;
    let write = Write::of(request, Tracking::Update(&writer))?;
    let bytes = create_object(server, target.kind, target.namespace.as_deref(), object, &write).await?;
    warnings.extend(write.told.take());
    objects::show(server, request, form, target.kind, &bytes, StatusCode::CREATED, &warnings)
}

/// Creates an object that conforms to its schema; its bytes as stored.
pub(crate) async fn create_object(
    server: &Server,
    kind: &'static dyn AnyKind,
    namespace: Option<&str>,
    object: Value,
    write: &Write<'_>,
) -> Result<Bytes, Status> {
    let user = write.user;
    let names = kind.names();
    let mut object = object;
    let given = managed::take(&mut object);
    let generated = object["metadata"]["name"].as_str().is_none_or(str::is_empty);
    let (mut turn, mut lost) = (None, None);
    // One more, which only takes its turn.
    for _ in 0..=ATTEMPTS {
        let object = prepared(server, kind, namespace, object.clone())?;
        // Defaults are the client's choice; what admission and the kind decide below is nobody's.
        let managers = match write.tracking {
            Tracking::Update(_) => {
                managed::created(server, kind, write.tracking, given.as_ref(), &kind.defaulted(&object)?)
            }
            _ => given.clone(),
        };
        let snapshot = server.store().snapshot();
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let told = &write.told;
        let attempt =
            admission::Attempt { server, user, snapshot: &snapshot, kind, namespace, name: &name, old: None, told };
        admission::begin(&attempt, &object)?;
        let object = admission::admit(&attempt, object)?;
        let key = storage::key(kind.storage(), namespace, &name);
        let is_there = snapshot.get(&key).is_some();
        let cx = WriteContext {
            now: server.clock().now(),
            claims: &FreeIn { snapshot: snapshot.clone(), server },
            user: Some(user.requester()),
            warnings: &write.told,
        };
        let mut object = kind.process(object, Operation::Create, &cx)?;
        guards::check(&attempt, Act::Create, Some(&object))?;
        managed::put(&mut object, managers);
        if is_there {
            if generated {
                lost = Some(Status::no_unique_name(names, &name));
                continue;
            }
            return Err(Status::already_exists(names, &name));
        }
        admission::validate(&attempt, &object)?;
        admission::quota::count(&attempt, &mut object);
        let charges = admission::quota::charges(&attempt, Some(&object))?;
        if write.dry_run {
            let bytes = storage::encode(&object)?.0;
            storage::check_size(&object, bytes.len())?;
            return Ok(bytes);
        }
        if !charges.is_empty() && turn.is_none() {
            turn = Some(server.turn(namespace).await);
            continue;
        }
        let lease = match kind.time_to_live() {
            Some(time) => server.lease(time).await.map_err(storage::refused)?,
            None => 0,
        };
        let commit = Commit { kind, key, old: None, new: Some(&object), lease, charges: &charges };
        match storage::commit(server.store(), commit).await? {
            Committed::Done(Some(entry), _) => return Ok(entry.value),
            Committed::Done(None, _) => return Err(Status::internal("a created object has no entry")),
            Committed::Changed if generated => lost = Some(Status::no_unique_name(names, &name)),
            Committed::Charged => lost = Some(admission::quota::raced(&charges)),
            Committed::Changed => return Err(Status::already_exists(names, &name)),
            Committed::Claimed(claim) => lost = Some(taken(kind, &name, &claim)),
        }
    }
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    Err(lost.unwrap_or_else(|| Status::modified(names, name)))
}

/// The refusal for a value that another object holds.
pub(super) fn taken(kind: &dyn AnyKind, name: &str, claim: &str) -> Status {
    let mut errs = corten_api::field::FieldErrors::default();
    let value = claim.rsplit('/').next().unwrap_or_default();
    match claim.split('/').next() {
        Some("clusterip") => {
            let why = format!("failed to allocate IP {value}: provided IP is already allocated");
            errs.invalid("spec.clusterIPs", [value], why);
        }
        _ => errs.invalid("spec.ports[0].nodePort", value, "provided port is already allocated"),
    }
    Status::invalid(kind.names(), name, &errs)
}

/// A new object with the metadata that the server decides on.
fn prepared(server: &Server, kind: &dyn AnyKind, namespace: Option<&str>, mut object: Value) -> Result<Value, Status> {
    let metadata = objects::metadata(&mut object);
    if kind.scope() == Scope::Namespaced {
        let own = metadata.get("namespace").and_then(Value::as_str).unwrap_or_default();
        let namespace = namespace.unwrap_or_default();
        if !own.is_empty() && own != namespace {
            return Err(Status::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        metadata.insert("namespace".to_owned(), namespace.into());
    } else {
        metadata.shift_remove("namespace");
    }
    if metadata.get("resourceVersion").and_then(Value::as_str).is_some_and(|version| !version.is_empty()) {
        return Err(Status::bad_request("resourceVersion should not be set on objects to be created"));
    }
    let generate = metadata.get("generateName").and_then(Value::as_str).unwrap_or_default().to_owned();
    if metadata.get("name").and_then(Value::as_str).is_none_or(str::is_empty) && !generate.is_empty() {
        // Names have at most 63 bytes; five of them are drawn.
        let stem: String = generate.chars().take(58).collect();
        metadata.insert("name".to_owned(), format!("{stem}{}", server.config().random.suffix(5)).into());
    }
    let uid = uuid::Builder::from_random_bytes(server.config().random.bytes16()).into_uuid().to_string();
    metadata.insert("uid".to_owned(), uid.into());
    metadata.insert("creationTimestamp".to_owned(), objects::time(server.clock().now()));
    for field in ["resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation"] {
        metadata.shift_remove(field);
    }
    Ok(object)
}
