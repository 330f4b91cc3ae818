//! delete and deletecollection.

use bytes::Bytes;
use corten_api::codec;
use corten_api::field::FieldErrors;
use corten_api::names::Names;
use corten_api::status::Status;
use corten_base::Timestamp;
use corten_kinds::{AnyKind, Deletion};
use http::StatusCode;
use http::header::ACCEPT;
use serde_json::{Value, json};

use super::update::is_released;
use super::{dry_run, read};
use crate::admission::guards::{self, Act};
use crate::body::{self, Answer};
use crate::identity::Identity;
use crate::objects::{self, Warnings};
use crate::request::{Query, Request};
use crate::route::Target;
use crate::server::Server;
use crate::storage::{self, Commit, Committed};
use crate::{admission, authorize, negotiate};

const ATTEMPTS: u32 = 16;
/// The option of those who delete what cannot be read, and the verb that they need for it: nothing that would hold such
/// an object, such as its finalizers, is known.
const UNREADABLE: &str = "ignoreStoreReadErrorWithClusterBreakingPotential";
const UNSAFE: &str = "unsafe-delete-ignore-read-errors";
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
    /// Whether an object that cannot be read goes all the same.
    pub(crate) unreadable: bool,
    /// Whether the client said `orphanDependents=false`, which is answered in its own way.
    pub(crate) deletes_dependents: bool,
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
        let options = Self::of(&request.query, &body)?;
        Ok(Self { dry_run: options.dry_run || dry_run(request)?, ..options })
    }

    /// What parameters and a `DeleteOptions` say together; whether the request itself is a dry run is not looked at.
    pub(crate) fn of(query: &Query, body: &Value) -> Result<Self, Status> {
        let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let flag = |name: &str| query.has(name).then(|| query.flag(name));
        let propagation = one(
            "propagationPolicy",
            query.get("propagationPolicy").map(str::to_owned),
            text(&body["propagationPolicy"]),
        )?;
        let orphan = one("orphanDependents", flag("orphanDependents"), body["orphanDependents"].as_bool())?;
        let grace =
            one("gracePeriodSeconds", query.number("gracePeriodSeconds")?, body["gracePeriodSeconds"].as_i64())?;
        let unreadable = one(UNREADABLE, flag(UNREADABLE), body[UNREADABLE].as_bool())?;
        let mut errs = FieldErrors::default();
        if let (Some(_), Some(policy)) = (orphan, &propagation) {
            errs.invalid("propagationPolicy", policy, "orphanDependents and deletionPropagation cannot be both set");
        }
        if let Some(policy) = &propagation
            && !["Background", "Foreground", "Orphan"].contains(&policy.as_str())
        {
            errs.not_supported("propagationPolicy", policy, &["Foreground", "Background", "Orphan", "nil"]);
        }
        let in_body = body["dryRun"].as_array();
        if let Some(other) = in_body.into_iter().flatten().find(|directive| **directive != "All") {
            errs.not_supported("dryRun", other.as_str().unwrap_or_default(), &["All"]);
        }
        if !errs.is_empty() {
            return Err(Status::invalid(&DELETE_OPTIONS, "", &errs));
        }
        Ok(Self {
            // As upstream: a negative period means one second.
            grace: grace.map(|seconds| if seconds < 0 { 1 } else { seconds }),
            propagation: propagation
                .or_else(|| orphan.map(|orphan| if orphan { "Orphan" } else { "Background" }.to_owned())),
            uid: text(&body["preconditions"]["uid"]),
            version: text(&body["preconditions"]["resourceVersion"]),
            dry_run: in_body.is_some_and(|all| !all.is_empty()),
            unreadable: unreadable == Some(true),
            deletes_dependents: orphan == Some(false),
        })
    }
}

/// What the parameters and the body say of one option. They may both say it, but not differ.
fn one<T: PartialEq>(name: &str, query: Option<T>, body: Option<T>) -> Result<Option<T>, Status> {
    match (query, body) {
        (Some(query), Some(body)) if query != body => {
            Err(Status::bad_request(format!("{name} in the body differs from the parameter {name} of the request")))
        }
        (query, body) => Ok(query.or(body)),
    }
}

/// The options in a body. They have no version of their own: clients send that of the group they delete in.
fn given(server: &Server, request: &Request) -> Result<Value, Status> {
    let (mut value, mut findings) = objects::parse(server, request, ("v1", "DeleteOptions"))?;
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
    if options.unreadable {
        authorize::verb(server, &request.user, UNSAFE, target)?;
    }
    let warnings = orphan_warnings(target, &options);
    match delete_object(server, &request.user, target.kind, target.namespace.as_deref(), name, &options).await? {
        Deleted::Marked(bytes) => {
            let code = if options.deletes_dependents { StatusCode::ACCEPTED } else { StatusCode::OK };
            objects::show(server, request, form, target.kind, &bytes, code, &warnings)
        }
        Deleted::Gone(bytes) => {
            if target.kind.shows_deleted() {
                return objects::show(server, request, form, target.kind, &bytes, StatusCode::OK, &warnings);
            }
            let object: Value = serde_json::from_slice(&bytes).unwrap_or_default();
            let names = target.kind.names();
            let mut details = json!({"name": name, "kind": names.plural, "uid": object["metadata"]["uid"]});
            if !names.group.is_empty() {
                details["group"] = names.group.into();
            }
            let status =
                json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details});
            Ok(objects::warned(body::value(StatusCode::OK, &status), &warnings))
        }
    }
}

/// Deletes all that is selected, as the list of it that is answered shows it. With a limit, so many at most.
pub(super) async fn delete_collection(server: &Server, request: &Request, target: &Target) -> Result<Answer, Status> {
    let form = negotiate::accept(request.header(ACCEPT))?;
    let options = Options::read(server, request)?;
    if options.unreadable {
        let mut errs = FieldErrors::default();
        errs.invalid(UNREADABLE, true, "is not allowed with DELETECOLLECTION, try again after removing the option");
        return Err(Status::invalid(&DELETE_OPTIONS, "", &errs));
    }
    let page = read::page(server, request, target).await?;
    for bytes in &page.items {
        let object: Value = serde_json::from_slice(bytes).map_err(Status::internal)?;
        let metadata = &object["metadata"];
        let (namespace, name) = (metadata["namespace"].as_str(), metadata["name"].as_str().unwrap_or_default());
        match delete_object(server, &request.user, target.kind, namespace, name, &options).await {
            Ok(_) => {}
            Err(status) if status.code == 404 => {}
            Err(status) => return Err(status),
        }
    }
    let answer = crate::lists::answer(server, request, form, target, &page.items, &page.metadata)?;
    Ok(objects::warned(answer, &orphan_warnings(target, &options)))
}

/// What is said of dependents that stay because the client did not say what is to become of them.
fn orphan_warnings(target: &Target, options: &Options) -> Warnings {
    let warning = target.kind.orphan_warning().filter(|_| options.propagation.is_none());
    warning.into_iter().map(str::to_owned).collect()
}

/// Deletes an object, or marks it if something is to happen first.
pub(crate) async fn delete_object(
    server: &Server,
    user: &Identity,
    kind: &'static dyn AnyKind,
    namespace: Option<&str>,
    name: &str,
    options: &Options,
) -> Result<Deleted, Status> {
    let names = kind.names();
    let key = storage::key(kind.storage(), namespace, name);
    let (mut turn, told) = (None, corten_kinds::Warnings::default());
    for _ in 0..ATTEMPTS {
        let snapshot = server.store().snapshot();
        let entry = snapshot.get(&key).cloned().ok_or_else(|| Status::not_found(names, name))?;
        let old = storage::decode(&entry);
        let told = &told;
        let attempt = admission::Attempt {
            server,
            user,
            snapshot: &snapshot,
            kind,
            namespace,
            name,
            old: old.as_ref().ok(),
            told,
        };
        guards::check(&attempt, Act::Delete, None)?;
        let old = match &old {
            Err(_) if options.unreadable && !options.dry_run => {
                match storage::remove(server.store(), &snapshot, &key, entry.mod_revision).await? {
                    Some(_) => return Ok(Deleted::Gone(entry.value)),
                    None => continue,
                }
            }
            Err(status) => return Err(status.clone()),
            Ok(old) => old,
        };
        check(options, old, kind, name)?;
        let new = marked(kind, old, options, server.clock().now());
        if new.as_ref() == Some(old) {
            return Ok(Deleted::Marked(entry.value));
        }
        if options.dry_run {
            return Ok(match new {
                Some(new) => Deleted::Marked(storage::shown(&new, entry.mod_revision)?),
                None => Deleted::Gone(entry.value),
            });
        }
        let charges = admission::quota::charges(&attempt, new.as_ref())?;
        if !charges.is_empty() && turn.is_none() {
            turn = Some(server.turn(namespace).await);
            continue;
        }
        let (before, charges) = (Some((old, entry.mod_revision)), charges.as_slice());
        let commit = Commit { kind, key: key.clone(), old: before, new: new.as_ref(), lease: 0, charges };
        match storage::commit(server.store(), commit).await? {
            Committed::Done(Some(entry), _) => return Ok(Deleted::Marked(entry.value)),
            Committed::Done(None, revision) => return Ok(Deleted::Gone(storage::restamped(&entry, revision))),
            Committed::Changed if options.version.is_some() => return Err(Status::modified(names, name)),
            Committed::Changed | Committed::Charged | Committed::Claimed(_) => {}
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
    // A second deletion may shorten the time that is left, never lengthen it, and changes nothing else meanwhile.
    let shortens = options.grace.is_some() && before.is_some_and(|before| grace < before);
    if was_marked && before.is_some_and(|before| before > 0) && !shortens {
        return Some(new);
    }
    let metadata = objects::metadata(&mut new);
    if !was_marked || shortens {
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
    let is_decided = finalizers.iter().any(|finalizer| finalizer == ORPHAN || finalizer == FOREGROUND);
    let by_default = (kind.orphans_dependents() && !is_decided).then_some("Orphan");
    match options.propagation.as_deref().or(by_default) {
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
