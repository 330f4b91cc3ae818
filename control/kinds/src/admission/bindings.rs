//! Bindings put policies to work, with parameters.

use corten_api::api::admissionregistration::v1::{
    MutatingAdmissionPolicyBinding, ParamRef, ValidatingAdmissionPolicyBinding,
};
use corten_api::field::FieldErrors;
use corten_api::label;
use corten_api::meta::ObjectMeta;
use corten_api::names::{Names, Scope};
use corten_base::Timestamp;
use serde_json::{Value, json};

use super::policies;
use super::rules::{self, one_of};
use crate::ColumnHead;
use crate::kind::Kind;
use crate::selectors::{self, invalid_json};
use crate::table::{NAME, age, column};

const COLUMNS: &[ColumnHead] = &[NAME, column("PolicyName"), column("ParamRef"), column("Age")];

pub(crate) struct ValidatingBindings;

impl Kind for ValidatingBindings {
    type Object = ValidatingAdmissionPolicyBinding;

    const NAMES: Names = policies::names(
        "ValidatingAdmissionPolicyBinding",
        "validatingadmissionpolicybindings",
        "validatingadmissionpolicybinding",
    );
    const UNCONDITIONAL_UPDATE: bool = false;
    const SCOPE: Scope = Scope::Cluster;
    const COLUMNS: &'static [ColumnHead] = COLUMNS;
    const GENERATION: bool = true;

    fn cells(binding: &ValidatingAdmissionPolicyBinding, now: Timestamp) -> Vec<Value> {
        let spec = &binding.spec;
        cells(&binding.metadata, &spec.policy_name, spec.param_ref.as_ref(), now)
    }

    fn default(binding: &mut ValidatingAdmissionPolicyBinding) {
        binding.spec.match_resources.iter_mut().for_each(rules::default_resources);
    }

    fn validate(
        binding: &ValidatingAdmissionPolicyBinding,
        _old: Option<&ValidatingAdmissionPolicyBinding>,
        errs: &mut FieldErrors,
    ) {
        let spec = &binding.spec;
        policy_name(&spec.policy_name, errs);
        param_ref(spec.param_ref.as_ref(), errs);
        if let Some(resources) = &spec.match_resources {
            rules::resources(resources, "spec.matchResources", errs);
        }
        actions(&spec.validation_actions, errs);
    }
}

pub(crate) struct MutatingBindings;

impl Kind for MutatingBindings {
    type Object = MutatingAdmissionPolicyBinding;

    const NAMES: Names = policies::names(
        "MutatingAdmissionPolicyBinding",
        "mutatingadmissionpolicybindings",
        "mutatingadmissionpolicybinding",
    );
    const UNCONDITIONAL_UPDATE: bool = false;
    const SCOPE: Scope = Scope::Cluster;
    const COLUMNS: &'static [ColumnHead] = COLUMNS;
    const GENERATION: bool = true;

    fn cells(binding: &MutatingAdmissionPolicyBinding, now: Timestamp) -> Vec<Value> {
        let spec = binding.spec.clone().unwrap_or_default();
        cells(&binding.metadata, spec.policy_name.as_deref().unwrap_or_default(), spec.param_ref.as_ref(), now)
    }

    fn default(binding: &mut MutatingAdmissionPolicyBinding) {
        let Some(spec) = &mut binding.spec else { return };
        spec.match_resources.iter_mut().for_each(rules::default_resources);
    }

    fn validate(
        binding: &MutatingAdmissionPolicyBinding,
        _old: Option<&MutatingAdmissionPolicyBinding>,
        errs: &mut FieldErrors,
    ) {
        let spec = binding.spec.clone().unwrap_or_default();
        policy_name(spec.policy_name.as_deref().unwrap_or_default(), errs);
        param_ref(spec.param_ref.as_ref(), errs);
        if let Some(resources) = &spec.match_resources {
            rules::resources(resources, "spec.matchResources", errs);
        }
    }
}

fn cells(metadata: &ObjectMeta, policy: &str, params: Option<&ParamRef>, now: Timestamp) -> Vec<Value> {
    let params = params.map_or_else(
        || "<unset>".to_owned(),
        |params| {
            let name = params.name.clone().unwrap_or_default();
            let own = params.namespace.as_deref().filter(|namespace| !namespace.is_empty());
            match own {
                Some(namespace) => format!("{namespace}/{name}"),
                None => name,
            }
        },
    );
    vec![json!(metadata.name), policy.into(), params.into(), age(metadata.creation_timestamp.as_ref(), now).into()]
}

fn policy_name(name: &str, errs: &mut FieldErrors) {
    if name.is_empty() {
        return errs.required("spec.policyName", "");
    }
    label::subdomain_problems(name).into_iter().for_each(|why| errs.invalid("spec.policyName", name, why));
}

fn param_ref(params: Option<&ParamRef>, errs: &mut FieldErrors) {
    const PATH: &str = "spec.paramRef";
    let Some(params) = params else { return };
    let name = params.name.as_deref().unwrap_or_default();
    if !name.is_empty() {
        let problems = crate::meta::segment_problems(name);
        problems.into_iter().for_each(|why| errs.invalid(format!("{PATH}.name"), name, why));
        if params.selector.is_some() {
            errs.forbidden(format!("{PATH}.name"), "name and selector are mutually exclusive");
        }
    }
    match &params.selector {
        Some(selector) => {
            selectors::labels(selector, &format!("{PATH}.selector"), errs);
            if !name.is_empty() {
                errs.forbidden(format!("{PATH}.selector"), "name and selector are mutually exclusive");
            }
        }
        None if name.is_empty() => errs.required(PATH, "one of name or selector must be specified"),
        None => {}
    }
    match params.parameter_not_found_action.as_deref() {
        None | Some("") => errs.required(format!("{PATH}.parameterNotFoundAction"), ""),
        Some(action) => one_of(action, &["Allow", "Deny"], &format!("{PATH}.parameterNotFoundAction"), errs),
    }
}

fn actions(actions: &[String], errs: &mut FieldErrors) {
    const PATH: &str = "spec.validationActions";
    if actions.is_empty() {
        errs.required(PATH, "");
    }
    for (index, action) in actions.iter().enumerate() {
        let path = format!("{PATH}[{index}]");
        one_of(action, &["Audit", "Deny", "Warn"], &path, errs);
        if actions[..index].contains(action) {
            errs.duplicate(path, action);
        }
    }
    let has = |wanted: &str| actions.iter().any(|action| action == wanted);
    if has("Deny") && has("Warn") {
        let why = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
        invalid_json(errs, PATH, &actions, why);
    }
}
