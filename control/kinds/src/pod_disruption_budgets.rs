//! PodDisruptionBudgets: how many pods may be evicted at a time. The eviction of pods in control/apiserver honours them.

use corten_api::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use corten_api::field::FieldErrors;
use corten_api::names::Names;
use corten_api::status::Status;
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::kind::Kind;
use crate::table::{NAME, age, column, number};
use crate::{ColumnHead, Subresource, WriteContext, conditions, counts, selectors};

pub(crate) struct PodDisruptionBudgets;

impl Kind for PodDisruptionBudgets {
    type Object = PodDisruptionBudget;

    const NAMES: Names = Names {
        group: "policy",
        version: "v1",
        kind: "PodDisruptionBudget",
        plural: "poddisruptionbudgets",
        singular: "poddisruptionbudget",
        short: &["pdb"],
        categories: &[],
    };
    const UNCONDITIONAL_UPDATE: bool = false;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const COLUMNS: &'static [ColumnHead] =
        &[NAME, column("Min Available"), column("Max Unavailable"), number("Allowed Disruptions"), column("Age")];
    const GENERATION: bool = true;

    fn cells(budget: &PodDisruptionBudget, now: Timestamp) -> Vec<Value> {
        let spec = budget.spec.clone().unwrap_or_default();
        let allowed = budget.status.as_ref().and_then(|status| status.disruptions_allowed).unwrap_or(0);
        let amount = |value: Option<_>| value.as_ref().map_or_else(|| "N/A".to_owned(), counts::text);
        vec![
            json!(budget.metadata.name),
            amount(spec.min_available).into(),
            amount(spec.max_unavailable).into(),
            json!(allowed),
            age(budget.metadata.creation_timestamp.as_ref(), now).into(),
        ]
    }

    fn default(budget: &mut PodDisruptionBudget) {
        budget.spec.get_or_insert_default();
    }

    fn prepare(
        new: &mut PodDisruptionBudget,
        old: Option<&PodDisruptionBudget>,
        _cx: &WriteContext<'_>,
    ) -> Result<(), Status> {
        if old.is_none() {
            new.status = Some(PodDisruptionBudgetStatus {
                current_healthy: Some(0),
                desired_healthy: Some(0),
                disruptions_allowed: Some(0),
                expected_pods: Some(0),
                ..PodDisruptionBudgetStatus::default()
            });
        }
        Ok(())
    }

    fn validate(new: &PodDisruptionBudget, _old: Option<&PodDisruptionBudget>, errs: &mut FieldErrors) {
        let Some(spec) = &new.spec else { return };
        if spec.min_available.is_some() && spec.max_unavailable.is_some() {
            counts::invalid("spec", spec, "minAvailable and maxUnavailable cannot be both set", errs);
        }
        for (field, value) in [("minAvailable", &spec.min_available), ("maxUnavailable", &spec.max_unavailable)] {
            if let Some(value) = value {
                counts::amount(value, &format!("spec.{field}"), errs);
                counts::at_most_all(value, &format!("spec.{field}"), errs);
            }
        }
        if let Some(selector) = &spec.selector {
            selectors::labels(selector, "spec.selector", errs);
        }
        let policies = ["AlwaysAllow", "IfHealthyBudget"];
        if let Some(policy) = &spec.unhealthy_pod_eviction_policy
            && !policies.contains(&policy.as_str())
        {
            errs.not_supported("spec.unhealthyPodEvictionPolicy", policy, &policies);
        }
    }

    fn validate_status(new: &PodDisruptionBudget, _old: &PodDisruptionBudget, errs: &mut FieldErrors) {
        let status = new.status.clone().unwrap_or_default();
        conditions::validate(status.conditions.as_deref().unwrap_or_default(), "status.conditions", errs);
        let whole = |count: Option<i32>| count.map(i64::from);
        let numbers = [
            ("disruptionsAllowed", whole(status.disruptions_allowed)),
            ("currentHealthy", whole(status.current_healthy)),
            ("desiredHealthy", whole(status.desired_healthy)),
            ("expectedPods", whole(status.expected_pods)),
        ];
        counts::none_negative("status", &numbers, errs);
    }
}
