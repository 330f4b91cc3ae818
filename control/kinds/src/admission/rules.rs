//! Rules that say which requests are meant, as webhooks and policies have them.
//!
//! Wording: pkg/apis/admissionregistration/validation of Kubernetes v1.36.

use std::collections::HashSet;

use corten_api::api::admissionregistration::v1::{
    MatchCondition, MatchResources, NamedRuleWithOperations, RuleWithOperations, ServiceReference, WebhookClientConfig,
};
use corten_api::field::{FieldErrors, Problem};
use corten_api::label;

use crate::net;
use crate::selectors::{self, invalid_json};

const CONDITIONS: usize = 64;

/// What a rule leaves out means everything.
pub(super) fn default_scope(scope: &mut Option<String>) {
    scope.get_or_insert_with(|| "*".to_owned());
}

/// What a policy leaves out of its selection.
pub(super) fn default_resources(resources: &mut MatchResources) {
    resources.match_policy.get_or_insert_with(|| "Equivalent".to_owned());
    resources.namespace_selector.get_or_insert_default();
    resources.object_selector.get_or_insert_default();
    let rules = resources.resource_rules.iter_mut().flatten();
    rules.chain(resources.exclude_resource_rules.iter_mut().flatten()).for_each(|rule| default_scope(&mut rule.scope));
}

/// The selection of a policy or of its binding.
pub(super) fn resources(resources: &MatchResources, path: &str, errs: &mut FieldErrors) {
    match resources.match_policy.as_deref() {
        None => errs.required(format!("{path}.matchPolicy"), ""),
        Some(policy) => one_of(policy, &["Equivalent", "Exact"], &format!("{path}.matchPolicy"), errs),
    }
    for (field, selector) in
        [("namespaceSelector", &resources.namespace_selector), ("objectSelector", &resources.object_selector)]
    {
        let path = format!("{path}.{field}");
        match selector {
            None => errs.required(path, ""),
            Some(selector) => selectors::labels(selector, &path, errs),
        }
    }
    for (field, rules) in
        [("resourceRules", &resources.resource_rules), ("excludeResourceRules", &resources.exclude_resource_rules)]
    {
        for (index, named) in rules.iter().flatten().enumerate() {
            named_rule(named, &format!("{path}.{field}[{index}]"), errs);
        }
    }
}

fn named_rule(named: &NamedRuleWithOperations, path: &str, errs: &mut FieldErrors) {
    let plain = RuleWithOperations {
        api_groups: named.api_groups.clone(),
        api_versions: named.api_versions.clone(),
        operations: named.operations.clone(),
        resources: named.resources.clone(),
        scope: named.scope.clone(),
    };
    rule(&plain, path, errs);
    let mut names = HashSet::new();
    for (index, name) in named.resource_names.iter().flatten().enumerate() {
        let path = format!("{path}.resourceNames[{index}]");
        for why in crate::meta::segment_problems(name) {
            errs.invalid(&path, name, why);
        }
        if !names.insert(name) {
            errs.duplicate(path, name);
        }
    }
}

/// One rule of a webhook.
pub(super) fn rule(rule: &RuleWithOperations, path: &str, errs: &mut FieldErrors) {
    let list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    let operations = list(&rule.operations);
    not_empty_nor_mixed(&operations, &format!("{path}.operations"), "operations", errs);
    for (index, operation) in operations.iter().enumerate() {
        one_of(
            operation,
            &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"],
            &format!("{path}.operations[{index}]"),
            errs,
        );
    }
    not_empty_nor_mixed(&list(&rule.api_groups), &format!("{path}.apiGroups"), "API groups", errs);
    let versions = list(&rule.api_versions);
    not_empty_nor_mixed(&versions, &format!("{path}.apiVersions"), "API versions", errs);
    for (index, _) in versions.iter().enumerate().filter(|(_, version)| version.is_empty()) {
        errs.required(format!("{path}.apiVersions[{index}]"), "");
    }
    rule_resources(&list(&rule.resources), &format!("{path}.resources"), errs);
    if let Some(scope) = &rule.scope {
        one_of(scope, &["*", "Cluster", "Namespaced"], &format!("{path}.scope"), errs);
    }
}

fn not_empty_nor_mixed(list: &[String], path: &str, what: &str, errs: &mut FieldErrors) {
    if list.is_empty() {
        errs.required(path, "");
    }
    if list.len() > 1 && list.iter().any(|entry| entry == "*") {
        invalid_json(errs, path, &list, &format!("if '*' is present, must not specify other {what}"));
    }
}

/// Resources and subresources: `pods`, `pods/status`, `*/scale`, `pods/*`, `*`, `*/*`.
fn rule_resources(resources: &[String], path: &str, errs: &mut FieldErrors) {
    if resources.is_empty() {
        errs.required(path, "");
    }
    // `a/*` and `*/b` cover what may then not be named again.
    let (mut whole, mut parts) = (HashSet::new(), HashSet::new());
    for (index, text) in resources.iter().enumerate() {
        let path = format!("{path}[{index}]");
        match text.split_once('/') {
            None if text.is_empty() => errs.required(path, ""),
            None => {}
            Some((resource, part)) => {
                if whole.contains(resource) {
                    errs.invalid(&path, text, format!("if '{resource}/*' is present, must not specify {text}"));
                }
                if parts.contains(part) {
                    errs.invalid(&path, text, format!("if '*/{part}' is present, must not specify {text}"));
                }
                if part == "*" {
                    whole.insert(resource);
                }
                if resource == "*" {
                    parts.insert(part);
                }
            }
        }
    }
    if resources.len() > 1 && resources.iter().any(|text| text == "*/*") {
        invalid_json(errs, path, &resources, "if '*/*' is present, must not specify other resources");
    }
    let subresources = resources.iter().any(|text| text.contains('/'));
    if !subresources && resources.len() > 1 && resources.iter().any(|text| text == "*") {
        let why = "if '*' is present, must not specify other resources without subresources";
        invalid_json(errs, path, &resources, why);
    }
}

/// Conditions in CEL. What they say is not looked at yet.
pub(super) fn conditions(conditions: &[MatchCondition], path: &str, errs: &mut FieldErrors) {
    if conditions.len() > CONDITIONS {
        errs.push(path, Problem::TooMany(conditions.len(), CONDITIONS));
    }
    let mut names = HashSet::new();
    for (index, condition) in conditions.iter().enumerate() {
        let path = format!("{path}[{index}]");
        expression(Some(&condition.expression), &format!("{path}.expression"), "", errs);
        if condition.name.is_empty() {
            errs.required(format!("{path}.name"), "");
        } else {
            let problems = label::key_problems(&condition.name);
            problems.into_iter().for_each(|why| errs.invalid(format!("{path}.name"), &condition.name, why));
            if !names.insert(&condition.name) {
                errs.duplicate(format!("{path}.name"), &condition.name);
            }
        }
    }
}

/// An expression that must be there.
pub(super) fn expression(text: Option<&str>, path: &str, why: &str, errs: &mut FieldErrors) {
    if text.is_none_or(|text| text.trim().is_empty()) {
        errs.required(path, why);
    }
}

/// One of a set of words.
pub(super) fn one_of(word: &str, known: &[&str], path: &str, errs: &mut FieldErrors) {
    if !known.contains(&word) {
        errs.not_supported(path, word, known);
    }
}

/// Where a webhook is reached.
pub(super) fn client(config: &WebhookClientConfig, path: &str, errs: &mut FieldErrors) {
    match (&config.url, &config.service) {
        (Some(url), None) => self::url(url, &format!("{path}.url"), errs),
        (None, Some(service)) => self::service(service, &format!("{path}.service"), errs),
        _ => errs.required(path, "exactly one of url or service is required"),
    }
}

fn url(url: &str, path: &str, errs: &mut FieldErrors) {
    const FORM: &str = "; desired format: https://host[:port]/path";
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    if scheme != "https" {
        errs.invalid(path, scheme, format!("'https' is the only allowed URL scheme{FORM}"));
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let (user, host) = authority.rsplit_once('@').map_or(("", authority), |(user, host)| (user, host));
    if host.is_empty() || scheme.is_empty() {
        errs.invalid(path, host, format!("host must be specified{FORM}"));
    }
    if !user.is_empty() {
        errs.invalid(path, user, "user information is not permitted in the URL");
    }
    let (tail, fragment) = tail.split_once('#').unwrap_or((tail, ""));
    if !fragment.is_empty() {
        errs.invalid(path, fragment, "fragments are not permitted in the URL");
    }
    if let Some((_, query)) = tail.split_once('?').filter(|(_, query)| !query.is_empty()) {
        errs.invalid(path, query, "query parameters are not permitted in the URL");
    }
}

fn service(service: &ServiceReference, path: &str, errs: &mut FieldErrors) {
    if service.name.is_empty() {
        errs.required(format!("{path}.name"), "service name is required");
    }
    if service.namespace.is_empty() {
        errs.required(format!("{path}.namespace"), "service namespace is required");
    }
    if let Some(target) = &service.path {
        let path = format!("{path}.path");
        if !target.starts_with('/') {
            errs.invalid(&path, target, "must start with a '/'");
        }
        let steps = target.trim_start_matches('/').trim_end_matches('/');
        for (index, step) in steps.split('/').enumerate().filter(|_| !steps.is_empty()) {
            if step.is_empty() {
                errs.invalid(&path, target, format!("segment[{index}] may not be empty"));
            }
            let problems = if step.is_empty() { Vec::new() } else { label::subdomain_problems(step) };
            problems.into_iter().for_each(|why| errs.invalid(&path, target, format!("segment[{index}]: {why}")));
        }
    }
    if let Some(port) = service.port.filter(|port| !(1..=65_535).contains(port)) {
        errs.invalid(format!("{path}.port"), port, format!("port is not valid: {}", net::PORT_RANGE));
    }
}
