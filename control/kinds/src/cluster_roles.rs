//! ClusterRoles: what may be done in all namespaces, or in those in which a RoleBinding gives it.

use corten_api::api::rbac::v1::ClusterRole;
use corten_api::field::FieldErrors;
use corten_api::names::{Names, Scope};
use corten_api::selector::Labels;
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::ColumnHead;
use crate::kind::Kind;
use crate::meta::{NameRule, segment_problems};
use crate::rbac::{GROUP, validate_rules};
use crate::table::{NAME, column, moment};

pub(crate) struct ClusterRoles;

impl Kind for ClusterRoles {
    type Object = ClusterRole;

    const NAMES: Names = Names {
        group: GROUP,
        version: "v1",
        kind: "ClusterRole",
        plural: "clusterroles",
        singular: "clusterrole",
        short: &[],
        categories: &[],
    };
    const SCOPE: Scope = Scope::Cluster;
    const COLUMNS: &'static [ColumnHead] = &[NAME, column("Created At")];
    const NAME_RULE: NameRule = NameRule::By(segment_problems);
    const CREATE_ON_UPDATE: bool = true;

    fn cells(role: &ClusterRole, _now: Timestamp) -> Vec<Value> {
        vec![json!(role.metadata.name), moment(role.metadata.creation_timestamp.as_ref()).into()]
    }

    fn validate(role: &ClusterRole, _old: Option<&ClusterRole>, errs: &mut FieldErrors) {
        validate_rules(role.rules.as_deref(), false, errs);
        let Some(aggregation) = &role.aggregation_rule else { return };
        let selectors = aggregation.cluster_role_selectors.as_deref().unwrap_or_default();
        let path = "aggregationRule.clusterRoleSelectors";
        if selectors.is_empty() {
            errs.required(path, "at least one clusterRoleSelector required if aggregationRule is non-nil");
        }
        for (index, selector) in selectors.iter().enumerate() {
            if let Err(error) = Labels::from_selector(selector) {
                let shown = serde_json::to_string(selector).unwrap_or_default();
                let problem = corten_api::field::Problem::Invalid(shown, error.0);
                errs.push(format!("{path}[{index}]"), problem);
            }
        }
    }
}
