//! RoleBindings: who has a role in one namespace.

use corten_api::api::rbac::v1::RoleBinding;
use corten_api::field::FieldErrors;
use corten_api::names::Names;
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::ColumnHead;
use crate::kind::Kind;
use crate::meta::{NameRule, segment_problems};
use crate::rbac::{GROUP, References, default_references};
use crate::table::{NAME, age, column, wide};

pub(crate) struct RoleBindings;

impl Kind for RoleBindings {
    type Object = RoleBinding;

    const NAMES: Names = Names {
        group: GROUP,
        version: "v1",
        kind: "RoleBinding",
        plural: "rolebindings",
        singular: "rolebinding",
        short: &[],
        categories: &[],
    };
    const COLUMNS: &'static [ColumnHead] =
        &[NAME, column("Role"), column("Age"), wide("Users"), wide("Groups"), wide("ServiceAccounts")];
    const NAME_RULE: NameRule = NameRule::By(segment_problems);
    const CREATE_ON_UPDATE: bool = true;

    fn cells(binding: &RoleBinding, now: Timestamp) -> Vec<Value> {
        let [role, users, groups, accounts] = references(binding).cells();
        let age = age(binding.metadata.creation_timestamp.as_ref(), now);
        vec![json!(binding.metadata.name), role, age.into(), users, groups, accounts]
    }

    fn default(binding: &mut RoleBinding) {
        default_references(&mut binding.role_ref, binding.subjects.as_mut());
    }

    fn validate(binding: &RoleBinding, old: Option<&RoleBinding>, errs: &mut FieldErrors) {
        let old = old.map(|old| &old.role_ref);
        references(binding).validate(old, &["Role", "ClusterRole"], true, errs);
    }
}

fn references(binding: &RoleBinding) -> References<'_> {
    References { role: &binding.role_ref, subjects: binding.subjects.as_deref() }
}
