//! What hangs on an object: status, scale, binding, eviction, tokens, and the streams of a pod.

use std::sync::Arc;

use corten_api::names::Names;
use corten_api::status::Status;
use corten_kinds::{AnyKind, Subresource};
use http::StatusCode;
use http::header::ACCEPT;
use serde_json::{Value, json};

use crate::admission::guards;
use crate::body::{self, Answer};
use crate::identity::Identity;
use crate::managed::{self, Tracking, Writer};
use crate::objects::{self, Warnings};
use crate::request::Request;
use crate::route::Target;
use crate::server::Server;
use crate::token_request::{self, TOKEN_REQUEST};
use crate::verbs::{
    Change, Patch, Write, apply, apply_scale, change_object, check_identity, check_version, dry_run, part_change,
};
use crate::{eviction, negotiate, node_proxy, proxy, storage};

const fn names(group: &'static str, version: &'static str, kind: &'static str) -> Names {
    Names { group, version, kind, plural: "", singular: "", short: &[], categories: &[] }
}

static BINDING: Names = names("", "v1", "Binding");
static SCALE: Names = names("autoscaling", "v1", "Scale");

pub(crate) async fn run(server: &Arc<Server>, request: Request, target: Target, verb: &str) -> Result<Answer, Status> {
    let Some(subresource) = target.subresource else { return Err(Status::no_such_path()) };
    match (subresource, verb) {
        (subresource, "get") if is_part(subresource) => whole(server, &request, &target),
        (subresource, "update") if is_part(subresource) || subresource == Subresource::Finalize => {
            replace(server, &request, &target).await
        }
        (subresource, "patch") if is_part(subresource) => patch(server, &request, &target).await,
        (Subresource::Scale, "get") => scale_of(server, &target),
        (Subresource::Scale, "update" | "patch") => rescale(server, &request, &target).await,
        (Subresource::Binding, "create") => {
            let (binding, _) = objects::decode(server, &request, &BINDING)?;
            guards::check_post(server, &request.user, &target, &storage::of(server, &target)?, &binding)?;
            bind(server, &request.user, &target, &binding, dry_run(&request)?).await
        }
        (Subresource::Eviction, "create") => eviction::evict(server, &request, &target).await,
        (Subresource::Token, "create") => token(server, &request, &target),
        (Subresource::Log, "get") => node_proxy::logs(server, &request, &target).await,
        (Subresource::Exec | Subresource::Attach | Subresource::PortForward, "get" | "create") => {
            node_proxy::stream(server, request, &target, subresource).await
        }
        (Subresource::Proxy, _) => proxy::run(server, request, &target).await,
        _ => Err(Status::method_not_allowed()),
    }
}

/// Whether a subresource is read and written like its object, of which it is a part.
fn is_part(subresource: Subresource) -> bool {
    matches!(
        subresource,
        Subresource::Status | Subresource::EphemeralContainers | Subresource::Resize | Subresource::Approval
    )
}

fn whole(server: &Server, request: &Request, target: &Target) -> Result<Answer, Status> {
    let form = negotiate::accept(request.header(ACCEPT))?;
    objects::show(server, request, form, target.kind, &storage::bytes_of(server, target)?, StatusCode::OK, &Vec::new())
}

async fn replace(server: &Server, request: &Request, target: &Target) -> Result<Answer, Status> {
    let form = negotiate::accept(request.header(ACCEPT))?;
    let (object, warnings) = objects::decode_stored(server, request, target.kind)?;
    let finalize = target.subresource == Some(Subresource::Finalize);
    let what = part_change(target.subresource.unwrap_or(Subresource::Status));
    let change = |old: &Value| {
        if !finalize {
            check_version(target.kind, &object)?;
            return Ok((object.clone(), Vec::new()));
        }
        // Finalizing changes the finalizers and nothing else.
        let mut new = old.clone();
        new["spec"]["finalizers"] = object["spec"]["finalizers"].as_array().cloned().unwrap_or_default().into();
        if let Some(version) = object["metadata"].get("resourceVersion") {
            new["metadata"]["resourceVersion"] = version.clone();
        }
        Ok((new, Vec::new()))
    };
    let writer = Writer::of(request, target)?;
    let write = Write::of(request, Tracking::Update(&writer))?;
    let (bytes, _) = change_object(server, target, what, &write, change).await?;
    objects::show(server, request, form, target.kind, &bytes, StatusCode::OK, &warnings)
}

async fn patch(server: &Server, request: &Request, target: &Target) -> Result<Answer, Status> {
    let what = part_change(target.subresource.unwrap_or(Subresource::Status));
    if managed::is_apply(request) {
        return apply(server, request, target, what).await;
    }
    let form = negotiate::accept(request.header(ACCEPT))?;
    let writer = Writer::of(request, target)?;
    let patch = Patch::read(request)?;
    let change = |old: &Value| patch.apply(server, request, target.kind, old);
    let write = Write::of(request, Tracking::Update(&writer))?;
    let (bytes, warnings) = change_object(server, target, what, &write, change).await?;
    objects::show(server, request, form, target.kind, &bytes, StatusCode::OK, &warnings)
}

fn scale(kind: &dyn AnyKind, bytes: &[u8]) -> Result<Value, Status> {
    let object: Value = serde_json::from_slice(bytes).map_err(Status::internal)?;
    kind.scale(&object).ok_or_else(Status::no_such_path)
}

fn scale_of(server: &Server, target: &Target) -> Result<Answer, Status> {
    Ok(body::value(StatusCode::OK, &scale(target.kind, &storage::bytes_of(server, target)?)?))
}

async fn rescale(server: &Server, request: &Request, target: &Target) -> Result<Answer, Status> {
    let kind = target.kind;
    if managed::is_apply(request) {
        let bytes = apply_scale(server, request, target, &SCALE).await?;
        return Ok(body::value(StatusCode::OK, &scale(kind, &bytes)?));
    }
    let writer = Writer::of(request, target)?;
    let given =
        if request.method == http::Method::PUT { Some(objects::decode(server, request, &SCALE)?.0) } else { None };
    let patch = if given.is_none() { Some(Patch::read(request)?) } else { None };
    let change = |old: &Value| {
        let current = kind.scale(old).ok_or_else(Status::no_such_path)?;
        let wanted = match (&given, &patch) {
            (Some(scale), _) => scale.clone(),
            (None, Some(patch)) => patch.apply_to(server, request, &SCALE, &current)?,
            (None, None) => current,
        };
        check_identity(target, &wanted)?;
        let replicas = wanted["spec"]["replicas"].as_i64().unwrap_or(0);
        if replicas < 0 {
            let mut errs = corten_api::field::FieldErrors::default();
            errs.invalid("spec.replicas", replicas, "must be greater than or equal to 0");
            return Err(Status::invalid(&SCALE, target.name.as_deref().unwrap_or_default(), &errs));
        }
        let mut new = old.clone();
        kind.set_scale(&mut new, replicas);
        if let Some(uid) = wanted["metadata"].get("uid") {
            new["metadata"]["uid"] = uid.clone();
        }
        match wanted["metadata"].get("resourceVersion").filter(|version| version.is_string()) {
            Some(version) if given.is_some() => new["metadata"]["resourceVersion"] = version.clone(),
            _ => drop(objects::metadata(&mut new).shift_remove("resourceVersion")),
        }
        Ok((new, Warnings::new()))
    };
    let write = Write::of(request, Tracking::Update(&writer))?;
    let (bytes, _) = change_object(server, target, Change::Object, &write, change).await?;
    Ok(body::value(StatusCode::OK, &scale(kind, &bytes)?))
}

/// Puts a pod on a node.
pub(crate) async fn bind(
    server: &Server,
    user: &Identity,
    target: &Target,
    binding: &Value,
    dry_run: bool,
) -> Result<Answer, Status> {
    let name = target.name.as_deref().unwrap_or_default();
    let names = target.kind.names();
    let node = binding["target"]["name"].as_str().unwrap_or_default().to_owned();
    if node.is_empty() {
        let mut errs = corten_api::field::FieldErrors::default();
        errs.required("target.name", "");
        return Err(Status::invalid(&BINDING, name, &errs));
    }
    let uid = binding["metadata"]["uid"].as_str().filter(|uid| !uid.is_empty());
    let now = objects::time(server.clock().now());
    let change = |old: &Value| {
        if let Some(uid) = uid.filter(|uid| old["metadata"]["uid"] != **uid) {
            let own = old["metadata"]["uid"].as_str().unwrap_or_default();
            let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {own}");
            return Err(Status::conflict(names, name, &why));
        }
        if !old["metadata"]["deletionTimestamp"].is_null() {
            return Err(Status::conflict(
                names,
                name,
                &format!("pod {name} is being deleted, cannot be assigned to a host"),
            ));
        }
        match old["spec"]["nodeName"].as_str().unwrap_or_default() {
            "" => {}
            taken => {
                return Err(Status::conflict(
                    names,
                    name,
                    &format!("pod {name} is already assigned to node \"{taken}\""),
                ));
            }
        }
        if old["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
            return Err(Status::conflict(names, name, &format!("pod {name} has non-empty .spec.schedulingGates")));
        }
        let mut new = old.clone();
        new["spec"]["nodeName"] = node.clone().into();
        for (key, value) in binding["metadata"]["annotations"].as_object().into_iter().flatten() {
            new["metadata"]["annotations"][key] = value.clone();
        }
        let condition =
            json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now});
        let conditions = new["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let others = conditions.into_iter().filter(|condition| condition["type"] != "PodScheduled");
        new["status"]["conditions"] = others.chain([condition]).collect::<Vec<_>>().into();
        Ok((new, Warnings::new()))
    };
    let write = Write::new(user, dry_run, Tracking::Unseen);
    change_object(server, target, Change::Internal, &write, change).await?;
    Ok(success())
}

pub(crate) fn success() -> Answer {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    body::value(StatusCode::CREATED, &status)
}

/// A token for a service account.
fn token(server: &Server, request: &Request, target: &Target) -> Result<Answer, Status> {
    let (asked, mut warnings) = objects::decode(server, request, &TOKEN_REQUEST)?;
    let account = storage::of(server, target)?;
    let namespace = target.namespace.as_deref().unwrap_or_default();
    let name = target.name.as_deref().unwrap_or_default();
    guards::check_post(server, &request.user, target, &account, &asked)?;
    let dry_run = dry_run(request)?;
    let (answered, more) = token_request::answer(server, namespace, name, &account, asked, dry_run)?;
    warnings.extend(more);
    Ok(objects::warned(body::value(StatusCode::CREATED, &answered), &warnings))
}
