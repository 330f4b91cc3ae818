//! What may be wrong with a pod's spec.
//!
//! Wording and order: pkg/apis/core/validation/validation.go of Kubernetes v1.36.

use std::collections::HashSet;

use corten_api::api::core::v1::{PodDNSConfig, PodResourceClaim, PodSpec};
use corten_api::field::FieldErrors;
use corten_api::label;

use super::{containers, resources, scheduling, security, volumes};
use crate::meta::label_problems;
use crate::net;
use crate::selectors::invalid_json;

/// The spec of a pod, or of its template.
pub(crate) fn pod_spec(spec: &PodSpec, path: &str, errs: &mut FieldErrors) {
    let at = |field: &str| format!("{path}.{field}");
    let volumes = volumes::validate(spec.volumes.as_deref().unwrap_or_default(), &at("volumes"), errs);
    let claims = claims(spec.resource_claims.as_deref().unwrap_or_default(), &at("resourceClaims"), errs);
    let pod = containers::Pod { spec, volumes: &volumes, claims: &claims };
    containers::validate(&pod, path, errs);
    resources::pod(spec, path, errs);
    words(spec, path, errs);
    names(spec, path, errs);
    crate::meta::labels(spec.node_selector.iter().flatten(), &at("nodeSelector"), errs);
    security::pod(spec, path, errs);
    scheduling::validate(spec, path, errs);
    dns(spec.dns_config.as_ref(), spec.dns_policy.as_deref(), &at("dnsConfig"), errs);
    gates(spec, path, errs);
    for (index, alias) in spec.host_aliases.iter().flatten().enumerate() {
        net::address(&alias.ip, &at(&format!("hostAliases[{index}].ip")), errs);
        for (place, host) in alias.hostnames.iter().flatten().enumerate() {
            let path = at(&format!("hostAliases[{index}].hostnames[{place}]"));
            label::subdomain_problems(host).into_iter().for_each(|why| errs.invalid(&path, host, why));
        }
    }
    if let Some(seconds) = spec.active_deadline_seconds.filter(|seconds| !(1..=i64::from(i32::MAX)).contains(seconds)) {
        errs.invalid(at("activeDeadlineSeconds"), seconds, "must be between 1 and 2147483647, inclusive");
    }
    resources::overhead(spec.overhead.as_ref(), &at("overhead"), errs);
    security::system(spec, path, errs);
}

/// What holds for new pods but not for templates.
pub(super) fn new_pod(spec: &PodSpec, errs: &mut FieldErrors) {
    if spec.ephemeral_containers.as_ref().is_some_and(|list| !list.is_empty()) {
        errs.forbidden("spec.ephemeralContainers", "cannot be set on create");
    }
    security::host_ports(spec, "spec", errs);
    let gated = spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty());
    if gated && spec.node_name.as_ref().is_some_and(|name| !name.is_empty()) {
        errs.forbidden("spec.nodeName", "cannot be set until all schedulingGates have been cleared");
    }
}

fn words(spec: &PodSpec, path: &str, errs: &mut FieldErrors) {
    let one_of = containers::one_of;
    one_of(spec.restart_policy.as_deref(), &["Always", "OnFailure", "Never"], &format!("{path}.restartPolicy"), errs);
    let dns = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    one_of(spec.dns_policy.as_deref(), &dns, &format!("{path}.dnsPolicy"), errs);
    if let Some(policy) = &spec.preemption_policy {
        let known = ["Never", "PreemptLowerPriority"];
        one_of(Some(policy), &known, &format!("{path}.preemptionPolicy"), errs);
    }
}

fn names(spec: &PodSpec, path: &str, errs: &mut FieldErrors) {
    for (field, value) in [
        ("serviceAccountName", &spec.service_account_name),
        ("nodeName", &spec.node_name),
        ("schedulerName", &spec.scheduler_name),
        ("priorityClassName", &spec.priority_class_name),
        ("runtimeClassName", &spec.runtime_class_name),
    ] {
        for why in value.iter().filter(|value| !value.is_empty()).flat_map(|value| label::subdomain_problems(value)) {
            errs.invalid(format!("{path}.{field}"), value.as_deref().unwrap_or_default(), why);
        }
    }
    for (field, value) in [("hostname", &spec.hostname), ("subdomain", &spec.subdomain)] {
        for why in value.iter().filter(|value| !value.is_empty()).flat_map(|value| label_problems(value)) {
            errs.invalid(format!("{path}.{field}"), value.as_deref().unwrap_or_default(), why);
        }
    }
    if let Some(name) = &spec.hostname_override {
        let path = format!("{path}.hostnameOverride");
        if name.len() > 64 {
            errs.invalid(&path, name, "must be no more than 64 bytes");
        }
        label::subdomain_problems(name).into_iter().for_each(|why| errs.invalid(&path, name, why));
        if spec.set_hostname_as_fqdn == Some(true) {
            errs.forbidden(&path, "cannot be specified when `setHostnameAsFQDN` is true");
        }
        if spec.host_network == Some(true) {
            errs.forbidden(path, "cannot be specified when `hostNetwork` is true");
        }
    }
}

fn claims<'a>(claims: &'a [PodResourceClaim], path: &str, errs: &mut FieldErrors) -> HashSet<&'a str> {
    let mut names = HashSet::new();
    for (index, claim) in claims.iter().enumerate() {
        let path = format!("{path}[{index}]");
        if claim.name.is_empty() {
            errs.required(format!("{path}.name"), "");
        } else if !names.insert(claim.name.as_str()) {
            errs.duplicate(format!("{path}.name"), &claim.name);
        } else {
            label_problems(&claim.name)
                .into_iter()
                .for_each(|why| errs.invalid(format!("{path}.name"), &claim.name, why));
        }
        match (&claim.resource_claim_name, &claim.resource_claim_template_name) {
            (Some(_), Some(_)) => {
                let why = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified";
                invalid_json(errs, &path, claim, why);
            }
            (None, None) => {
                let why = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
                invalid_json(errs, &path, claim, why);
            }
            _ => {}
        }
        for (field, name) in [
            ("resourceClaimName", &claim.resource_claim_name),
            ("resourceClaimTemplateName", &claim.resource_claim_template_name),
        ] {
            let problems = name.as_ref().map_or_else(Vec::new, |name| label::subdomain_problems(name));
            problems
                .into_iter()
                .for_each(|why| errs.invalid(format!("{path}.{field}"), name.clone().unwrap_or_default(), why));
        }
    }
    names
}

fn gates(spec: &PodSpec, path: &str, errs: &mut FieldErrors) {
    for (index, gate) in spec.readiness_gates.iter().flatten().enumerate() {
        let path = format!("{path}.readinessGates[{index}].conditionType");
        let problems = label::key_problems(&gate.condition_type);
        problems.into_iter().for_each(|why| errs.invalid(&path, &gate.condition_type, why));
    }
    let mut names = HashSet::new();
    for (index, gate) in spec.scheduling_gates.iter().flatten().enumerate() {
        let path = format!("{path}.schedulingGates[{index}]");
        label::key_problems(&gate.name).into_iter().for_each(|why| errs.invalid(&path, &gate.name, why));
        if !names.insert(&gate.name) {
            errs.duplicate(path, &gate.name);
        }
    }
}

fn dns(config: Option<&PodDNSConfig>, policy: Option<&str>, path: &str, errs: &mut FieldErrors) {
    const SERVERS: usize = 3;
    const SEARCHES: usize = 32;
    const LETTERS: usize = 2048;
    let none = policy == Some("None");
    let Some(config) = config else {
        if none {
            errs.required(path, "must provide `dnsConfig` when `dnsPolicy` is None");
        }
        return;
    };
    let servers = config.nameservers.as_deref().unwrap_or_default();
    if none && servers.is_empty() {
        errs.required(
            format!("{path}.nameservers"),
            "must provide at least one DNS nameserver when `dnsPolicy` is None",
        );
    }
    if servers.len() > SERVERS {
        let why = format!("must not have more than {SERVERS} nameservers");
        invalid_json(errs, format!("{path}.nameservers"), &servers, &why);
    }
    for (index, server) in servers.iter().enumerate() {
        net::address(server, &format!("{path}.nameservers[{index}]"), errs);
    }
    let searches = config.searches.as_deref().unwrap_or_default();
    if searches.len() > SEARCHES {
        let why = format!("must not have more than {SEARCHES} search paths");
        invalid_json(errs, format!("{path}.searches"), &searches, &why);
    }
    if searches.join(" ").len() > LETTERS {
        let why = format!("must not have more than {LETTERS} characters (including spaces) in the search list");
        invalid_json(errs, format!("{path}.searches"), &searches, &why);
    }
    for (index, search) in searches.iter().enumerate().filter(|(_, search)| *search != ".") {
        // Underscores are in use, and a dot at the end says that the name is whole.
        let plain = search.strip_suffix('.').unwrap_or(search).replace('_', "-");
        let plain = plain.trim_start_matches('-');
        let path = format!("{path}.searches[{index}]");
        label::subdomain_problems(plain).into_iter().for_each(|why| errs.invalid(&path, search, why));
    }
    for (index, option) in config.options.iter().flatten().enumerate() {
        if option.name.as_deref().is_none_or(str::is_empty) {
            errs.required(format!("{path}.options[{index}]"), "must not be empty");
        }
    }
}
