//! What can be done to objects.

mod apply;
mod create;
mod delete;
mod options;
mod read;
mod update;
mod watch;

use std::sync::Arc;

use corten_api::names::Scope;
use corten_api::status::Status;
use corten_kinds::Subresource;
use http::Method;

use crate::body::Answer;
use crate::identity::Identity;
use crate::managed::Tracking;
use crate::request::Request;
use crate::route::Target;
use crate::server::Server;
use crate::{subresources, virtual_kinds};

pub(crate) use crate::lists::answer as list_answer;
pub(crate) use apply::{apply, apply_scale};
pub(crate) use create::create_object;
pub(crate) use delete::{Options as DeleteOptions, delete_object};
pub(crate) use update::{Change, Patch, change_object, check_identity, check_version, part_change};

/// A write: by whom, whether for real, and how it is recorded.
pub(crate) struct Write<'a> {
    pub(crate) user: &'a Identity,
    /// Nothing is stored; the answer is what would be.
    pub(crate) dry_run: bool,
    pub(crate) tracking: Tracking<'a>,
    /// What the client is told besides the answer.
    pub(crate) told: corten_kinds::Warnings,
}

impl<'a> Write<'a> {
    pub(crate) fn new(user: &'a Identity, dry_run: bool, tracking: Tracking<'a>) -> Self {
        Self { user, dry_run, tracking, told: corten_kinds::Warnings::default() }
    }

    /// What a request writes.
    pub(crate) fn of(request: &'a Request, tracking: Tracking<'a>) -> Result<Self, Status> {
        Ok(Self::new(&request.user, dry_run(request)?, tracking))
    }
}

/// Kubernetes' verb for a request on objects.
pub(crate) fn verb(request: &Request, target: &Target) -> Result<&'static str, Status> {
    let watched = target.watch || request.query.flag("watch");
    Ok(match (&request.method, &target.name, target.subresource) {
        // The old form is for watching alone.
        (method, ..) if target.watch && method != Method::GET => return Err(Status::method_not_allowed()),
        (&Method::HEAD, _, Some(Subresource::Proxy)) => "get",
        (&Method::OPTIONS, _, Some(Subresource::Proxy)) => "options",
        (&Method::GET, None, None) if watched => "watch",
        (&Method::GET, Some(_), None) if watched => "watch",
        (&Method::GET, None, _) => "list",
        (&Method::GET, ..) => "get",
        (&Method::POST, ..) => "create",
        (&Method::PUT, ..) => "update",
        (&Method::PATCH, ..) => "patch",
        (&Method::DELETE, None, _) => "deletecollection",
        (&Method::DELETE, ..) => "delete",
        _ => return Err(Status::method_not_allowed()),
    })
}

/// Runs a request on objects, and says so if their kind is outdated.
pub(crate) async fn run(
    server: &Arc<Server>,
    request: Request,
    target: Target,
    verb: &'static str,
) -> Result<Answer, Status> {
    // A subresource has a kind of its own.
    let outdated = target.kind.deprecation().filter(|_| target.subresource.is_none());
    let answer = run_verb(server, request, target, verb).await?;
    Ok(match outdated {
        Some(warning) => crate::objects::warned(answer, &vec![warning.to_owned()]),
        None => answer,
    })
}

async fn run_verb(
    server: &Arc<Server>,
    request: Request,
    target: Target,
    verb: &'static str,
) -> Result<Answer, Status> {
    let of_all_namespaces = target.kind.scope() == Scope::Namespaced && target.namespace.is_none();
    if of_all_namespaces && !["list", "watch"].contains(&verb) {
        return Err(Status::method_not_allowed());
    }
    if target.subresource.is_none() && !target.kind.verbs().contains(&verb) {
        return Err(Status::method_not_allowed());
    }
    if target.kind.is_virtual() {
        return virtual_kinds::run(server, request, target, verb).await;
    }
    if target.subresource.is_some() {
        return subresources::run(server, request, target, verb).await;
    }
    match verb {
        "get" => read::get(server, &request, &target).await,
        "list" => read::list(server, &request, &target).await,
        "watch" => watch::watch(server, &request, target).await,
        "create" if target.name.is_none() => create::create(server, &request, &target).await,
        "update" if target.name.is_some() => update::update(server, &request, &target).await,
        "patch" if target.name.is_some() => update::patch(server, &request, &target).await,
        "delete" => delete::delete(server, &request, &target).await,
        "deletecollection" => delete::delete_collection(server, &request, &target).await,
        _ => Err(Status::method_not_allowed()),
    }
}

/// Whether the request only asks what would be.
pub(crate) fn dry_run(request: &Request) -> Result<bool, Status> {
    match request.query.all("dryRun") {
        [] => Ok(false),
        [all] if all == "All" => Ok(true),
        [none] if none.is_empty() => Ok(false),
        other => Err(Status::bad_request(format!("dryRun: Unsupported value: {other:?}: supported values: \"All\""))),
    }
}
