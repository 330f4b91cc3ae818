//! Requests for kinds of which nothing is stored (`VirtualKind` in control/kinds): each is answered here.

use std::sync::Arc;

use bytes::Bytes;
use corten_api::status::Status;
use corten_kinds::{KINDS, Subresource};
use http::StatusCode;
use http::header::ACCEPT;
use serde_json::{Value, json};

use crate::body::Answer;
use crate::objects::{self, Filter};
use crate::request::Request;
use crate::route::Target;
use crate::server::Server;
use crate::verbs::dry_run;
use crate::{components, negotiate, reviews, subresources};

pub(crate) async fn run(server: &Arc<Server>, request: Request, target: Target, verb: &str) -> Result<Answer, Status> {
    let names = target.kind.names();
    match (names.group, names.plural, verb) {
        ("", "bindings", "create") => bind(server, &request, &target).await,
        ("", "componentstatuses", "get") => component(server, &request, &target).await,
        ("", "componentstatuses", "list") => all_components(server, &request, &target).await,
        ("authentication.k8s.io" | "authorization.k8s.io", _, "create") => review(server, &request, &target),
        _ => Err(Status::method_not_allowed()),
    }
}

/// Answers a question about who somebody is or what they may do: the object that was sent, with its status.
fn review(server: &Server, request: &Request, target: &Target) -> Result<Answer, Status> {
    let form = negotiate::accept(request.header(ACCEPT))?;
    let (asked, warnings) = objects::decode(server, request, target.kind.names())?;
    let (names, namespace) = (target.kind.names(), target.namespace.as_deref());
    let answered = reviews::review(server, &request.user, names, namespace, asked)?;
    let bytes = answered.to_string().into();
    objects::show(server, request, form, target.kind, &bytes, StatusCode::CREATED, &warnings)
}

/// The old way to bind a pod: the binding names it.
async fn bind(server: &Server, request: &Request, target: &Target) -> Result<Answer, Status> {
    let (binding, _) = objects::decode(server, request, target.kind.names())?;
    let name = binding["metadata"]["name"].as_str().unwrap_or_default();
    if name.is_empty() {
        return Err(Status::bad_request("name must be provided"));
    }
    let given = binding["metadata"]["namespace"].as_str().unwrap_or_default();
    if !given.is_empty() && Some(given) != target.namespace.as_deref() {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    let bound = KINDS.iter().copied().find(|kind| kind.subresources().contains(&Subresource::Binding));
    let pod = Target {
        kind: bound.ok_or_else(Status::no_such_path)?,
        name: Some(name.to_owned()),
        subresource: Some(Subresource::Binding),
        ..target.clone()
    };
    subresources::bind(server, &request.user, &pod, &binding, dry_run(request)?).await
}

async fn component(server: &Server, request: &Request, target: &Target) -> Result<Answer, Status> {
    let form = negotiate::accept(request.header(ACCEPT))?;
    let name = target.name.as_deref().unwrap_or_default();
    let checked = components::check(server).await.into_iter().find(|checked| checked.name == name);
    let checked = checked.ok_or_else(|| Status::not_found(target.kind.names(), name))?;
    let bytes = component_status(&checked).to_string().into();
    objects::show(server, request, form, target.kind, &bytes, StatusCode::OK, &Vec::new())
}

async fn all_components(server: &Server, request: &Request, target: &Target) -> Result<Answer, Status> {
    let form = negotiate::accept(request.header(ACCEPT))?;
    let filter = Filter::parse(target.kind, &request.query)?;
    let checked = components::check(server).await;
    let all = checked.iter().map(|checked| Bytes::from(component_status(checked).to_string()));
    let items: Vec<Bytes> = all.filter(|item| filter.matches(item)).collect();
    crate::verbs::list_answer(server, request, form, target, &items, &json!({}))
}

fn component_status(checked: &components::Checked) -> Value {
    let condition = match &checked.failure {
        None => json!({"type": "Healthy", "status": "True", "message": "ok"}),
        Some(why) => json!({"type": "Healthy", "status": "False", "message": why, "error": why}),
    };
    json!({
        "apiVersion": "v1", "kind": "ComponentStatus", "metadata": {"name": checked.name},
        "conditions": [condition],
    })
}
