//! Server-side apply: PATCH with a configuration instead of a change.

use bytes::Bytes;
use corten_api::apply::{Applied, Managers, Operation, Problem, conflicts};
use corten_api::codec::{self, Findings};
use corten_api::field::FieldErrors;
use corten_api::names::Names;
use corten_api::status::Status;
use http::StatusCode;
use serde_json::{Value, json};

use super::Write;
use super::create::create_object;
use super::update::{Change, change_object, check_identity, check_nothing_known};
use crate::authorize;
use crate::body::Answer;
use crate::managed::{self, Tracking, Writer};
use crate::negotiate;
use crate::objects::{self, Warnings};
use crate::request::Request;
use crate::route::Target;
use crate::server::Server;

/// How often an object that comes and goes is met anew.
const ATTEMPTS: u32 = 8;

/// Applies the configuration in the body to an object, or to one of its parts.
pub(crate) async fn apply(server: &Server, request: &Request, target: &Target, what: Change) -> Result<Answer, Status> {
    let form = negotiate::accept(request.header(http::header::ACCEPT))?;
    let writer = Writer::of(request, target)?;
    let (config, warnings) = configuration(request, target.kind.names())?;
    let (code, bytes) = write(server, request, target, what, &writer, &config).await?;
    objects::show(server, request, form, target.kind, &bytes, code, &warnings)
}

/// Applies a Scale: to the replicas of the object that is scaled.
pub(crate) async fn apply_scale(
    server: &Server,
    request: &Request,
    target: &Target,
    scale: &Names,
) -> Result<Bytes, Status> {
    let writer = Writer::of(request, target)?;
    let (given, _) = configuration(request, scale)?;
    check_identity(target, &given)?;
    let (checked, _) = objects::conform(server, &request.query, scale, given.clone(), Findings::default())?;
    let names = target.kind.names();
    let mut config = json!({"apiVersion": names.api_version(), "kind": names.kind, "metadata": {}});
    for field in ["name", "namespace", "uid", "resourceVersion"] {
        if let Some(value) = checked["metadata"].get(field) {
            config["metadata"][field] = value.clone();
        }
    }
    if let Some(replicas) = checked["spec"]["replicas"].as_i64() {
        if replicas < 0 {
            let mut errs = FieldErrors::default();
            errs.invalid("spec.replicas", replicas, "must be greater than or equal to 0");
            return Err(Status::invalid(scale, target.name.as_deref().unwrap_or_default(), &errs));
        }
        target.kind.set_scale(&mut config, replicas);
    }
    write(server, request, target, Change::Object, &writer, &config).await.map(|(_, bytes)| bytes)
}

/// The configuration in a body, and what is to be said of it.
fn configuration(request: &Request, names: &Names) -> Result<(Value, Warnings), Status> {
    let (mut config, findings) =
        codec::yaml(&request.body).map_err(|error| Status::bad_request(format!("error decoding YAML: {error}")))?;
    let Value::Object(map) = &mut config else {
        return Err(Status::bad_request("error decoding YAML: the configuration is no object"));
    };
    let text = |name: &str| map.get(name).and_then(Value::as_str).unwrap_or_default();
    let (version, kind) = (text("apiVersion").to_owned(), text("kind").to_owned());
    if kind.is_empty() || version.is_empty() {
        let what = if kind.is_empty() { "Kind" } else { "apiVersion" };
        return Err(Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): Object '{what}' is missing",
            names.kind
        )));
    }
    if version != names.api_version() {
        return Err(Status::bad_request(format!(
            "Incorrect version specified in apply patch. Specified patch version: {version}, expected: {}",
            names.api_version()
        )));
    }
    if kind != names.kind {
        return Err(Status::bad_request(format!(
            "invalid object type: {version}, Kind={kind}; expected: {}, Kind={}",
            names.api_version(),
            names.kind
        )));
    }
    if map.get("metadata").and_then(|metadata| metadata.get("managedFields")).is_some_and(|value| !value.is_null()) {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    if let Some(Value::Object(metadata)) = map.get_mut("metadata") {
        metadata.shift_remove("managedFields");
    }
    // Unknown fields are refused by every apply; keys that appear twice are the request's to judge.
    let warnings = objects::judge(&request.query, &findings, |why| {
        Status::bad_request(format!("error strict decoding YAML: {why}"))
    })?;
    Ok((config, warnings))
}

/// Applies to the object if it is there, and creates it if it is not.
async fn write(
    server: &Server,
    request: &Request,
    target: &Target,
    what: Change,
    writer: &Writer,
    config: &Value,
) -> Result<(StatusCode, Bytes), Status> {
    let kind = target.kind;
    let write = Write::of(request, Tracking::Given)?;
    let force = request.query.flag("force");
    let author = writer.author(server, kind, Operation::Apply);
    let reset = managed::reset(kind, target.subresource);
    let run = |live: Option<&Value>, managers: Managers| -> Result<Applied, Status> {
        server.with_type(kind, |typed| {
            corten_api::apply::apply(typed, reset, managers, &author, live, config, force)
                .map_err(|problem| refused(problem, target, config))
        })
    };
    let version = config["metadata"].get("resourceVersion").cloned();
    for _ in 0..ATTEMPTS {
        let change = |old: &Value| {
            let mut live = if kind.is_view() { kind.to_served(old.clone())? } else { old.clone() };
            let managers = managed::take(&mut live);
            let Applied { mut object, managers } = run(Some(&live), Managers::stored(managers))?;
            let metadata = objects::metadata(&mut object);
            match &version {
                Some(version) => drop(metadata.insert("resourceVersion".to_owned(), version.clone())),
                None => drop(metadata.shift_remove("resourceVersion")),
            }
            Ok((finish(server, request, target, object, managers)?, Warnings::new()))
        };
        match change_object(server, target, what, &write, change).await {
            Ok((bytes, _)) => return Ok((StatusCode::OK, bytes)),
            Err(status) if status.code == 404 && what == Change::Object && target.subresource.is_none() => {}
            Err(status) => return Err(status),
        }
        check_identity(target, config)?;
        authorize::creation(server, &request.user, target)?;
        check_nothing_known(target, config)?;
        let Applied { object, managers } = run(None, Managers::default())?;
        let object = finish(server, request, target, object, managers)?;
        let namespace = target.namespace.as_deref();
        match create_object(server, kind, namespace, object, &write).await {
            Ok(bytes) => return Ok((StatusCode::CREATED, bytes)),
            // Somebody else was faster: then there is something to apply to.
            Err(status) if status.reason == "AlreadyExists" => {}
            Err(status) => return Err(status),
        }
    }
    Err(Status::modified(kind.names(), target.name.as_deref().unwrap_or_default()))
}

/// The merged object as it is stored, with its managers.
fn finish(
    server: &Server,
    request: &Request,
    target: &Target,
    object: Value,
    managers: Managers,
) -> Result<Value, Status> {
    let (object, _) = objects::conform(server, &request.query, target.kind.names(), object, Findings::default())?;
    let mut object = target.kind.to_stored(object)?;
    managed::put(&mut object, managers.encode());
    Ok(object)
}

fn refused(problem: Problem, target: &Target, config: &Value) -> Status {
    match problem {
        Problem::Conflicts(list) => conflicts(&list),
        Problem::Invalid(why) => {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let namespace = target.namespace.clone().unwrap_or_default();
            Status::bad_request(format!(
                "failed to create typed patch object ({namespace}/{}; {}, Kind={}): {why}",
                text(&config["metadata"]["name"]),
                text(&config["apiVersion"]),
                text(&config["kind"]),
            ))
        }
    }
}
