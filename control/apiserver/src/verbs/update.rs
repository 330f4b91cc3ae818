//! update and patch: one read-modify-write, the new object given or computed.

use bytes::Bytes;
use corten_api::codec::{self, Findings};
use corten_api::field::{FieldErrors, Problem};
use corten_api::names::Names;
use corten_api::patch::{PatchError, json_patch, merge_patch, strategic_merge_patch};
use corten_api::status::Status;
use corten_kinds::{AnyKind, Operation, Subresource, WriteContext};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};

use super::Write;
use super::apply::apply;
use super::create::{create_object, taken};
use crate::admission::guards::{self, Act};
use crate::authorize;
use crate::body::Answer;
use crate::managed::{self, Tracking, Writer};
use crate::objects::{self, Warnings};
use crate::request::Request;
use crate::route::Target;
use crate::server::{FreeIn, Server};
use crate::storage::{self, Commit, Committed};
use crate::{admission, negotiate};

/// How often a patch is computed anew because the object changed meanwhile.
const ATTEMPTS: u32 = 16;

pub(super) async fn update(server: &Server, request: &Request, target: &Target) -> Result<Answer, Status> {
    let form = negotiate::accept(request.header(http::header::ACCEPT))?;
    let (object, mut warnings) = objects::decode_stored(server, request, target.kind)?;
    let change = |_: &Value| {
        check_version(target.kind, &object)?;
        Ok((object.clone(), Vec::new()))
    };
    let writer = Writer::of(request, target)?;
    let write = Write::of(request, Tracking::Update(&writer))?;
    let (code, bytes) = match change_object(server, target, Change::Object, &write, change).await {
        Ok((bytes, told)) => {
            warnings.extend(told);
            (StatusCode::OK, bytes)
        }
        Err(status) if status.code == 404 && target.kind.creates_on_update() => {
            let bytes = create_named(server, request, target, object, &write).await?;
            warnings.extend(write.told.take());
            (StatusCode::CREATED, bytes)
        }
        Err(status) => return Err(status),
    };
    objects::show(server, request, form, target.kind, &bytes, code, &warnings)
}

/// Refuses an object that says not which version of the stored one it replaces, if its kind demands that.
pub(crate) fn check_version(kind: &dyn AnyKind, object: &Value) -> Result<(), Status> {
    let metadata = &object["metadata"];
    let is_named = metadata["resourceVersion"].as_str().is_some_and(|version| !version.is_empty() && version != "0");
    if kind.updates_unconditionally() || is_named {
        return Ok(());
    }
    let mut errs = FieldErrors::default();
    let why = Problem::Invalid("0x0".to_owned(), "must be specified for an update".to_owned());
    errs.push("metadata.resourceVersion", why);
    // As upstream, the resource stands where the kind is in other refusals.
    let names = Names { kind: kind.names().plural, ..*kind.names() };
    Err(Status::invalid(&names, metadata["name"].as_str().unwrap_or_default(), &errs))
}

/// Refuses an object that is to replace a certain one, of which there is none.
pub(super) fn check_nothing_known(target: &Target, object: &Value) -> Result<(), Status> {
    let known = |field: &str| object["metadata"][field].as_str().filter(|text| !text.is_empty() && *text != "0");
    let Some(uid) = known("uid") else { return Ok(()) };
    let why = format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
    Err(Status::conflict(target.kind.names(), target.name.as_deref().unwrap_or_default(), &why))
}

/// Creates what a PUT did not find.
async fn create_named(
    server: &Server,
    request: &Request,
    target: &Target,
    mut object: Value,
    write: &Write<'_>,
) -> Result<Bytes, Status> {
    check_identity(target, &object)?;
    authorize::creation(server, &request.user, target)?;
    // Who knows the object's identity means that one and no other: a lease that somebody took over, for one.
    check_nothing_known(target, &object)?;
    objects::metadata(&mut object).shift_remove("resourceVersion");
    create_object(server, target.kind, target.namespace.as_deref(), object, write).await
}

pub(super) async fn patch(server: &Server, request: &Request, target: &Target) -> Result<Answer, Status> {
    if managed::is_apply(request) {
        return apply(server, request, target, Change::Object).await;
    }
    let form = negotiate::accept(request.header(http::header::ACCEPT))?;
    let writer = Writer::of(request, target)?;
    let patch = Patch::read(request)?;
    let change = |old: &Value| patch.apply(server, request, target.kind, old);
    let write = Write::of(request, Tracking::Update(&writer))?;
    let (bytes, warnings) = change_object(server, target, Change::Object, &write, change).await?;
    objects::show(server, request, form, target.kind, &bytes, StatusCode::OK, &warnings)
}

/// What of an object a request may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Everything but the status.
    Object,
    /// The status.
    Status,
    /// What one of the other subresources is about, by the kind's own rules.
    Part(Subresource),
    /// Something that a subresource decides; the kind's rules are not asked.
    Internal,
}

/// Reads an object, lets `change` compute the new one, and writes it unless it changed meanwhile.
/// Returns the bytes as stored, and what `change` warns of.
pub(crate) async fn change_object(
    server: &Server,
    target: &Target,
    what: Change,
    write: &Write<'_>,
    mut change: impl FnMut(&Value) -> Result<(Value, Warnings), Status>,
) -> Result<(Bytes, Warnings), Status> {
    let kind = target.kind;
    let (names, name) = (kind.names(), target.name.as_deref().unwrap_or_default());
    let key = storage::key(kind.storage(), target.namespace.as_deref(), name);
    let (mut turn, mut lost) = (None, None);
    for _ in 0..ATTEMPTS {
        let snapshot = server.store().snapshot();
        let Some(entry) = snapshot.get(&key).cloned() else { return Err(Status::not_found(names, name)) };
        let mut old = storage::decode(&entry)?;
        let (mut new, mut warnings) = change(&old)?;
        let demanded =
            new["metadata"]["resourceVersion"].as_str().filter(|v| !v.is_empty() && *v != "0").map(str::to_owned);
        if demanded.as_ref().is_some_and(|version| *version != entry.mod_revision.to_string()) {
            return Err(Status::modified(names, name));
        }
        keep_metadata(kind, target, &old, &mut new)?;
        let (before, given) = (managed::take(&mut old), managed::take(&mut new));
        let namespace = target.namespace.as_deref();
        let (user, told) = (write.user, &write.told);
        let attempt =
            admission::Attempt { server, user, snapshot: &snapshot, kind, namespace, name, old: Some(&old), told };
        if what == Change::Object {
            new = admission::admit(&attempt, new)?;
        }
        let claims = &FreeIn { snapshot: snapshot.clone(), server };
        let cx = WriteContext { now: server.clock().now(), claims, user: Some(user.requester()), warnings: told };
        let mut new = match what {
            Change::Object => kind.process(new, Operation::Update { old: &old }, &cx)?,
            Change::Status => kind.process(new, Operation::UpdateStatus { old: &old }, &cx)?,
            Change::Part(part) => kind.process(new, Operation::UpdatePart { old: &old, part }, &cx)?,
            Change::Internal => new,
        };
        warnings.extend(write.told.take());
        guards::check(&attempt, Act::Change(what), Some(&new))?;
        let (managers, others) = managed::changed(server, kind, write.tracking, before, given, (&old, &new));
        // Both have the resourceVersion of the old one, so that this tells whether anything changed.
        if !others && old == new {
            return Ok((entry.value, warnings));
        }
        // Parts of an object can break what is demanded of it as well as the whole.
        if matches!(what, Change::Object | Change::Part(_)) {
            admission::validate(&attempt, &new)?;
        }
        if what == Change::Object {
            admission::quota::count(&attempt, &mut new);
        }
        warnings.extend(write.told.take());
        let ends = is_released(kind, &new);
        let charges = admission::quota::charges(&attempt, (!ends).then_some(&new))?;
        managed::put(&mut new, managers);
        if write.dry_run {
            return Ok((storage::shown(&new, entry.mod_revision)?, warnings));
        }
        if !charges.is_empty() && turn.is_none() {
            turn = Some(server.turn(namespace).await);
            continue;
        }
        let lease = match kind.time_to_live() {
            Some(time) => server.lease(time).await.map_err(storage::refused)?,
            None => 0,
        };
        let commit = Commit {
            kind,
            key: key.clone(),
            old: Some((&old, entry.mod_revision)),
            new: (!ends).then_some(&new),
            lease,
            charges: &charges,
        };
        match storage::commit(server.store(), commit).await? {
            Committed::Done(Some(entry), _) => return Ok((entry.value, warnings)),
            Committed::Done(None, revision) => return Ok((storage::restamped(&entry, revision), warnings)),
            // Once more, on what is there now: a version that the client demands is found wanting then, and one that a
            // JSON patch only carried along with the object is not.
            Committed::Changed => lost = None,
            Committed::Charged => lost = Some(admission::quota::raced(&charges)),
            Committed::Claimed(claim) => return Err(taken(kind, name, &claim)),
        }
    }
    Err(lost.unwrap_or_else(|| Status::modified(names, name)))
}

/// Whether nothing keeps a deleted object any more.
pub(super) fn is_released(kind: &dyn AnyKind, object: &Value) -> bool {
    let metadata = &object["metadata"];
    metadata["deletionTimestamp"].is_string()
        && metadata["finalizers"].as_array().is_none_or(Vec::is_empty)
        && metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0
        && !kind.held(object)
}

/// Gives the new object the metadata that clients may not change, and refuses to change its identity.
fn keep_metadata(kind: &dyn AnyKind, target: &Target, old: &Value, new: &mut Value) -> Result<(), Status> {
    let names = kind.names();
    let name = target.name.as_deref().unwrap_or_default();
    new["apiVersion"] = kind.stored().api_version().into();
    new["kind"] = kind.stored().kind.into();
    check_identity(target, new)?;
    let metadata = objects::metadata(new);
    let before = &old["metadata"];
    if let Some(uid) = metadata.get("uid").and_then(Value::as_str)
        && !uid.is_empty()
        && before["uid"] != *uid
    {
        let why = format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            before["uid"].as_str().unwrap_or_default()
        );
        return Err(Status::conflict(names, name, &why));
    }
    for field in [
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "generateName",
        "resourceVersion",
    ] {
        match before.get(field) {
            Some(value) => drop(metadata.insert(field.to_owned(), value.clone())),
            None => drop(metadata.shift_remove(field)),
        }
    }
    metadata.shift_remove("selfLink");
    Ok(())
}

/// Refuses an object that says it is another than the one at the path.
pub(crate) fn check_identity(target: &Target, object: &Value) -> Result<(), Status> {
    let name = target.name.as_deref().unwrap_or_default();
    let metadata = &object["metadata"];
    match metadata["name"].as_str().unwrap_or_default() {
        "" => {
            return Err(Status::bad_request(format!(
                "the name of the object ({name} based on URL) was undeterminable: name must be provided"
            )));
        }
        own if own != name => {
            return Err(Status::bad_request(format!(
                "the name of the object ({own}) does not match the name on the URL ({name})"
            )));
        }
        _ => {}
    }
    if let (Some(own), Some(namespace)) = (metadata["namespace"].as_str(), &target.namespace)
        && !own.is_empty()
        && own != namespace
    {
        return Err(Status::bad_request(format!(
            "the namespace of the object ({own}) does not match the namespace on the request ({namespace})"
        )));
    }
    Ok(())
}

/// A patch and how it is meant.
pub(crate) enum Patch {
    Json(Value),
    Merge(Value, Findings),
    Strategic(Value, Findings),
}

impl Patch {
    pub(crate) fn read(request: &Request) -> Result<Self, Status> {
        let bad = |error: codec::DecodeError| Status::bad_request(format!("error decoding patch: {error}"));
        let parse = || codec::json(&request.body).map_err(bad);
        let kind = request.header(CONTENT_TYPE).unwrap_or_default();
        match kind.split(';').next().unwrap_or_default().trim() {
            "application/json-patch+json" => Ok(Self::Json(parse()?.0)),
            // The Python client sends a list with the merge patch's type now and then.
            "application/merge-patch+json" => {
                let (value, findings) = parse()?;
                Ok(if value.is_array() { Self::Json(value) } else { Self::Merge(value, findings) })
            }
            "application/strategic-merge-patch+json" => {
                let (value, findings) = parse()?;
                Ok(Self::Strategic(value, findings))
            }
            other => Err(Status::unsupported_media_type(format!(
                "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml (not {other:?})"
            ))),
        }
    }

    /// The patched object, held against its schema.
    pub(crate) fn apply(
        &self,
        server: &Server,
        request: &Request,
        kind: &dyn AnyKind,
        old: &Value,
    ) -> Result<(Value, Warnings), Status> {
        if !kind.is_view() {
            return self.patched(server, request, kind.names(), old);
        }
        let (new, warnings) = self.patched(server, request, kind.names(), &kind.to_served(old.clone())?)?;
        Ok((kind.to_stored(new)?, warnings))
    }

    /// Something patched that is no object of a served kind, such as a Scale.
    pub(crate) fn apply_to(
        &self,
        server: &Server,
        request: &Request,
        names: &Names,
        old: &Value,
    ) -> Result<Value, Status> {
        self.patched(server, request, names, old).map(|(new, _)| new)
    }

    fn patched(
        &self,
        server: &Server,
        request: &Request,
        names: &Names,
        old: &Value,
    ) -> Result<(Value, Warnings), Status> {
        let root = server.schema().find(names.group, names.version, names.kind).ok_or_else(Status::no_such_path)?;
        let mut new = old.clone();
        let findings = match self {
            Self::Json(patch) => {
                json_patch(&mut new, patch).map_err(|error| refused(&error))?;
                // A version that the patch left alone is no precondition.
                if new["metadata"].get("resourceVersion") == old["metadata"].get("resourceVersion") {
                    objects::metadata(&mut new).shift_remove("resourceVersion");
                }
                Findings::default()
            }
            Self::Merge(patch, findings) => {
                if !patch.is_object() {
                    return Err(Status::bad_request("a merge patch must be an object"));
                }
                // The version in a patch is a precondition, the one in the object is not.
                objects::metadata(&mut new).shift_remove("resourceVersion");
                merge_patch(&mut new, patch);
                findings.clone()
            }
            Self::Strategic(patch, findings) => {
                objects::metadata(&mut new).shift_remove("resourceVersion");
                strategic_merge_patch(server.schema(), root, &mut new, patch).map_err(|error| refused(&error))?;
                findings.clone()
            }
        };
        objects::conform(server, &request.query, names, new, findings)
    }
}

fn refused(error: &PatchError) -> Status {
    match error.code {
        400 => Status::bad_request(error.message.clone()),
        413 => Status::failure(413, "RequestEntityTooLarge", error.message.clone()),
        _ => {
            let message = "the server rejected our request due to an error in our request";
            let mut status = Status::failure(422, "Invalid", message);
            let cause = json!({"reason": "UnexpectedServerResponse", "message": error.message});
            status.details = Some(json!({"causes": [cause]}));
            status
        }
    }
}

/// What a write to a subresource that is a part of its object changes.
pub(crate) fn part_change(subresource: Subresource) -> Change {
    match subresource {
        Subresource::Status => Change::Status,
        Subresource::Finalize => Change::Internal,
        part => Change::Part(part),
    }
}
