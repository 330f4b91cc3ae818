//! Deployments: replica sets over time, one after the other.

use corten_api::IntOrString;
use corten_api::api::apps::v1::{
    Deployment, DeploymentSpec, DeploymentStatus, DeploymentStrategy, RollingUpdateDeployment,
};
use corten_api::api::core::v1::PodTemplateSpec;
use corten_api::field::FieldErrors;
use corten_api::names::Names;
use corten_api::status::Status;
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::kind::Kind;
use crate::pods::template;
use crate::table::{NAME, age, column, containers, number, selector, wide};
use crate::{ColumnHead, Subresource, WriteContext, counts};

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

    fn prepare(new: &mut Deployment, old: Option<&Deployment>, _cx: &WriteContext<'_>) -> Result<(), Status> {
        if old.is_none() {
            new.status = Some(DeploymentStatus::default());
        }
        Ok(())
    }

    fn validate(deployment: &Deployment, old: Option<&Deployment>, errs: &mut FieldErrors) {
        let Some(spec) = &deployment.spec else { return };
        counts::not_negative(spec.replicas, "spec.replicas", errs);
        template::validate_selector(&spec.selector, errs);
        template::validate_replicas(&spec.selector, &spec.template, errs);
        validate_strategy(spec.strategy.as_ref(), errs);
        counts::not_negative(spec.min_ready_seconds, "spec.minReadySeconds", errs);
        counts::not_negative(spec.revision_history_limit, "spec.revisionHistoryLimit", errs);
        counts::not_negative(spec.progress_deadline_seconds, "spec.progressDeadlineSeconds", errs);
        if let Some(deadline) = spec.progress_deadline_seconds
            && deadline <= spec.min_ready_seconds.unwrap_or(0)
        {
            errs.invalid("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds");
        }
        let before = old.and_then(|old| old.spec.as_ref()).map(|spec| &spec.selector);
        template::validate_selector_change(&spec.selector, before, errs);
    }

    fn warnings(new: &Deployment, old: Option<&Deployment>) -> Vec<String> {
        let mut warnings = old.map_or_else(|| template::name_warnings(&new.metadata), |_| Vec::new());
        if let Some(template) = template_of(new) {
            warnings.extend(template::warnings(template, old.and_then(template_of), "spec.template"));
        }
        warnings
    }

    fn validate_status(new: &Deployment, old: &Deployment, errs: &mut FieldErrors) {
        let status = new.status.clone().unwrap_or_default();
        let whole = |count: Option<i32>| count.map(i64::from);
        let numbers = [
            ("observedGeneration", status.observed_generation),
            ("replicas", whole(status.replicas)),
            ("updatedReplicas", whole(status.updated_replicas)),
            ("readyReplicas", whole(status.ready_replicas)),
            ("availableReplicas", whole(status.available_replicas)),
            ("unavailableReplicas", whole(status.unavailable_replicas)),
            ("terminatingReplicas", whole(status.terminating_replicas)),
            ("collisionCount", whole(status.collision_count)),
        ];
        counts::none_negative("status", &numbers, errs);
        let parts = [
            ("updatedReplicas", status.updated_replicas),
            ("readyReplicas", status.ready_replicas),
            ("availableReplicas", status.available_replicas),
        ];
        let all = i64::from(status.replicas.unwrap_or(0));
        counts::none_above(all, "cannot be greater than status.replicas", "status", &parts, errs);
        let ready = i64::from(status.ready_replicas.unwrap_or(0));
        counts::none_above(ready, "cannot be greater than readyReplicas", "status", &parts[2..], errs);
        let before = old.status.as_ref().and_then(|status| status.collision_count);
        counts::not_decremented(status.collision_count, before, "status.collisionCount", errs);
    }
}

fn template_of(object: &Deployment) -> Option<&PodTemplateSpec> {
    object.spec.as_ref().map(|spec| &spec.template)
}

fn validate_strategy(strategy: Option<&DeploymentStrategy>, errs: &mut FieldErrors) {
    let Some(strategy) = strategy else { return };
    let path = "spec.strategy.rollingUpdate";
    match strategy.type_.as_deref().unwrap_or_default() {
        "Recreate" => {
            if strategy.rolling_update.is_some() {
                errs.forbidden(path, "may not be specified when strategy `type` is 'Recreate'");
            }
        }
        "RollingUpdate" => match &strategy.rolling_update {
            None => errs.required(path, "this should be defaulted and never be nil"),
            Some(rolling) => validate_rolling(rolling, path, errs),
        },
        _ => counts::not_supported("spec.strategy", strategy, &["Recreate", "RollingUpdate"], errs),
    }
}

fn validate_rolling(rolling: &RollingUpdateDeployment, path: &str, errs: &mut FieldErrors) {
    let (unavailable_path, surge_path) = (format!("{path}.maxUnavailable"), format!("{path}.maxSurge"));
    let nothing = IntOrString::Int(0);
    let unavailable = rolling.max_unavailable.as_ref().unwrap_or(&nothing);
    let surge = rolling.max_surge.as_ref().unwrap_or(&nothing);
    counts::amount(unavailable, &unavailable_path, errs);
    counts::amount(surge, &surge_path, errs);
    if counts::number(unavailable) == 0 && counts::number(surge) == 0 {
        counts::invalid(&unavailable_path, unavailable, "may not be 0 when `maxSurge` is 0", errs);
    }
    counts::at_most_all(unavailable, &unavailable_path, errs);
}
