//! ResourceQuotas: how much a namespace may hold.
//!
//! What is used is counted by the API server's admission, in the same transaction as the object that uses it.

use corten_api::api::core::v1::{ResourceQuota, ResourceQuotaSpec, ScopedResourceSelectorRequirement};
use corten_api::field::FieldErrors;
use corten_api::names::Names;
use corten_api::status::Status;
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::kind::Kind;
use crate::table::{NAME, age, column};
use crate::{ColumnHead, Subresource, WriteContext, amounts, text};

const SCOPES: [&str; 7] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];
/// Scopes that exclude each other.
const CONFLICTS: [[&str; 2]; 2] = [["BestEffort", "NotBestEffort"], ["NotTerminating", "Terminating"]];
const EXISTS: &str = "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";

pub(crate) struct ResourceQuotas;

impl Kind for ResourceQuotas {
    type Object = ResourceQuota;

    const NAMES: Names = Names {
        group: "",
        version: "v1",
        kind: "ResourceQuota",
        plural: "resourcequotas",
        singular: "resourcequota",
        short: &["quota"],
        categories: &[],
    };
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const SHOW_DELETED: bool = true;
    const COLUMNS: &'static [ColumnHead] = &[NAME, column("Request"), column("Limit"), column("Age")];

    fn cells(quota: &ResourceQuota, now: Timestamp) -> Vec<Value> {
        let status = quota.status.clone().unwrap_or_default();
        let (mut requests, mut limits) = (Vec::new(), Vec::new());
        for (name, hard) in status.hard.iter().flatten() {
            let used = status.used.as_ref().and_then(|used| used.get(name));
            let used = used.map_or_else(|| "0".to_owned(), amounts::shown);
            let to = if name.starts_with("limits.") { &mut limits } else { &mut requests };
            to.push(format!("{name}: {used}/{}", amounts::shown(hard)));
        }
        vec![
            json!(quota.metadata.name),
            requests.join(", ").into(),
            limits.join(", ").into(),
            age(quota.metadata.creation_timestamp.as_ref(), now).into(),
        ]
    }

    fn prepare(new: &mut ResourceQuota, old: Option<&ResourceQuota>, _cx: &WriteContext<'_>) -> Result<(), Status> {
        if old.is_none() {
            new.status = None;
        }
        Ok(())
    }

    fn validate(quota: &ResourceQuota, old: Option<&ResourceQuota>, errs: &mut FieldErrors) {
        let Some(spec) = &quota.spec else { return };
        all(spec.hard.as_ref(), "spec.hard", errs);
        scopes(spec, errs);
        for (index, requirement) in
            spec.scope_selector.iter().flat_map(|selector| selector.match_expressions.iter().flatten()).enumerate()
        {
            // As upstream, whose paths have no index here.
            let _ = index;
            selector(requirement, spec, errs);
        }
        let Some(before) = old.and_then(|old| old.spec.as_ref()) else { return };
        let sorted = |spec: &ResourceQuotaSpec| {
            let mut scopes = spec.scopes.clone().unwrap_or_default();
            scopes.sort();
            scopes
        };
        if sorted(spec) != sorted(before) {
            text::invalid_value(&spec.scopes, text::IMMUTABLE, "spec.scopes", errs);
        }
        let scoped = |spec: &ResourceQuotaSpec| spec.scope_selector.clone().filter(|s| s.match_expressions.is_some());
        if scoped(spec) != scoped(before) {
            text::invalid_value(&spec.scope_selector, text::IMMUTABLE, "spec.scopeSelector", errs);
        }
    }

    fn validate_status(quota: &ResourceQuota, _old: &ResourceQuota, errs: &mut FieldErrors) {
        let Some(status) = &quota.status else { return };
        all(status.hard.as_ref(), "status.hard", errs);
        all(status.used.as_ref(), "status.used", errs);
    }
}

fn all(amounts: Option<&amounts::Amounts>, path: &str, errs: &mut FieldErrors) {
    for (name, amount) in amounts.into_iter().flatten() {
        let path = format!("{path}[{name}]");
        amounts::quota_resource(name, &path, errs);
        amounts::amount(name, amount, &path, errs);
    }
}

fn scopes(spec: &ResourceQuotaSpec, errs: &mut FieldErrors) {
    let scopes = spec.scopes.as_deref().unwrap_or_default();
    let path = "spec.scopes";
    for scope in scopes {
        if !SCOPES.contains(&scope.as_str()) {
            text::invalid_value(&scopes, "unsupported scope", path, errs);
        }
        for _ in spec.hard.iter().flatten().filter(|(name, _)| !fits(scope, name)) {
            text::invalid_value(&scopes, "unsupported scope applied to resource", path, errs);
        }
    }
    if in_conflict(|scope| scopes.iter().any(|own| own == scope)) {
        text::invalid_value(&scopes, "conflicting scopes", path, errs);
    }
}

fn selector(requirement: &ScopedResourceSelectorRequirement, spec: &ResourceQuotaSpec, errs: &mut FieldErrors) {
    const PATH: &str = "spec.scopeSelector.matchExpressions";
    let (scope, operator) = (requirement.scope_name.as_str(), requirement.operator.as_str());
    let values = requirement.values.as_deref().unwrap_or_default();
    if !SCOPES.contains(&scope) {
        errs.invalid(format!("{PATH}.scopeName"), scope, "unsupported scope");
    }
    for _ in spec.hard.iter().flatten().filter(|(name, _)| !fits(scope, name)) {
        text::invalid_value(&spec.scope_selector, "unsupported scope applied to resource", PATH, errs);
    }
    let valued = ["PriorityClass", "VolumeAttributesClass"].contains(&scope);
    if SCOPES.contains(&scope) && !valued && operator != "Exists" {
        errs.invalid(format!("{PATH}.operator"), operator, EXISTS);
    }
    match operator {
        "In" | "NotIn" if values.is_empty() => errs.required(
            format!("{PATH}.values"),
            "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
        ),
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let why = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
            text::invalid_value(&values, why, &format!("{PATH}.values"), errs);
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => errs.invalid(format!("{PATH}.operator"), other, "not a valid selector operator"),
    }
    let others = spec.scope_selector.iter().flat_map(|selector| selector.match_expressions.iter().flatten());
    let last = others.clone().last() == Some(requirement);
    if last && in_conflict(|scope| others.clone().any(|own| own.scope_name == scope)) {
        text::invalid_value(&spec.scope_selector, "conflicting scopes", PATH, errs);
    }
}

fn in_conflict(has: impl Fn(&str) -> bool) -> bool {
    CONFLICTS.iter().any(|pair| pair.iter().all(|scope| has(scope)))
}

/// Whether a resource with a short name can be counted in this scope.
fn fits(scope: &str, name: &str) -> bool {
    if !amounts::is_standard_quota(name) {
        return true;
    }
    match scope {
        "BestEffort" => name == "pods",
        "VolumeAttributesClass" => ["persistentvolumeclaims", "requests.storage"].contains(&name),
        _ if SCOPES.contains(&scope) => {
            ["pods", "cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"].contains(&name)
        }
        _ => true,
    }
}
