//! Where a pod may run.
//!
//! Wording: pkg/apis/core/validation of Kubernetes v1.36.

use corten_api::api::core::v1::{
    Affinity, PodAffinityTerm, PodSpec, Toleration, TopologySpreadConstraint, WeightedPodAffinityTerm,
};
use corten_api::field::FieldErrors;
use corten_api::label;

use crate::meta::label_problems;
use crate::selectors;

const POSITIVE: &str = "must be greater than zero";
const NO_SELECTOR: &str = "must not be specified when labelSelector is not set";

pub(super) fn validate(spec: &PodSpec, path: &str, errs: &mut FieldErrors) {
    if let Some(affinity) = &spec.affinity {
        self::affinity(affinity, &format!("{path}.affinity"), errs);
    }
    let constraints = spec.topology_spread_constraints.as_deref().unwrap_or_default();
    spread(constraints, &format!("{path}.topologySpreadConstraints"), errs);
    for (index, toleration) in spec.tolerations.iter().flatten().enumerate() {
        self::toleration(toleration, &format!("{path}.tolerations[{index}]"), errs);
    }
}

fn affinity(affinity: &Affinity, path: &str, errs: &mut FieldErrors) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
    if let Some(nodes) = &affinity.node_affinity {
        if let Some(selector) = &nodes.required_during_scheduling_ignored_during_execution {
            selectors::nodes(selector, &format!("{path}.nodeAffinity.{REQUIRED}"), errs);
        }
        let preferred = nodes.preferred_during_scheduling_ignored_during_execution.iter().flatten();
        for (index, term) in preferred.enumerate() {
            let path = format!("{path}.nodeAffinity.{PREFERRED}[{index}]");
            weight(term.weight, &path, errs);
            selectors::node_term(&term.preference, &format!("{path}.preference"), errs);
        }
    }
    let mut pods =
        |field: &str, required: Option<&Vec<PodAffinityTerm>>, preferred: Option<&Vec<WeightedPodAffinityTerm>>| {
            for (index, term) in required.into_iter().flatten().enumerate() {
                pod_term(term, &format!("{path}.{field}.{REQUIRED}[{index}]"), errs);
            }
            for (index, term) in preferred.into_iter().flatten().enumerate() {
                let path = format!("{path}.{field}.{PREFERRED}[{index}]");
                weight(term.weight, &path, errs);
                pod_term(&term.pod_affinity_term, &format!("{path}.podAffinityTerm"), errs);
            }
        };
    if let Some(near) = &affinity.pod_affinity {
        let required = near.required_during_scheduling_ignored_during_execution.as_ref();
        pods("podAffinity", required, near.preferred_during_scheduling_ignored_during_execution.as_ref());
    }
    if let Some(far) = &affinity.pod_anti_affinity {
        let required = far.required_during_scheduling_ignored_during_execution.as_ref();
        pods("podAntiAffinity", required, far.preferred_during_scheduling_ignored_during_execution.as_ref());
    }
}

fn weight(weight: i32, path: &str, errs: &mut FieldErrors) {
    if !(1..=100).contains(&weight) {
        errs.invalid(format!("{path}.weight"), weight, "must be in the range 1-100");
    }
}

fn topology_key(key: &str, path: &str, errs: &mut FieldErrors) {
    let path = format!("{path}.topologyKey");
    if key.is_empty() {
        return errs.required(path, "can not be empty");
    }
    label::key_problems(key).into_iter().for_each(|why| errs.invalid(&path, key, why));
}

fn pod_term(term: &PodAffinityTerm, path: &str, errs: &mut FieldErrors) {
    selectors::optional(term.label_selector.as_ref(), &format!("{path}.labelSelector"), errs);
    selectors::optional(term.namespace_selector.as_ref(), &format!("{path}.namespaceSelector"), errs);
    for name in term.namespaces.iter().flatten() {
        label_problems(name).into_iter().for_each(|why| errs.invalid(format!("{path}.namespace"), name, why));
    }
    let same = term.match_label_keys.as_deref().unwrap_or_default();
    let other = term.mismatch_label_keys.as_deref().unwrap_or_default();
    for (field, keys) in [("matchLabelKeys", same), ("mismatchLabelKeys", other)] {
        let path = format!("{path}.{field}");
        if !keys.is_empty() && term.label_selector.is_none() {
            errs.forbidden(&path, NO_SELECTOR);
        }
        for (index, key) in keys.iter().enumerate() {
            label::key_problems(key).into_iter().for_each(|why| errs.invalid(format!("{path}[{index}]"), key, why));
        }
    }
    for (index, key) in same.iter().enumerate().filter(|(_, key)| other.contains(key)) {
        let why = "exists in both matchLabelKeys and mismatchLabelKeys";
        errs.invalid(format!("{path}.matchLabelKeys[{index}]"), key, why);
    }
    topology_key(&term.topology_key, path, errs);
}

fn spread(constraints: &[TopologySpreadConstraint], path: &str, errs: &mut FieldErrors) {
    for (index, constraint) in constraints.iter().enumerate() {
        let path = format!("{path}[{index}]");
        if constraint.max_skew <= 0 {
            errs.invalid(format!("{path}.maxSkew"), constraint.max_skew, POSITIVE);
        }
        topology_key(&constraint.topology_key, &path, errs);
        let unsatisfiable = constraint.when_unsatisfiable.as_str();
        let known = ["DoNotSchedule", "ScheduleAnyway"];
        if !known.contains(&unsatisfiable) {
            errs.not_supported(format!("{path}.whenUnsatisfiable"), unsatisfiable, &known);
        }
        let same = |other: &TopologySpreadConstraint| {
            other.topology_key == constraint.topology_key && other.when_unsatisfiable == unsatisfiable
        };
        if constraints[..index].iter().any(same) {
            let value = format!("{{{}, {unsatisfiable}}}", constraint.topology_key);
            errs.duplicate(format!("{path}.{{topologyKey, whenUnsatisfiable}}"), value);
        }
        if let Some(count) = constraint.min_domains {
            if count <= 0 {
                errs.invalid(format!("{path}.minDomains"), count, POSITIVE);
            }
            if unsatisfiable != "DoNotSchedule" {
                let why = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {unsatisfiable}");
                errs.invalid(format!("{path}.minDomains"), count, why);
            }
        }
        for (field, policy) in [
            ("nodeAffinityPolicy", &constraint.node_affinity_policy),
            ("nodeTaintsPolicy", &constraint.node_taints_policy),
        ] {
            if let Some(policy) = policy.as_deref().filter(|policy| !["Honor", "Ignore"].contains(policy)) {
                errs.not_supported(format!("{path}.{field}"), policy, &["Honor", "Ignore"]);
            }
        }
        selectors::optional(constraint.label_selector.as_ref(), &format!("{path}.labelSelector"), errs);
        let keys = constraint.match_label_keys.as_deref().unwrap_or_default();
        let path = format!("{path}.matchLabelKeys");
        let Some(selector) = &constraint.label_selector else {
            if !keys.is_empty() {
                errs.forbidden(path, NO_SELECTOR);
            }
            continue;
        };
        for (index, key) in keys.iter().enumerate() {
            let path = format!("{path}[{index}]");
            label::key_problems(key).into_iter().for_each(|why| errs.invalid(&path, key, why));
            let labelled = selector.match_labels.iter().flatten().any(|(label, _)| label == key);
            if labelled || selector.match_expressions.iter().flatten().any(|expression| expression.key == *key) {
                errs.invalid(path, key, "exists in both matchLabelKeys and labelSelector");
            }
        }
    }
}

pub(crate) fn toleration(toleration: &Toleration, path: &str, errs: &mut FieldErrors) {
    let key = toleration.key.as_deref().unwrap_or_default();
    let operator = toleration.operator.as_deref().unwrap_or_default();
    let value = toleration.value.as_deref().unwrap_or_default();
    for why in Some(key).filter(|key| !key.is_empty()).map_or_else(Vec::new, label::key_problems) {
        errs.invalid(format!("{path}.key"), key, why);
    }
    let path_of_operator = format!("{path}.operator");
    if key.is_empty() && operator != "Exists" {
        let why = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
        errs.invalid(&path_of_operator, operator, why);
    }
    let effect = toleration.effect.as_deref().unwrap_or_default();
    if toleration.toleration_seconds.is_some() && effect != "NoExecute" {
        errs.invalid(format!("{path}.effect"), effect, "effect must be 'NoExecute' when `tolerationSeconds` is set");
    }
    match operator {
        "Equal" | "" => {
            let problems = label::value_problems(value);
            problems.into_iter().for_each(|why| errs.invalid(&path_of_operator, value, why));
        }
        "Exists" if !value.is_empty() => {
            errs.invalid(path_of_operator, value, "value must be empty when `operator` is 'Exists'");
        }
        "Exists" => {}
        other => errs.not_supported(path_of_operator, other, &["Equal", "Exists"]),
    }
    let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
    if !effect.is_empty() && !effects.contains(&effect) {
        errs.not_supported(format!("{path}.effect"), effect, &effects);
    }
}
