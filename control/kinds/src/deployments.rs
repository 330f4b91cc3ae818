//! Deployments: replica sets over time, one after the other.

use corten_api::IntOrString;
use corten_api::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use corten_api::field::FieldErrors;
use corten_api::names::Names;
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::kind::Kind;
use crate::pods::template;
use crate::table::{NAME, age, column, containers, number, selector, wide};
use crate::{ColumnHead, Subresource};

pub(crate) struct Deployments;

impl Kind for Deployments {
    type Object = Deployment;

    const NAMES: Names = Names {
        group: "apps",
        version: "v1",
        kind: "Deployment",
        plural: "deployments",
        singular: "deployment",
        short: &["deploy"],
        categories: &["all"],
    };
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status, Subresource::Scale];
    const COLUMNS: &'static [ColumnHead] = &[
        NAME,
        column("Ready"),
        number("Up-to-date"),
        number("Available"),
        column("Age"),
        wide("Containers"),
        wide("Images"),
        wide("Selector"),
    ];
    const GENERATION: bool = true;

    fn cells(deployment: &Deployment, now: Timestamp) -> Vec<Value> {
        let spec = deployment.spec.clone().unwrap_or_default();
        let status = deployment.status.clone().unwrap_or_default();
        let (names, images) = containers(spec.template.spec.as_ref());
        vec![
            json!(deployment.metadata.name),
            format!("{}/{}", status.ready_replicas.unwrap_or(0), spec.replicas.unwrap_or(1)).into(),
            json!(status.updated_replicas.unwrap_or(0)),
            json!(status.available_replicas.unwrap_or(0)),
            age(deployment.metadata.creation_timestamp.as_ref(), now).into(),
            names.into(),
            images.into(),
            selector(&spec.selector).into(),
        ]
    }

    fn default(deployment: &mut Deployment) {
        let spec = deployment.spec.get_or_insert_with(DeploymentSpec::default);
        spec.replicas.get_or_insert(1);
        let strategy = spec.strategy.get_or_insert_with(DeploymentStrategy::default);
        if strategy.type_.get_or_insert_with(|| "RollingUpdate".to_owned()) == "RollingUpdate" {
            let rolling = strategy.rolling_update.get_or_insert_with(RollingUpdateDeployment::default);
            rolling.max_unavailable.get_or_insert_with(|| IntOrString::String("25%".to_owned()));
            rolling.max_surge.get_or_insert_with(|| IntOrString::String("25%".to_owned()));
        }
        spec.revision_history_limit.get_or_insert(10);
        spec.progress_deadline_seconds.get_or_insert(600);
        template::default(&mut spec.template);
    }

    fn validate(deployment: &Deployment, old: Option<&Deployment>, errs: &mut FieldErrors) {
        let Some(spec) = &deployment.spec else { return };
        template::validate_count(spec.replicas, "spec.replicas", errs);
        template::validate_count(spec.min_ready_seconds, "spec.minReadySeconds", errs);
        template::validate_count(spec.revision_history_limit, "spec.revisionHistoryLimit", errs);
        template::validate_count(spec.progress_deadline_seconds, "spec.progressDeadlineSeconds", errs);
        if let Some(deadline) = spec.progress_deadline_seconds
            && deadline <= spec.min_ready_seconds.unwrap_or(0)
        {
            errs.invalid("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds");
        }
        validate_strategy(spec.strategy.as_ref(), errs);
        template::validate(&spec.selector, &spec.template, errs);
        let before = old.and_then(|old| old.spec.as_ref()).map(|spec| &spec.selector);
        template::validate_selector_change(&spec.selector, before, errs);
    }
}

fn validate_strategy(strategy: Option<&DeploymentStrategy>, errs: &mut FieldErrors) {
    let Some(strategy) = strategy else { return };
    let path = "spec.strategy";
    match strategy.type_.as_deref().unwrap_or_default() {
        "Recreate" => {
            if strategy.rolling_update.is_some() {
                let why = "may not be specified when strategy `type` is 'Recreate'";
                errs.forbidden(format!("{path}.rollingUpdate"), why);
            }
        }
        "RollingUpdate" => {
            let Some(rolling) = &strategy.rolling_update else {
                return errs.required(format!("{path}.rollingUpdate"), "this should be defaulted and never be nil");
            };
            let unavailable =
                amount(rolling.max_unavailable.as_ref(), &format!("{path}.rollingUpdate.maxUnavailable"), errs);
            let surge = amount(rolling.max_surge.as_ref(), &format!("{path}.rollingUpdate.maxSurge"), errs);
            if unavailable == Some(0) && surge == Some(0) {
                let why = "may not be 0 when `maxSurge` is 0";
                errs.invalid(format!("{path}.rollingUpdate.maxUnavailable"), 0, why);
            }
            if let Some(IntOrString::String(text)) = &rolling.max_unavailable
                && unavailable.is_some_and(|percent| percent > 100)
            {
                errs.invalid(format!("{path}.rollingUpdate.maxUnavailable"), text, "must not be greater than 100%");
            }
        }
        other => errs.not_supported(format!("{path}.type"), other, &["Recreate", "RollingUpdate"]),
    }
}

/// A number, or the number of a percentage; notes what is wrong with it.
fn amount(value: Option<&IntOrString>, path: &str, errs: &mut FieldErrors) -> Option<i32> {
    match value? {
        IntOrString::Int(number) if *number < 0 => {
            errs.invalid(path, number, "must be greater than or equal to 0");
            None
        }
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(text) => match text.strip_suffix('%').and_then(|digits| digits.parse::<u16>().ok()) {
            Some(percent) => Some(i32::from(percent)),
            None => {
                let why = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";
                errs.invalid(path, text, why);
                None
            }
        },
    }
}
