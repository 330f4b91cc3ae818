//! What can be done to objects.

mod apply;
mod create;
mod delete;
mod options;
mod read;
mod update;
mod watch;

use std::sync::Arc;

use corten_api::status::Status;
use http::Method;

use crate::body::Answer;
use crate::request::Request;
use crate::route::Target;
use crate::server::Server;
use crate::{subresources, virtual_kinds};

pub(crate) use apply::{apply, apply_scale};
pub(crate) use create::create_object;
pub(crate) use delete::{Options as DeleteOptions, delete_object};
pub(crate) use read::answer as list_answer;
pub(crate) use update::{Change, Patch, change_object, part_change};

/// Runs a request on objects.
pub(crate) async fn run(server: &Arc<Server>, request: Request, target: Target) -> Result<Answer, Status> {
    let watched = target.watch || request.query.flag("watch");
    let verb = match (&request.method, &target.name, target.subresource) {
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
    };
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
        "get" => read::get(server, &request, &target),
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
