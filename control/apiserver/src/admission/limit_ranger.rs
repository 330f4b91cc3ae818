//! LimitRanger: containers get the resources that their namespace's limits give by default, and nothing asks for more or
//! less than these allow.
//!
//! Wording: plugin/pkg/admission/limitranger of Kubernetes v1.36.

use std::collections::BTreeMap;

use corten_api::names::Names;
use corten_api::quantity::Quantity;
use corten_api::status::Status;
use serde_json::{Map, Value};

use super::pod_resources::{Amounts, amounts, of_pod};
use super::{Attempt, Plugin, is_pod, list};

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

pub(super) struct LimitRanger;

impl Plugin for LimitRanger {
    fn changes(&self, names: &Names) -> bool {
        is_pod(names)
    }

    fn admit(&self, write: &Attempt<'_>, pod: &mut Value) -> Result<(), Status> {
        if write.old.is_some() {
            return Ok(());
        }
        for range in write.all("limitranges", write.namespace) {
            fill(&range, pod);
        }
        Ok(())
    }

    fn validate(&self, write: &Attempt<'_>, object: &Value) -> Result<(), Status> {
        let claim = write.is("", "PersistentVolumeClaim");
        // A pod that is there is judged anew when it is resized.
        let pod = write.is("", "Pod") && write.old.is_none_or(|old| !same_resources(old, object));
        if !claim && !pod {
            return Ok(());
        }
        for range in write.all("limitranges", write.namespace) {
            let mut problems = Vec::new();
            for limit in list(&range["spec"], "limits") {
                match limit["type"].as_str().unwrap_or_default() {
                    "PersistentVolumeClaim" if claim => {
                        let wanted =
                            Wanted { requests: amounts(&object["spec"]["resources"]["requests"]), limits: None };
                        wanted.judge(limit, &mut problems);
                    }
                    "Container" if pod => {
                        for container in each_container(object) {
                            let resources = &container["resources"];
                            let limits = Some(amounts(&resources["limits"]));
                            Wanted { requests: amounts(&resources["requests"]), limits }.judge(limit, &mut problems);
                        }
                    }
                    "Pod" if pod => {
                        let limits = Some(of_pod(object, "limits"));
                        Wanted { requests: of_pod(object, "requests"), limits }.judge(limit, &mut problems);
                    }
                    _ => {}
                }
            }
            match problems.as_slice() {
                [] => {}
                [one] => return Err(write.forbidden(object, one)),
                several => return Err(write.forbidden(object, &format!("[{}]", several.join(", ")))),
            }
        }
        Ok(())
    }
}

fn each_container(pod: &Value) -> impl Iterator<Item = &Value> {
    list(&pod["spec"], "containers").iter().chain(list(&pod["spec"], "initContainers"))
}

fn same_resources(old: &Value, new: &Value) -> bool {
    let own = |pod: &'_ Value| pod["spec"]["resources"].clone();
    let of = |pod: &'_ Value| each_container(pod).map(|container| container["resources"].clone()).collect::<Vec<_>>();
    own(old) == own(new) && of(old) == of(new)
}

/// Gives containers what they do not say themselves.
fn fill(range: &Value, pod: &mut Value) {
    let (mut limits, mut requests) = (Map::new(), Map::new());
    for limit in list(&range["spec"], "limits").iter().filter(|limit| limit["type"] == "Container") {
        limits.extend(limit["default"].as_object().cloned().unwrap_or_default());
        requests.extend(limit["defaultRequest"].as_object().cloned().unwrap_or_default());
    }
    let mut notes = Vec::new();
    for (lists, word) in [("containers", "container"), ("initContainers", "init container")] {
        for container in pod["spec"][lists].as_array_mut().into_iter().flatten() {
            let name = container["name"].as_str().unwrap_or_default().to_owned();
            for (field, defaults, what) in [("requests", &requests, "request"), ("limits", &limits, "limit")] {
                let mut set: Vec<&str> = Vec::new();
                for (resource, value) in defaults {
                    let own = &mut container["resources"][field];
                    if own.get(resource).is_none() {
                        own[resource] = value.clone();
                        set.push(resource);
                    }
                }
                if !set.is_empty() {
                    set.sort_unstable();
                    notes.push(format!("{} {what} for {word} {name}", set.join(", ")));
                }
            }
        }
    }
    if !notes.is_empty() {
        pod["metadata"]["annotations"][ANNOTATION] = format!("LimitRanger plugin set: {}", notes.join("; ")).into();
    }
}

/// What something asks for; `limits` is `None` for what has none.
struct Wanted {
    requests: Amounts,
    limits: Option<Amounts>,
}

impl Wanted {
    fn judge(&self, limit: &Value, problems: &mut Vec<String>) {
        let kind = limit["type"].as_str().unwrap_or_default();
        let none = BTreeMap::new();
        let limits = self.limits.as_ref().unwrap_or(&none);
        for (name, least) in amounts(&limit["min"]) {
            let begin = format!("minimum {name} usage per {kind} is {least}");
            match (self.requests.get(&name), limits.get(&name)) {
                (None, _) => problems.push(format!("{begin}.  No request is specified")),
                (Some(request), _) if *request < least => problems.push(format!("{begin}, but request is {request}")),
                (_, Some(own)) if *own < least => problems.push(format!("{begin}, but limit is {own}")),
                _ => {}
            }
        }
        for (name, most) in amounts(&limit["max"]) {
            let begin = format!("maximum {name} usage per {kind} is {most}");
            let request = self.requests.get(&name);
            match (&self.limits, request, limits.get(&name)) {
                (None, None, _) => problems.push(format!("{begin}.  No request is specified")),
                (Some(_), _, None) => problems.push(format!("{begin}.  No limit is specified")),
                (_, _, Some(own)) if *own > most => problems.push(format!("{begin}, but limit is {own}")),
                (_, Some(request), _) if *request > most => problems.push(format!("{begin}, but request is {request}")),
                _ => {}
            }
        }
        for (name, most) in amounts(&limit["maxLimitRequestRatio"]) {
            let begin = format!("{name} max limit to request ratio per {kind} is {most}");
            let given = |amounts: &Amounts| amounts.get(&name).copied().filter(|amount| !amount.is_zero());
            match (given(&self.requests), given(limits)) {
                (None, _) => problems.push(format!("{begin}, but no request is specified or request is 0")),
                (_, None) => problems.push(format!("{begin}, but no limit is specified or limit is 0")),
                (Some(request), Some(own)) => {
                    let ratio = ratio(own, request);
                    if ratio * 1000.0 > ratio_of(most) {
                        problems.push(format!("{begin}, but provided ratio is {ratio:.6}"));
                    }
                }
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "as upstream, ratios are approximate")]
fn ratio(limit: Quantity, request: Quantity) -> f64 {
    limit.millis() as f64 / request.millis() as f64
}

#[expect(clippy::cast_precision_loss, reason = "as upstream, ratios are approximate")]
fn ratio_of(most: Quantity) -> f64 {
    most.millis() as f64
}
