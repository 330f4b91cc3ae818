//! Roles: what may be done in one namespace.

use corten_api::api::rbac::v1::Role;
use corten_api::field::FieldErrors;
use corten_api::names::Names;
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::ColumnHead;
use crate::kind::Kind;
use crate::meta::{NameRule, segment_problems};
use crate::rbac::{GROUP, validate_rules};
use crate::table::{NAME, column, moment};

pub(crate) struct Roles;

impl Kind for Roles {
    type Object = Role;

    const NAMES: Names = Names {
        group: GROUP,
        version: "v1",
        kind: "Role",
        plural: "roles",
        singular: "role",
        short: &[],
        categories: &[],
    };
    const COLUMNS: &'static [ColumnHead] = &[NAME, column("Created At")];
    const NAME_RULE: NameRule = NameRule::By(segment_problems);
    const CREATE_ON_UPDATE: bool = true;

    fn cells(role: &Role, _now: Timestamp) -> Vec<Value> {
        vec![json!(role.metadata.name), moment(role.metadata.creation_timestamp.as_ref()).into()]
    }

    fn validate(role: &Role, _old: Option<&Role>, errs: &mut FieldErrors) {
        validate_rules(role.rules.as_deref(), true, errs);
    }
}
