//! What containers ask for and may use at most.
//!
//! Wording: pkg/apis/core/validation of Kubernetes v1.36.

use std::collections::{BTreeMap, HashSet};

use corten_api::api::core::v1::{Container, ContainerResizePolicy, PodSpec, ResourceRequirements};
use corten_api::field::FieldErrors;
use corten_api::k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use corten_api::label;
use corten_api::quantity::Quantity;

const HUGE: &str = "hugepages-";
const NOT_NEGATIVE: &str = "must be greater than or equal to 0";

type Amounts = BTreeMap<String, Text>;

/// Whether pods as a whole can have such a resource.
pub(super) fn is_for_pods(name: &str) -> bool {
    ["cpu", "memory"].contains(&name) || name.starts_with(HUGE)
}

fn is_standard(name: &str) -> bool {
    is_for_pods(name) || name == "ephemeral-storage"
}

/// A resource that is not Kubernetes' own, such as `example.com/device`.
fn is_extended(name: &str) -> bool {
    let (Some((domain, _)), false) = (name.split_once('/'), name.starts_with("requests.")) else { return false };
    domain != "kubernetes.io" && !domain.ends_with(".kubernetes.io")
}

/// Whether more may be used than is asked for.
fn can_overcommit(name: &str) -> bool {
    !is_extended(name) && !name.starts_with(HUGE)
}

/// What all containers of a pod ask for together, as the scheduler counts it.
pub(super) fn aggregate(
    spec: &PodSpec,
    which: impl Fn(&ResourceRequirements) -> Option<&Amounts>,
) -> BTreeMap<String, Quantity> {
    let amounts = |container: &Container| -> Vec<(String, Quantity)> {
        let map = container.resources.as_ref().and_then(&which);
        map.into_iter().flatten().filter_map(|(name, text)| Some((name.clone(), Quantity::of(text).ok()?))).collect()
    };
    let mut sum: BTreeMap<String, Quantity> = BTreeMap::new();
    let mut sidecars: BTreeMap<String, Quantity> = BTreeMap::new();
    let mut peak: BTreeMap<String, Quantity> = BTreeMap::new();
    for (name, amount) in spec.containers.iter().flat_map(amounts) {
        *sum.entry(name).or_insert(Quantity::ZERO) += amount;
    }
    for container in spec.init_containers.iter().flatten() {
        let sidecar = container.restart_policy.as_deref() == Some("Always");
        for (name, amount) in amounts(container) {
            let running = sidecars.entry(name.clone()).or_insert(Quantity::ZERO);
            let level = *running + amount;
            if sidecar {
                *running = level;
                *sum.entry(name.clone()).or_insert(Quantity::ZERO) += amount;
            }
            let highest = peak.entry(name).or_insert(Quantity::ZERO);
            *highest = (*highest).max(level);
        }
    }
    for (name, amount) in peak {
        let total = sum.entry(name).or_insert(Quantity::ZERO);
        *total = (*total).max(amount);
    }
    sum
}

/// The resources of a container.
pub(super) fn container(resources: &ResourceRequirements, claims: &HashSet<&str>, path: &str, errs: &mut FieldErrors) {
    let (limits, requests) = (resources.limits.as_ref(), resources.requests.as_ref());
    for (field, map) in [("limits", limits), ("requests", requests)] {
        for (name, amount) in map.into_iter().flatten() {
            let path = format!("{path}.{field}[{name}]");
            resource_name(name, &path, errs);
            self::amount(name, amount, &path, errs);
        }
    }
    requests_within_limits(limits, requests, path, errs);
    let names = || limits.into_iter().chain(requests).flatten().map(|(name, _)| name.as_str());
    if names().any(|name| name.starts_with(HUGE)) && !names().any(|name| ["cpu", "memory"].contains(&name)) {
        errs.forbidden(path, "HugePages require cpu or memory");
    }
    let mut seen = HashSet::new();
    for (index, claim) in resources.claims.iter().flatten().enumerate() {
        let path = format!("{path}.claims[{index}]");
        if claim.name.is_empty() {
            errs.required(format!("{path}.name"), "");
            continue;
        }
        if !claims.contains(claim.name.as_str()) {
            errs.not_found(format!("{path}.name"), &claim.name);
        }
        if !seen.insert((claim.name.as_str(), claim.request.as_deref().unwrap_or_default())) {
            errs.duplicate(path, &claim.name);
        }
    }
}

fn requests_within_limits(limits: Option<&Amounts>, requests: Option<&Amounts>, path: &str, errs: &mut FieldErrors) {
    for (name, request) in requests.into_iter().flatten() {
        let Some(limit) = limits.and_then(|limits| limits.get(name)) else {
            if !can_overcommit(name) {
                errs.required(format!("{path}.limits"), "Limit must be set for non overcommitable resources");
            }
            continue;
        };
        let (Ok(wanted), Ok(most)) = (Quantity::of(request), Quantity::of(limit)) else { continue };
        let relation = match can_overcommit(name) {
            false if wanted != most => "must be equal to",
            true if wanted > most => "must be less than or equal to",
            _ => continue,
        };
        errs.invalid(format!("{path}.requests"), &request.0, format!("{relation} {name} limit of {}", limit.0));
    }
}

fn resource_name(name: &str, path: &str, errs: &mut FieldErrors) {
    let problems = label::key_problems(name);
    if !problems.is_empty() {
        problems.into_iter().for_each(|why| errs.invalid(path, name, why));
    } else if !name.contains('/') {
        if !is_standard(name) {
            errs.invalid(path, name, "must be a standard resource for containers");
        }
    } else if is_extended(name) && name.len() + "requests.".len() > 63 + 1 + 253 {
        errs.invalid(path, name, "doesn't follow extended resource name standard");
    }
}

fn amount(name: &str, amount: &Text, path: &str, errs: &mut FieldErrors) {
    match Quantity::of(amount) {
        Ok(quantity) if quantity.is_negative() => errs.invalid(path, &amount.0, NOT_NEGATIVE),
        Ok(quantity) if is_extended(name) && Quantity::from_units(quantity.units()) != quantity => {
            errs.invalid(path, &amount.0, "must be an integer");
        }
        Ok(_) => {}
        Err(error) => errs.invalid(path, &amount.0, error.to_string()),
    }
}

/// The resources of a pod as a whole.
pub(super) fn pod(spec: &PodSpec, path: &str, errs: &mut FieldErrors) {
    let Some(resources) = &spec.resources else { return };
    let own = format!("{path}.resources");
    if resources.claims.as_ref().is_some_and(|claims| !claims.is_empty()) {
        errs.forbidden(format!("{own}.claims"), "claims may not be set for Resources at pod-level");
    }
    let (limits, requests) = (resources.limits.as_ref(), resources.requests.as_ref());
    for (field, map) in [("limits", limits), ("requests", requests)] {
        for (name, amount) in map.into_iter().flatten() {
            let path = format!("{own}.{field}[{name}]");
            if !is_for_pods(name) {
                errs.not_supported(&path, name, &["cpu", "hugepages-", "memory"]);
            }
            self::amount(name, amount, &path, errs);
        }
    }
    requests_within_limits(limits, requests, &own, errs);
    let together = aggregate(spec, |resources| resources.requests.as_ref());
    for (name, text) in requests.into_iter().flatten() {
        if let (Ok(own_amount), Some(sum)) = (Quantity::of(text), together.get(name))
            && own_amount < *sum
        {
            let why = format!("must be greater than or equal to aggregate container requests of {sum}");
            errs.invalid(format!("{own}.requests[{name}]"), &text.0, why);
        }
    }
    for (index, container) in spec.containers.iter().enumerate() {
        let own_limits = container.resources.as_ref().and_then(|resources| resources.limits.as_ref());
        for (name, text) in own_limits.into_iter().flatten() {
            let Some(most) = limits.and_then(|limits| limits.get(name)) else { continue };
            if let (Ok(wanted), Ok(bound)) = (Quantity::of(text), Quantity::of(most))
                && wanted > bound
            {
                let path = format!("{path}.containers[{index}].resources.limits[{name}]");
                errs.invalid(path, &text.0, format!("must be less than or equal to pod limits of {}", most.0));
            }
        }
    }
}

/// What a pod's own machinery takes.
pub(super) fn overhead(overhead: Option<&Amounts>, path: &str, errs: &mut FieldErrors) {
    for (name, amount) in overhead.into_iter().flatten() {
        let path = format!("{path}[{name}]");
        resource_name(name, &path, errs);
        self::amount(name, amount, &path, errs);
    }
}

/// How a container takes a change of its resources.
pub(super) fn resize_policies(
    policies: &[ContainerResizePolicy],
    restart_policy: Option<&str>,
    path: &str,
    errs: &mut FieldErrors,
) {
    for (index, policy) in policies.iter().enumerate() {
        match policy.resource_name.as_str() {
            "" => errs.required(path, ""),
            "cpu" | "memory" => {}
            other => errs.not_supported(path, other, &["cpu", "memory"]),
        }
        if policies[..index].iter().any(|before| before.resource_name == policy.resource_name) {
            errs.duplicate(format!("{path}[{index}]"), &policy.resource_name);
        }
        match policy.restart_policy.as_str() {
            "" => errs.required(path, ""),
            "RestartContainer" if restart_policy == Some("Never") => {
                let why = "must be 'NotRequired' when `restartPolicy` is 'Never'";
                errs.invalid(path, &policy.restart_policy, why);
            }
            "NotRequired" | "RestartContainer" => {}
            other => errs.not_supported(path, other, &["NotRequired", "RestartContainer"]),
        }
    }
}
