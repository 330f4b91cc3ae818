//! What a job's policies make of the ends of its pods.

use corten_api::api::batch::v1::{
    PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyOnPodConditionsPattern, SuccessPolicy,
};
use corten_api::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt;

use super::indexes::Indexes;

/// What is to become of a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It counts as any.
    Count,
    /// It does not count.
    Ignore,
    /// The pod's index has failed.
    FailIndex,
    /// The job has failed, for this reason.
    FailJob(String),
}

/// Applies the first rule that fits.
pub(super) fn judge(policy: Option<&PodFailurePolicy>, pod: &Pod) -> Verdict {
    for (index, rule) in policy.into_iter().flat_map(|policy| &policy.rules).enumerate() {
        let action = rule.action.as_str();
        let name = format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
        let found = match (&rule.on_exit_codes, &rule.on_pod_conditions) {
            (Some(codes), _) => matching_container(pod, codes).map(|(container, code)| {
                format!(
                    "Container {container} for pod {name} failed with exit code {code} matching {action} rule at index {index}"
                )
            }),
            (None, Some(patterns)) => matching_condition(pod, patterns)
                .map(|condition| format!("Pod {name} has condition {condition} matching {action} rule at index {index}")),
            (None, None) => None,
        };
        match (found, action) {
            (None, _) => {}
            (Some(_), "Ignore") => return Verdict::Ignore,
            (Some(_), "FailIndex") => return Verdict::FailIndex,
            (Some(why), "FailJob") => return Verdict::FailJob(why),
            (Some(_), _) => return Verdict::Count,
        }
    }
    Verdict::Count
}

fn matching_container<'a>(pod: &'a Pod, codes: &PodFailurePolicyOnExitCodesRequirement) -> Option<(&'a str, i32)> {
    let status = pod.status.as_ref()?;
    let all = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    let of_name = |own: &&ContainerStatus| codes.container_name.as_ref().is_none_or(|name| *name == own.name);
    all.filter(of_name).find_map(|own| {
        let code = own.state.as_ref()?.terminated.as_ref()?.exit_code;
        let listed = codes.values.contains(&code);
        let fits = if codes.operator == "In" { listed } else { !listed };
        (code != 0 && fits).then_some((own.name.as_str(), code))
    })
}

fn matching_condition<'a>(pod: &'a Pod, patterns: &[PodFailurePolicyOnPodConditionsPattern]) -> Option<&'a str> {
    let conditions = pod.status.as_ref()?.conditions.as_deref()?;
    let fits = |kind: &str, status: &str| {
        patterns.iter().any(|pattern| pattern.type_ == kind && pattern.status.as_deref().unwrap_or("True") == status)
    };
    conditions.iter().find(|own| fits(&own.type_, &own.status)).map(|own| own.type_.as_str())
}

/// The first rule by which these successes are enough, as it is told.
pub(super) fn suffices(policy: &SuccessPolicy, done: &Indexes, completions: i32) -> Option<String> {
    let met = policy.rules.iter().position(|rule| match (&rule.succeeded_indexes, rule.succeeded_count) {
        (Some(text), count) => {
            let asked = Indexes::parse(text, completions);
            asked.common(done) >= count.unwrap_or(asked.total())
        }
        (None, Some(count)) => done.total() >= count,
        (None, None) => false,
    });
    met.filter(|_| done.total() > 0).map(|index| format!("Matched rules at index {index}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(code: i32, condition: Option<&str>) -> Pod {
        let conditions: Vec<Value> = condition.iter().map(|kind| json!({"type": kind, "status": "True"})).collect();
        let object = json!({"metadata": {"name": "p", "namespace": "a"}, "status": {
            "phase": "Failed", "conditions": conditions,
            "containerStatuses": [{"name": "main", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": code}}}],
        }});
        serde_json::from_value(object).expect("a pod")
    }

    fn judged(rules: Value, pod: &Pod) -> Verdict {
        let policy = serde_json::from_value(json!({"rules": rules})).expect("a policy");
        judge(Some(&policy), pod)
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let codes = |action: &str, operator: &str, values: &[i32]| json!({"action": action, "onExitCodes": {"operator": operator, "values": values}});
        let rules = json!([
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            codes("FailIndex", "In", &[3]),
            {"action": "FailJob", "onExitCodes": {"containerName": "other", "operator": "In", "values": [4]}},
            codes("Count", "In", &[5]),
            codes("FailJob", "NotIn", &[6, 7]),
        ]);
        assert_eq!(judged(rules.clone(), &pod(3, Some("DisruptionTarget"))), Verdict::Ignore);
        assert_eq!(judged(rules.clone(), &pod(3, Some("Other"))), Verdict::FailIndex);
        assert_eq!(judged(rules.clone(), &pod(5, None)), Verdict::Count);
        assert_eq!(judged(rules.clone(), &pod(6, None)), Verdict::Count);
        let why = "Container main for pod a/p failed with exit code 4 matching FailJob rule at index 4";
        assert_eq!(judged(rules.clone(), &pod(4, None)), Verdict::FailJob(why.to_owned()));
        assert_eq!(judged(rules, &pod(0, None)), Verdict::Count, "0 is no failure");
        let rules = json!([{"action": "FailJob", "onPodConditions": [{"type": "ConfigIssue", "status": "True"}]}]);
        let why = "Pod a/p has condition ConfigIssue matching FailJob rule at index 0";
        assert_eq!(judged(rules, &pod(1, Some("ConfigIssue"))), Verdict::FailJob(why.to_owned()));
    }

    #[test]
    fn successes_suffice_by_index_by_count_or_by_both() {
        let met = |rules: Value, done: &str| {
            let policy = serde_json::from_value(json!({"rules": rules})).expect("a policy");
            suffices(&policy, &Indexes::parse(done, 10), 10)
        };
        let first = Some("Matched rules at index 0".to_owned());
        assert_eq!(met(json!([{"succeededIndexes": "0,2-3"}]), "0-2"), None);
        assert_eq!(met(json!([{"succeededIndexes": "0,2-3"}]), "0-3"), first);
        assert_eq!(met(json!([{"succeededIndexes": "0,2-3", "succeededCount": 2}]), "1-2,3"), first);
        assert_eq!(met(json!([{"succeededCount": 2}]), "5"), None);
        let second = Some("Matched rules at index 1".to_owned());
        assert_eq!(met(json!([{"succeededIndexes": "9"}, {"succeededCount": 2}]), "5,7"), second);
        assert_eq!(met(json!([{"succeededCount": 0}]), ""), None);
    }
}
