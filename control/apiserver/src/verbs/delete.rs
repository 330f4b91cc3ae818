//! delete and deletecollection.

use bytes::Bytes;
use corten_api::codec;
use corten_api::names::Names;
use corten_api::status::Status;
use corten_base::Timestamp;
use corten_kinds::{AnyKind, Deletion};
use http::StatusCode;
use http::header::ACCEPT;
use serde_json::{Value, json};

use super::dry_run;
use super::update::is_released;
use crate::body::{self, Answer};
use crate::negotiate;
use crate::objects::{self, Filter};
use crate::request::Request;
use crate::route::Target;
use crate::server::Server;
use crate::storage::{self, Commit, Committed};

const ATTEMPTS: u32 = 16;
/// Namespaces that every cluster has, as upstream's admission guards them.
const UNDYING: [&str; 3] = ["default", "kube-system", "kube-public"];
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
/// Longer periods than a century are as good as one, and can be added to any moment.
const MOST_GRACE: i64 = 100 * 365 * 86_400;

static DELETE_OPTIONS: Names = Names {
    group: "meta.k8s.io",
    version: "v1",
    kind: "DeleteOptions",
    plural: "",
    singular: "",
    short: &[],
    categories: &[],
};

/// How to delete: the body of the request and its parameters.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    pub(crate) grace: Option<i64>,
    /// `Background`, `Foreground` or `Orphan`.
    pub(crate) propagation: Option<String>,
    pub(crate) uid: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) dry_run: bool,
}

/// What became of an object.
pub(crate) enum Deleted {
    /// It is gone; its last state.
    Gone(Bytes),
    /// It is marked, and goes when what holds it lets go.
    Marked(Bytes),
}

impl Options {
    fn read(server: &Server, request: &Request) -> Result<Self, Status> {
        let body = if request.body.iter().all(u8::is_ascii_whitespace) { Value::Null } else { given(server, request)? };
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let propagation =
            request.query.get("propagationPolicy").map(str::to_owned).or_else(|| text(&body["propagationPolicy"]));
        let propagation =
            match (propagation, request.query.flag("orphanDependents") || body["orphanDependents"] == true) {
                (None, true) => Some("Orphan".to_owned()),
                (policy, _) => policy,
            };
        if let Some(policy) = &propagation
            && !["Background", "Foreground", "Orphan"].contains(&policy.as_str())
        {
            let mut errs = corten_api::field::FieldErrors::default();
            errs.not_supported("propagationPolicy", policy, &["Foreground", "Background", "Orphan"]);
            return Err(Status::invalid(&DELETE_OPTIONS, "", &errs));
        }
        let grace = match request.query.number("gracePeriodSeconds")? {
            None => body["gracePeriodSeconds"].as_i64(),
            given => given,
        };
        let body_dry_run = body["dryRun"].as_array().is_some_and(|all| all.iter().any(|one| one == "All"));
        Ok(Self {
            grace,
            propagation,
            uid: text(&body["preconditions"]["uid"]),
            version: text(&body["preconditions"]["resourceVersion"]),
            dry_run: dry_run(request)? || body_dry_run,
        })
    }
}

/// The options in a body. They have no version of their own: clients send that of the group they delete in.
fn given(server: &Server, request: &Request) -> Result<Value, Status> {
    let (mut value, mut findings) = objects::parse(request)?;
    let cannot = |kind: &str, why: &str| {
        Status::bad_request(format!("{kind} in version \"v1\" cannot be handled as a DeleteOptions: {why}"))
    };
    match value["kind"].as_str() {
        None | Some("" | "DeleteOptions") => {}
        Some(other) => return Err(cannot(other, "it is no DeleteOptions")),
    }
    let root = server.schema().find("", "v1", "DeleteOptions").ok_or_else(Status::no_such_path)?;
    codec::conform(server.schema(), root, &mut value, &mut findings)
        .map_err(|error| cannot("DeleteOptions", &error.0))?;
    Ok(value)
}

pub(super) async fn delete(server: &Server, request: &Request, target: &Target) -> Result<Answer, Status> {
    let form = negotiate::accept(request.header(ACCEPT))?;
    let options = Options::read(server, request)?;
    let name = target.name.as_deref().unwrap_or_default();
    match delete_object(server, target.kind, target.namespace.as_deref(), name, &options).await? {
        Deleted::Marked(bytes) => {
            objects::show(server, request, form, target.kind, &bytes, StatusCode::OK, &Vec::new())
        }
        Deleted::Gone(bytes) => {
            if target.kind.shows_deleted() {
                return objects::show(server, request, form, target.kind, &bytes, StatusCode::OK, &Vec::new());
            }
            let object: Value = serde_json::from_slice(&bytes).map_err(Status::internal)?;
            let names = target.kind.names();
            let mut details = json!({"name": name, "kind": names.plural, "uid": object["metadata"]["uid"]});
            if !names.group.is_empty() {
                details["group"] = names.group.into();
            }
            let status =
                json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details});
            Ok(objects::value(StatusCode::OK, form, &status))
        }
    }
}

pub(super) async fn delete_collection(server: &Server, request: &Request, target: &Target) -> Result<Answer, Status> {
    let options = Options::read(server, request)?;
    let filter = Filter::parse(target.kind, &request.query)?;
    let snapshot = server.store().snapshot();
    let prefix = storage::prefix(target.kind.storage(), target.namespace.as_deref());
    for (_, entry) in snapshot.prefix(&prefix) {
        if !filter.matches(&entry.value) {
            continue;
        }
        let object = storage::decode(entry)?;
        let metadata = &object["metadata"];
        let (namespace, name) = (metadata["namespace"].as_str(), metadata["name"].as_str().unwrap_or_default());
        match delete_object(server, target.kind, namespace, name, &options).await {
            Ok(_) => {}
            Err(status) if status.code == 404 => {}
            Err(status) => return Err(status),
        }
    }
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"});
    Ok(body::value(StatusCode::OK, &status))
}

/// Deletes an object, or marks it if something is to happen first.
pub(crate) async fn delete_object(
    server: &Server,
    kind: &'static dyn AnyKind,
    namespace: Option<&str>,
    name: &str,
    options: &Options,
) -> Result<Deleted, Status> {
    let names = kind.names();
    let key = storage::key(kind.storage(), namespace, name);
    if names.kind == "Namespace" && UNDYING.contains(&name) {
        return Err(Status::forbidden(names, name, "this namespace may not be deleted"));
    }
    for _ in 0..ATTEMPTS {
        let snapshot = server.store().snapshot();
        let entry = snapshot.get(&key).cloned().ok_or_else(|| Status::not_found(names, name))?;
        let old = storage::decode(&entry)?;
        check(options, &old, kind, name)?;
        let new = marked(kind, &old, options, server.clock().now());
        if new.as_ref() == Some(&old) {
            return Ok(Deleted::Marked(entry.value));
        }
        if options.dry_run {
            return Ok(if new.is_some() { Deleted::Marked(entry.value) } else { Deleted::Gone(entry.value) });
        }
        let commit =
            Commit { kind, key: key.clone(), old: Some((&old, entry.mod_revision)), new: new.as_ref(), lease: 0 };
        match storage::commit(server.store(), commit).await? {
            Committed::Done(Some(entry), _) => return Ok(Deleted::Marked(entry.value)),
            Committed::Done(None, revision) => return Ok(Deleted::Gone(storage::restamped(&entry, revision))),
            Committed::Changed if options.version.is_some() => return Err(Status::modified(names, name)),
            Committed::Changed | Committed::Claimed(_) => {}
        }
    }
    Err(Status::modified(names, name))
}

fn check(options: &Options, object: &Value, kind: &dyn AnyKind, name: &str) -> Result<(), Status> {
    let metadata = &object["metadata"];
    let demands = [("UID", &options.uid, "uid"), ("ResourceVersion", &options.version, "resourceVersion")];
    for (what, wanted, field) in demands {
        let own = metadata[field].as_str().unwrap_or_default();
        if let Some(wanted) = wanted.as_deref().filter(|wanted| *wanted != own) {
            let why = format!("Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {own}");
            return Err(Status::conflict(kind.names(), name, &why));
        }
    }
    Ok(())
}

/// The object with its deletion mark; `None` if nothing holds it.
fn marked(kind: &dyn AnyKind, old: &Value, options: &Options, now: Timestamp) -> Option<Value> {
    let mut new = old.clone();
    let was_marked = old["metadata"]["deletionTimestamp"].is_string();
    let grace = match kind.deletion(old, options.grace) {
        Deletion::Immediate => 0,
        Deletion::Graceful { seconds } => seconds.clamp(0, MOST_GRACE),
    };
    let before = old["metadata"]["deletionGracePeriodSeconds"].as_i64();
    let metadata = objects::metadata(&mut new);
    // A second deletion may shorten the time that is left, never lengthen it.
    if !was_marked || before.is_some_and(|before| grace < before) {
        let from = if was_marked { None } else { Some(now) };
        let ends = from.map_or_else(
            || shortened(&old["metadata"], before.unwrap_or(0), grace),
            |now| objects::time(now + std::time::Duration::from_secs(grace.unsigned_abs())),
        );
        metadata.insert("deletionTimestamp".to_owned(), ends);
        metadata.insert("deletionGracePeriodSeconds".to_owned(), grace.into());
        if metadata.contains_key("generation") && !was_marked {
            let generation = old["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
            metadata.insert("generation".to_owned(), generation.into());
        }
    }
    let mut finalizers: Vec<Value> = old["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
    match options.propagation.as_deref() {
        Some("Orphan") => {
            finalizers.retain(|finalizer| finalizer != FOREGROUND);
            if !finalizers.iter().any(|finalizer| finalizer == ORPHAN) {
                finalizers.push(ORPHAN.into());
            }
        }
        Some("Foreground") => {
            finalizers.retain(|finalizer| finalizer != ORPHAN);
            if !finalizers.iter().any(|finalizer| finalizer == FOREGROUND) {
                finalizers.push(FOREGROUND.into());
            }
        }
        Some("Background") => finalizers.retain(|finalizer| finalizer != ORPHAN && finalizer != FOREGROUND),
        _ => {}
    }
    if finalizers.is_empty() {
        metadata.shift_remove("finalizers");
    } else {
        metadata.insert("finalizers".to_owned(), finalizers.into());
    }
    if is_released(kind, &new) {
        return None;
    }
    if !was_marked {
        kind.mark_deleted(&mut new);
    }
    Some(new)
}

/// The end of a grace period that is made shorter.
fn shortened(metadata: &Value, before: i64, grace: i64) -> Value {
    let end: Option<Timestamp> = metadata["deletionTimestamp"].as_str().and_then(|text| text.parse().ok());
    let moved =
        end.and_then(|end| Timestamp::from_second(end.as_second().saturating_sub(before.saturating_sub(grace))).ok());
    moved.map_or_else(|| metadata["deletionTimestamp"].clone(), objects::time)
}
