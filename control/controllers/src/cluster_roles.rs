//! Keeps the rules of aggregating ClusterRoles the sum of those that they select.
//!
//! Spec: <https://kubernetes.io/docs/reference/access-authn-authz/rbac/#aggregated-clusterroles>

use std::sync::Arc;

use corten_api::api::rbac::v1::{ClusterRole, PolicyRule};
use corten_api::selector::Labels;
use corten_client::{Informer, Key, Next};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::context::{Context, Error, or_gone};

pub(crate) async fn run(cx: Context) {
    let roles = cx.informers.of::<ClusterRole>();
    let queue = cx.queue.clone();
    // Any role may be part of any other: they are looked at together.
    roles.on_change(move |_, _| queue.add(Key::new("", "all")));
    roles.synced().await;
    cx.work(1, move |cx, _| sync(cx, roles.clone())).await;
}

async fn sync(cx: Context, roles: Informer<ClusterRole>) -> Result<Next, Error> {
    let api: Api<ClusterRole> = Api::all(cx.client.clone());
    let seen = roles.list();
    for (name, rules) in plan(&seen) {
        // Of the role that was looked at and no newer one, which may aggregate no more.
        let version = seen.iter().find(|role| role.name_any() == name).and_then(|role| role.resource_version());
        let patch = Patch::Merge(json!({"metadata": {"resourceVersion": version}, "rules": rules}));
        or_gone(api.patch(&name, &PatchParams::default(), &patch).await)?;
    }
    Ok(Next::Wait)
}

/// Names of the roles whose rules are not the sum of those they select, and that sum.
fn plan(roles: &[Arc<ClusterRole>]) -> Vec<(String, Vec<PolicyRule>)> {
    let mut roles: Vec<&ClusterRole> = roles.iter().map(AsRef::as_ref).collect();
    roles.sort_by_key(|role| role.name_any());
    let changed = roles.iter().filter(|role| role.metadata.deletion_timestamp.is_none()).filter_map(|role| {
        let sum = sum(role, &roles)?;
        (role.rules.as_deref().unwrap_or_default() != sum).then(|| (role.name_any(), sum))
    });
    changed.collect()
}

/// The rules of the roles that this one selects, each once; `None` if it selects none at all.
fn sum(role: &ClusterRole, roles: &[&ClusterRole]) -> Option<Vec<PolicyRule>> {
    let aggregation = role.aggregation_rule.as_ref()?;
    let mut sum: Vec<PolicyRule> = Vec::new();
    for selector in aggregation.cluster_role_selectors.iter().flatten() {
        // One that cannot be read selects nothing; validation keeps such out.
        let selector = Labels::from_selector(selector).unwrap_or_else(|_| Labels::nothing());
        let selected = roles.iter().filter(|other| {
            let label =
                |key: &str| other.metadata.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str);
            other.metadata.name != role.metadata.name && selector.matches_by(label)
        });
        for rule in selected.flat_map(|other| other.rules.iter().flatten()) {
            if !sum.contains(rule) {
                sum.push(rule.clone());
            }
        }
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(name: &str, label: &str, verbs: &[&str], selects: &[&str]) -> Arc<ClusterRole> {
        let rules: Vec<_> =
            verbs.iter().map(|verb| json!({"verbs": [verb], "apiGroups": [""], "resources": ["pods"]})).collect();
        let mut role = json!({"metadata": {"name": name, "labels": {label: "true"}}, "rules": rules});
        if !selects.is_empty() {
            let selectors: Vec<_> = selects.iter().map(|label| json!({"matchLabels": {*label: "true"}})).collect();
            role["aggregationRule"] = json!({"clusterRoleSelectors": selectors});
        }
        Arc::new(serde_json::from_value(role).expect("a role"))
    }

    fn show(roles: &[Arc<ClusterRole>]) -> String {
        let line = |(name, rules): &(String, Vec<PolicyRule>)| {
            let verbs: Vec<&str> = rules.iter().flat_map(|rule| &rule.verbs).map(String::as_str).collect();
            format!("{name}: {}", verbs.join(" "))
        };
        plan(roles).iter().map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn rules_are_the_sum_of_those_selected() {
        let mut roles = vec![
            role("z", "a", &["get", "list"], &[]),
            role("b", "a", &["list", "watch"], &[]),
            role("other", "c", &["delete"], &[]),
            role("sum", "x", &["delete"], &["a"]),
            role("all", "y", &[], &["c", "a", "y"]),
        ];
        assert_eq!(show(&roles), "all: delete list watch get\nsum: list watch get");
        roles[3] = role("sum", "x", &["list", "watch", "get"], &["a"]);
        roles[4] = role("all", "y", &["delete", "list", "watch", "get"], &["c", "a", "y"]);
        assert_eq!(show(&roles), "", "replanning after success is empty");
        roles.retain(|role| role.name_any() == "sum");
        assert_eq!(show(&roles), "sum: ", "nothing is selected any more");
    }
}
