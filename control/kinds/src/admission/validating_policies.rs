//! ValidatingAdmissionPolicies: conditions that objects must meet.

use std::collections::HashSet;

use corten_api::api::admissionregistration::v1::{
    AuditAnnotation, ValidatingAdmissionPolicy, ValidatingAdmissionPolicySpec, Validation,
};
use corten_api::field::FieldErrors;
use corten_api::label;
use corten_api::names::{Names, Scope};
use corten_api::status::Status;
use corten_base::Timestamp;
use serde_json::{Value, json};

use super::policies::{self, param_cell};
use super::rules::{self, one_of};
use crate::kind::Kind;
use crate::table::{NAME, age, column, number};
use crate::{ColumnHead, Subresource, WriteContext};

pub(crate) struct ValidatingPolicies;

impl Kind for ValidatingPolicies {
    type Object = ValidatingAdmissionPolicy;

    const NAMES: Names =
        policies::names("ValidatingAdmissionPolicy", "validatingadmissionpolicies", "validatingadmissionpolicy");
    const UNCONDITIONAL_UPDATE: bool = false;
    const SCOPE: Scope = Scope::Cluster;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const COLUMNS: &'static [ColumnHead] = &[NAME, number("Validations"), column("ParamKind"), column("Age")];
    const GENERATION: bool = true;

    fn cells(policy: &ValidatingAdmissionPolicy, now: Timestamp) -> Vec<Value> {
        let spec = policy.spec.clone().unwrap_or_default();
        vec![
            json!(policy.metadata.name),
            json!(spec.validations.map_or(0, |validations| validations.len())),
            param_cell(spec.param_kind.as_ref()).into(),
            age(policy.metadata.creation_timestamp.as_ref(), now).into(),
        ]
    }

    fn default(policy: &mut ValidatingAdmissionPolicy) {
        let Some(spec) = &mut policy.spec else { return };
        spec.failure_policy.get_or_insert_with(|| "Fail".to_owned());
        spec.match_constraints.iter_mut().for_each(rules::default_resources);
    }

    fn prepare(
        new: &mut ValidatingAdmissionPolicy,
        old: Option<&ValidatingAdmissionPolicy>,
        _cx: &WriteContext<'_>,
    ) -> Result<(), Status> {
        if old.is_none() {
            new.status = None;
        }
        Ok(())
    }

    fn prepare_status(
        new: &mut ValidatingAdmissionPolicy,
        old: &ValidatingAdmissionPolicy,
        _cx: &WriteContext<'_>,
    ) -> Result<(), Status> {
        crate::meta::keep_for_status(&mut new.metadata, &old.metadata);
        Ok(())
    }

    fn validate(policy: &ValidatingAdmissionPolicy, _old: Option<&ValidatingAdmissionPolicy>, errs: &mut FieldErrors) {
        let empty = ValidatingAdmissionPolicySpec::default();
        let spec = policy.spec.as_ref().unwrap_or(&empty);
        match &spec.failure_policy {
            None => errs.required("spec.failurePolicy", ""),
            Some(given) => one_of(given, &["Fail", "Ignore"], "spec.failurePolicy", errs),
        }
        policies::param_kind(spec.param_kind.as_ref(), errs);
        policies::constraints(spec.match_constraints.as_ref(), errs);
        rules::conditions(spec.match_conditions.as_deref().unwrap_or_default(), "spec.matchConditions", errs);
        policies::variables(spec.variables.as_deref().unwrap_or_default(), errs);
        let (validations, annotations) =
            (spec.validations.as_deref().unwrap_or_default(), spec.audit_annotations.as_deref().unwrap_or_default());
        if validations.is_empty() && annotations.is_empty() {
            let why = "validations or auditAnnotations must contain at least one item";
            errs.required("spec.validations", why);
            errs.required("spec.auditAnnotations", why);
        }
        for (index, validation) in validations.iter().enumerate() {
            self::validation(validation, &format!("spec.validations[{index}]"), errs);
        }
        let name = policy.metadata.name.as_deref().unwrap_or_default();
        self::annotations(annotations, name, errs);
    }
}

fn validation(validation: &Validation, path: &str, errs: &mut FieldErrors) {
    let expression = format!("{path}.expression");
    rules::expression(Some(&validation.expression), &expression, "expression is not specified", errs);
    if let Some(text) = validation.message_expression.as_deref().filter(|text| !text.is_empty())
        && text.trim().is_empty()
    {
        errs.invalid(format!("{path}.messageExpression"), text, "must be non-empty if specified");
    }
    if let Some(message) = validation.message.as_deref().filter(|message| !message.is_empty()) {
        let path = format!("{path}.message");
        if message.trim().is_empty() {
            errs.invalid(path, message, "message must be non-empty if specified");
        } else if message.trim().contains('\n') {
            errs.invalid(path, message, "message must not contain line breaks");
        }
    } else if validation.expression.contains('\n')
        && validation.message_expression.as_ref().is_none_or(String::is_empty)
    {
        errs.required(format!("{path}.message"), "message must be specified if expression contains line breaks");
    }
    if let Some(reason) = validation.reason.as_deref().filter(|reason| !reason.is_empty()) {
        let known = ["Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized"];
        one_of(reason, &known, &format!("{path}.reason"), errs);
    }
}

fn annotations(annotations: &[AuditAnnotation], policy: &str, errs: &mut FieldErrors) {
    const MOST: usize = 20;
    if annotations.len() > MOST {
        let why = format!("must not have more than {MOST} auditAnnotations");
        errs.invalid("spec.auditAnnotations", annotations.len(), why);
    }
    let mut keys = HashSet::new();
    for (index, annotation) in annotations.iter().enumerate() {
        let path = format!("spec.auditAnnotations[{index}]");
        if annotation.key.is_empty() {
            errs.required(format!("{path}.key"), "");
        } else {
            // The policy's name leads the key in the audit log.
            let problems = label::key_problems(&format!("{policy}/{}", annotation.key));
            problems.into_iter().for_each(|why| errs.invalid(format!("{path}.key"), &annotation.key, why));
            if !keys.insert(&annotation.key) {
                errs.duplicate(format!("{path}.key"), &annotation.key);
            }
        }
        let path = format!("{path}.valueExpression");
        rules::expression(Some(&annotation.value_expression), &path, "valueExpression is not specified", errs);
    }
}
