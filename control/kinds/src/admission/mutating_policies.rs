//! MutatingAdmissionPolicies: changes that are made to objects on their way in.

use corten_api::api::admissionregistration::v1::{MutatingAdmissionPolicy, MutatingAdmissionPolicySpec, Mutation};
use corten_api::field::FieldErrors;
use corten_api::names::{Names, Scope};
use corten_base::Timestamp;
use serde_json::{Value, json};

use super::policies::{self, param_cell};
use super::rules::{self, one_of};
use crate::ColumnHead;
use crate::kind::Kind;
use crate::table::{NAME, age, column, number};

pub(crate) struct MutatingPolicies;

impl Kind for MutatingPolicies {
    type Object = MutatingAdmissionPolicy;

    const NAMES: Names =
        policies::names("MutatingAdmissionPolicy", "mutatingadmissionpolicies", "mutatingadmissionpolicy");
    const UNCONDITIONAL_UPDATE: bool = false;
    const SCOPE: Scope = Scope::Cluster;
    const COLUMNS: &'static [ColumnHead] = &[NAME, number("Mutations"), column("ParamKind"), column("Age")];
    const GENERATION: bool = true;

    fn cells(policy: &MutatingAdmissionPolicy, now: Timestamp) -> Vec<Value> {
        let spec = policy.spec.clone().unwrap_or_default();
        vec![
            json!(policy.metadata.name),
            json!(spec.mutations.map_or(0, |mutations| mutations.len())),
            param_cell(spec.param_kind.as_ref()).into(),
            age(policy.metadata.creation_timestamp.as_ref(), now).into(),
        ]
    }

    fn default(policy: &mut MutatingAdmissionPolicy) {
        let Some(spec) = &mut policy.spec else { return };
        spec.failure_policy.get_or_insert_with(|| "Fail".to_owned());
        spec.match_constraints.iter_mut().for_each(rules::default_resources);
    }

    fn validate(policy: &MutatingAdmissionPolicy, _old: Option<&MutatingAdmissionPolicy>, errs: &mut FieldErrors) {
        let empty = MutatingAdmissionPolicySpec::default();
        let spec = policy.spec.as_ref().unwrap_or(&empty);
        match &spec.failure_policy {
            None => errs.required("spec.failurePolicy", ""),
            Some(given) => one_of(given, &["Fail", "Ignore"], "spec.failurePolicy", errs),
        }
        policies::param_kind(spec.param_kind.as_ref(), errs);
        policies::constraints(spec.match_constraints.as_ref(), errs);
        rules::conditions(spec.match_conditions.as_deref().unwrap_or_default(), "spec.matchConditions", errs);
        policies::variables(spec.variables.as_deref().unwrap_or_default(), errs);
        let mutations = spec.mutations.as_deref().unwrap_or_default();
        if mutations.is_empty() {
            errs.required("spec.mutations", "mutations must contain at least one item");
        }
        for (index, mutation) in mutations.iter().enumerate() {
            self::mutation(mutation, &format!("spec.mutations[{index}]"), errs);
        }
        match spec.reinvocation_policy.as_deref() {
            None | Some("") => errs.required("spec.reinvocationPolicy", ""),
            Some(given) => one_of(given, &["IfNeeded", "Never"], "spec.reinvocationPolicy", errs),
        }
    }
}

fn mutation(mutation: &Mutation, path: &str, errs: &mut FieldErrors) {
    let patch = mutation.json_patch.as_ref().map(|patch| patch.expression.clone().unwrap_or_default());
    let apply = mutation.apply_configuration.as_ref().map(|apply| apply.expression.clone().unwrap_or_default());
    let mut one = |wanted: (&str, Option<String>), other: (&str, Option<String>)| {
        let (kind, field) = (mutation.patch_type.as_str(), format!("{path}.{}", wanted.0));
        match wanted.1 {
            None => errs.required(field, format!("must be specified when patchType is {kind}")),
            Some(text) => {
                rules::expression(Some(&text), &format!("{field}.expression"), "expression is not specified", errs);
            }
        }
        if other.1.is_some() {
            let why = format!("must not be specified when patchType is {kind}");
            errs.invalid(format!("{path}.{}", other.0), "", why);
        }
    };
    match mutation.patch_type.as_str() {
        "" => errs.required(format!("{path}.patchType"), ""),
        "ApplyConfiguration" => one(("applyConfiguration", apply), ("jsonPatch", patch)),
        "JSONPatch" => one(("jsonPatch", patch), ("applyConfiguration", apply)),
        other => errs.not_supported(format!("{path}.patchType"), other, &["ApplyConfiguration", "JSONPatch"]),
    }
}
