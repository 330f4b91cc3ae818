//! Evictions: deletions of pods that honour disruption budgets.
//!
//! Behaviour and wording: pkg/registry/core/pod/storage/eviction.go of Kubernetes v1.36.
//! Invariant: a pod that counts as healthy is deleted only after its budget's `disruptionsAllowed` was taken down by one,
//! in one write that fails if the budget changed.

use corten_api::names::Names;
use corten_api::selector::Labels;
use corten_api::status::Status;
use corten_kinds::{AnyKind, KINDS};
use serde_json::{Value, json};

use crate::admission::guards;
use crate::body::Answer;
use crate::identity::Identity;
use crate::managed::{Tracking, Writer};
use crate::objects::{self, Warnings};
use crate::request::{Query, Request};
use crate::route::Target;
use crate::server::Server;
use crate::storage;
use crate::subresources::success;
use crate::verbs::{Change, DeleteOptions, Write, change_object, delete_object, dry_run};

/// More evictions than the budget's controller can have missed: something is wrong.
const MOST_DISRUPTED: usize = 2000;
/// Seconds until a budget is likely to have been looked at.
const RETRY: i64 = 10;
/// What older clients send; it reads the same.
const BETA: &str = "policy/v1beta1";

static EVICTION: Names =
    Names { group: "policy", version: "v1", kind: "Eviction", plural: "", singular: "", short: &[], categories: &[] };

/// How often an eviction is decided anew because the pod changed meanwhile.
const ATTEMPTS: u32 = 20;

/// Why a pod may go.
enum Leave {
    /// No budget asks for it, whatever becomes of it.
    Free,
    /// It does not run yet. Once it does, its budget is to be asked.
    Pending,
    /// This budget does not count it as healthy. Once it is, the budget is to be asked.
    Unhealthy(String),
    /// This budget gives it away.
    Budgeted(Value),
}

/// Deletes a pod on somebody's request, if its budget allows it.
pub(crate) async fn evict(server: &Server, request: &Request, target: &Target) -> Result<Answer, Status> {
    let eviction = read(server, request)?;
    let name = target.name.as_deref().unwrap_or_default();
    if eviction["metadata"]["name"].as_str().is_some_and(|own| own != name) {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let user = &request.user;
    let asked = options(request, &eviction)?;
    for _ in 0..ATTEMPTS {
        let pod: Value = storage::of(server, target)?;
        guards::check_post(server, user, target, &pod, &eviction)?;
        let leave = leave(server, target, &pod)?;
        let mut options = asked.clone();
        match &leave {
            Leave::Budgeted(budget) => take(server, user, target, budget, name, options.dry_run).await?,
            Leave::Pending | Leave::Unhealthy(_) if asked.version.is_none() => {
                options.version = pod["metadata"]["resourceVersion"].as_str().map(str::to_owned);
            }
            _ => {}
        }
        match (delete(server, user, target, &pod, options).await, leave) {
            (Ok(()), _) => return Ok(success()),
            // What the client did not demand is no conflict to it.
            (Err(status), Leave::Pending) if status.code == 409 && asked.version.is_none() => {}
            (Err(status), Leave::Unhealthy(budget)) if status.code == 409 && asked.version.is_none() => {
                return Err(unprocessed(&budget));
            }
            (Err(status), _) => return Err(status),
        }
    }
    Err(Status::modified(target.kind.names(), name))
}

fn leave(server: &Server, target: &Target, pod: &Value) -> Result<Leave, Status> {
    match pod["status"]["phase"].as_str().unwrap_or_default() {
        _ if pod["metadata"]["deletionTimestamp"].is_string() => return Ok(Leave::Free),
        "Succeeded" | "Failed" => return Ok(Leave::Free),
        "Pending" => return Ok(Leave::Pending),
        _ => {}
    }
    let mut found = budgets(server, target.namespace.as_deref(), pod)?;
    let Some(budget) = found.pop() else { return Ok(Leave::Free) };
    if !found.is_empty() {
        let why = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
        return Err(Status::failure(500, "", why));
    }
    if is_unhealthy(pod) && may_go_unhealthy(&budget) {
        return Ok(Leave::Unhealthy(budget["metadata"]["name"].as_str().unwrap_or_default().to_owned()));
    }
    Ok(Leave::Budgeted(budget))
}

/// Tells the pod's owner that it does not end by itself, and deletes it.
async fn delete(
    server: &Server,
    user: &Identity,
    target: &Target,
    pod: &Value,
    mut options: DeleteOptions,
) -> Result<(), Status> {
    let same = options.uid.as_deref().is_none_or(|uid| pod["metadata"]["uid"] == *uid);
    let ended = ["Succeeded", "Failed"].contains(&pod["status"]["phase"].as_str().unwrap_or_default());
    if same && !ended && !options.dry_run {
        let version = mark(server, user, target, options.version.as_deref()).await?;
        options.version = options.version.and(version);
    }
    let name = target.name.as_deref().unwrap_or_default();
    delete_object(server, user, target.kind, target.namespace.as_deref(), name, &options).await?;
    Ok(())
}

fn read(server: &Server, request: &Request) -> Result<Value, Status> {
    if !request.body.windows(BETA.len()).any(|part| part == BETA.as_bytes()) {
        return Ok(objects::decode(server, request, &EVICTION)?.0);
    }
    let (mut value, findings) = objects::parse(server, request, (&EVICTION.api_version(), EVICTION.kind))?;
    if value["apiVersion"] == BETA {
        value["apiVersion"] = EVICTION.api_version().into();
    }
    Ok(objects::conform(server, &request.query, &EVICTION, value, findings)?.0)
}

fn options(request: &Request, eviction: &Value) -> Result<DeleteOptions, Status> {
    // Only the body says how; the request's parameters are those of a creation.
    let options = DeleteOptions::of(&Query::default(), &eviction["deleteOptions"])?;
    Ok(DeleteOptions { dry_run: dry_run(request)? || options.dry_run, unreadable: false, ..options })
}

fn is_unhealthy(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    !conditions.into_iter().flatten().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// Whether a budget lets go of pods that are not ready, which do not count for it.
fn may_go_unhealthy(budget: &Value) -> bool {
    let status = &budget["status"];
    let number = |field: &str| status[field].as_i64().unwrap_or(0);
    budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
        || (number("currentHealthy") >= number("desiredHealthy") && number("desiredHealthy") > 0)
}

fn budget_kind() -> Result<&'static dyn AnyKind, Status> {
    let kind = KINDS.iter().copied().find(|kind| kind.names().kind == "PodDisruptionBudget");
    kind.ok_or_else(|| Status::internal("disruption budgets are not served"))
}

/// The budgets that select a pod. One that demands nothing selects nothing.
fn budgets(server: &Server, namespace: Option<&str>, pod: &Value) -> Result<Vec<Value>, Status> {
    let kind = budget_kind()?;
    let snapshot = server.store().snapshot();
    let labels = &pod["metadata"]["labels"];
    let mut found = Vec::new();
    for (_, entry) in snapshot.prefix(&storage::prefix(kind.storage(), namespace)) {
        let budget = storage::decode(entry)?;
        let selector = serde::Deserialize::deserialize(&budget["spec"]["selector"]);
        let selects = selector.ok().and_then(|selector| Labels::from_selector(&selector).ok());
        if selects.is_some_and(|selects| !selects.is_empty() && selects.matches_by(|key| labels[key].as_str())) {
            found.push(budget);
        }
    }
    Ok(found)
}

/// Takes one disruption from a budget, or says why not.
async fn take(
    server: &Server,
    user: &Identity,
    target: &Target,
    budget: &Value,
    pod: &str,
    dry_run: bool,
) -> Result<(), Status> {
    let name = budget["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let budget = Target { kind: budget_kind()?, name: Some(name), subresource: None, ..target.clone() };
    let now = objects::time(server.clock().now());
    let change = |old: &Value| {
        let mut new = taken(old, pod, &now)?;
        objects::metadata(&mut new).shift_remove("resourceVersion");
        Ok((new, Warnings::new()))
    };
    let writer = writer();
    let write = Write::new(user, dry_run, Tracking::Update(&writer));
    change_object(server, &budget, Change::Internal, &write, change).await?;
    Ok(())
}

/// A budget after one more disruption.
fn taken(budget: &Value, pod: &str, now: &Value) -> Result<Value, Status> {
    let names = budget_kind()?.names();
    let name = budget["metadata"]["name"].as_str().unwrap_or_default();
    let status = &budget["status"];
    let number = |field: &str| status[field].as_i64().unwrap_or(0);
    if number("observedGeneration") < budget["metadata"]["generation"].as_i64().unwrap_or(0) {
        return Err(unprocessed(name));
    }
    let allowed = number("disruptionsAllowed");
    if allowed < 0 {
        return Err(Status::forbidden(names, name, "pdb disruptions allowed is negative"));
    }
    if status["disruptedPods"].as_object().is_some_and(|pods| pods.len() > MOST_DISRUPTED) {
        let why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        return Err(Status::forbidden(names, name, why));
    }
    if allowed == 0 {
        return Err(refused(&why_none(name, status), None));
    }
    let mut new = budget.clone();
    let status = &mut new["status"];
    status["disruptionsAllowed"] = (allowed - 1).into();
    status["disruptedPods"][pod] = now.clone();
    if allowed == 1 {
        let observed = status["observedGeneration"].clone();
        let condition = json!({
            "type": "DisruptionAllowed", "status": "False", "observedGeneration": observed,
            "lastTransitionTime": now, "reason": "InsufficientPods", "message": "",
        });
        set_condition(status, condition);
    }
    Ok(new)
}

fn why_none(name: &str, status: &Value) -> String {
    let number = |field: &str| status[field].as_i64().unwrap_or(0);
    let conditions = status["conditions"].as_array();
    let failed = conditions.into_iter().flatten().find(|condition| {
        condition["type"] == "DisruptionAllowed"
            && condition["status"] == "False"
            && condition["reason"] == "SyncFailed"
    });
    let message = failed.and_then(|condition| condition["message"].as_str()).filter(|message| !message.is_empty());
    if let Some(message) = message {
        return format!(
            "The disruption budget {name} does not allow evicting pods currently because it failed sync: {message}"
        );
    }
    let (wanted, healthy) = (number("desiredHealthy"), number("currentHealthy"));
    if healthy <= wanted {
        format!("The disruption budget {name} needs {wanted} healthy pods and has {healthy} currently")
    } else {
        format!("The disruption budget {name} does not allow evicting pods currently")
    }
}

/// Puts a condition in the place of the one of its type.
fn set_condition(status: &mut Value, mut condition: Value) {
    let mut conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    match conditions.iter_mut().find(|own| own["type"] == condition["type"]) {
        Some(own) => {
            if own["status"] == condition["status"] {
                condition["lastTransitionTime"] = own["lastTransitionTime"].clone();
            }
            *own = condition;
        }
        None => conditions.push(condition),
    }
    status["conditions"] = conditions.into();
}

fn unprocessed(budget: &str) -> Status {
    refused(&format!("The disruption budget {budget} is still being processed by the server."), Some(RETRY))
}

/// Statuses are written by the server here.
fn writer() -> Writer {
    Writer { subresource: "status", ..Writer::server() }
}

/// 429: not now. Clients that evict many pods try again.
fn refused(why: &str, retry: Option<i64>) -> Status {
    let message = "Cannot evict pod as it would violate the pod's disruption budget.";
    let mut status = Status::failure(429, "TooManyRequests", message);
    let mut details = json!({"causes": [{"reason": "DisruptionBudget", "message": why}]});
    if let Some(retry) = retry {
        details["retryAfterSeconds"] = retry.into();
    }
    status.details = Some(details);
    status
}

/// Puts the reason of its end into the pod's status; returns its new version.
async fn mark(
    server: &Server,
    user: &Identity,
    target: &Target,
    version: Option<&str>,
) -> Result<Option<String>, Status> {
    let now = objects::time(server.clock().now());
    let change = |old: &Value| {
        let mut new = old.clone();
        let condition = json!({
            "type": "DisruptionTarget", "status": "True", "lastProbeTime": null, "lastTransitionTime": now,
            "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting",
        });
        set_condition(&mut new["status"], condition);
        match version {
            Some(version) => new["metadata"]["resourceVersion"] = version.into(),
            None => drop(objects::metadata(&mut new).shift_remove("resourceVersion")),
        }
        Ok((new, Warnings::new()))
    };
    let writer = writer();
    let write = Write::new(user, false, Tracking::Update(&writer));
    let (bytes, _) = change_object(server, target, Change::Internal, &write, change).await?;
    let pod: Value = serde_json::from_slice(&bytes).map_err(Status::internal)?;
    Ok(pod["metadata"]["resourceVersion"].as_str().map(str::to_owned))
}
