//! ReplicationControllers: what ReplicaSets were before there were selectors with operators.

use corten_api::api::core::v1::{
    PodTemplateSpec, ReplicationController, ReplicationControllerSpec, ReplicationControllerStatus,
};
use corten_api::field::FieldErrors;
use corten_api::names::Names;
use corten_api::status::Status;
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::kind::Kind;
use crate::pods::template;
use crate::replica_sets::validate_replicas;
use crate::table::{NAME, age, column, containers, labels, number, wide};
use crate::{ColumnHead, Subresource, WriteContext, counts};

pub(crate) struct ReplicationControllers;

impl Kind for ReplicationControllers {
    type Object = ReplicationController;

    const NAMES: Names = Names {
        group: "",
        version: "v1",
        kind: "ReplicationController",
        plural: "replicationcontrollers",
        singular: "replicationcontroller",
        short: &["rc"],
        categories: &["all"],
    };
    const STORAGE: &'static str = "controllers";
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status, Subresource::Scale];
    const COLUMNS: &'static [ColumnHead] = &[
        NAME,
        number("Desired"),
        number("Current"),
        number("Ready"),
        column("Age"),
        wide("Containers"),
        wide("Images"),
        wide("Selector"),
    ];
    const GENERATION: bool = true;
    const FIELDS: &'static [&'static str] = &["status.replicas"];
    const ORPHAN_DEPENDENTS: bool = true;

    fn cells(controller: &ReplicationController, now: Timestamp) -> Vec<Value> {
        let spec = controller.spec.clone().unwrap_or_default();
        let status = controller.status.clone().unwrap_or_default();
        let (names, images) = containers(spec.template.as_ref().and_then(|template| template.spec.as_ref()));
        vec![
            json!(controller.metadata.name),
            json!(spec.replicas.unwrap_or(1)),
            json!(status.replicas),
            json!(status.ready_replicas.unwrap_or(0)),
            age(controller.metadata.creation_timestamp.as_ref(), now).into(),
            names.into(),
            images.into(),
            labels(spec.selector.as_ref()).into(),
        ]
    }

    fn default(controller: &mut ReplicationController) {
        let spec = controller.spec.get_or_insert_with(ReplicationControllerSpec::default);
        if let Some(template) = &mut spec.template {
            template::default(template);
            let labels = template::labels(template);
            for map in [&mut spec.selector, &mut controller.metadata.labels] {
                if map.as_ref().is_none_or(|map| map.is_empty()) && !labels.is_empty() {
                    *map = Some(labels.clone());
                }
            }
        }
        spec.replicas.get_or_insert(1);
    }

    fn prepare(
        new: &mut ReplicationController,
        old: Option<&ReplicationController>,
        _cx: &WriteContext<'_>,
    ) -> Result<(), Status> {
        if old.is_none() {
            new.status = Some(ReplicationControllerStatus::default());
        }
        Ok(())
    }

    fn validate(new: &ReplicationController, _old: Option<&ReplicationController>, errs: &mut FieldErrors) {
        let Some(spec) = &new.spec else { return };
        counts::not_negative(spec.min_ready_seconds, "spec.minReadySeconds", errs);
        let selector = spec.selector.clone().unwrap_or_default();
        if selector.is_empty() {
            errs.required("spec.selector", "");
        }
        counts::not_negative(spec.replicas, "spec.replicas", errs);
        let path = "spec.template";
        let Some(template) = &spec.template else { return errs.required(path, "") };
        template::validate_plain_match(&selector, template, path, errs);
        template::validate(template, path, errs);
        template::validate_endless(template, "ReplicationController", path, errs);
    }

    fn warnings(new: &ReplicationController, old: Option<&ReplicationController>) -> Vec<String> {
        let mut warnings = old.map_or_else(|| template::name_warnings(&new.metadata), |_| Vec::new());
        if let Some(template) = template_of(new) {
            warnings.extend(template::warnings(template, old.and_then(template_of), "spec.template"));
        }
        warnings
    }

    fn validate_status(new: &ReplicationController, _old: &ReplicationController, errs: &mut FieldErrors) {
        let status = new.status.clone().unwrap_or_default();
        let parts = [
            ("fullyLabeledReplicas", status.fully_labeled_replicas),
            ("readyReplicas", status.ready_replicas),
            ("availableReplicas", status.available_replicas),
        ];
        validate_replicas(status.replicas, &parts, status.observed_generation, errs);
    }
}

fn template_of(object: &ReplicationController) -> Option<&PodTemplateSpec> {
    object.spec.as_ref().and_then(|spec| spec.template.as_ref())
}
