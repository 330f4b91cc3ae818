//! ReplicaSets: so many pods of one template.

use corten_api::api::apps::v1::{ReplicaSet, ReplicaSetSpec, ReplicaSetStatus};
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

pub(crate) struct ReplicaSets;

impl Kind for ReplicaSets {
    type Object = ReplicaSet;

    const NAMES: Names = Names {
        group: "apps",
        version: "v1",
        kind: "ReplicaSet",
        plural: "replicasets",
        singular: "replicaset",
        short: &["rs"],
        categories: &["all"],
    };
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

    fn cells(set: &ReplicaSet, now: Timestamp) -> Vec<Value> {
        let spec = set.spec.clone().unwrap_or_default();
        let status = set.status.clone().unwrap_or_default();
        let (names, images) = containers(spec.template.as_ref().and_then(|template| template.spec.as_ref()));
        vec![
            json!(set.metadata.name),
            json!(spec.replicas.unwrap_or(1)),
            json!(status.replicas),
            json!(status.ready_replicas.unwrap_or(0)),
            age(set.metadata.creation_timestamp.as_ref(), now).into(),
            names.into(),
            images.into(),
            selector(&spec.selector).into(),
        ]
    }

    fn default(set: &mut ReplicaSet) {
        let spec = set.spec.get_or_insert_with(ReplicaSetSpec::default);
        spec.replicas.get_or_insert(1);
        template::default(spec.template.get_or_insert_default());
    }

    fn prepare(new: &mut ReplicaSet, old: Option<&ReplicaSet>, _cx: &WriteContext<'_>) -> Result<(), Status> {
        if old.is_none() {
            new.status = Some(ReplicaSetStatus::default());
        }
        Ok(())
    }

    fn validate(set: &ReplicaSet, old: Option<&ReplicaSet>, errs: &mut FieldErrors) {
        let Some(spec) = &set.spec else { return };
        counts::not_negative(spec.replicas, "spec.replicas", errs);
        counts::not_negative(spec.min_ready_seconds, "spec.minReadySeconds", errs);
        template::validate_selector(&spec.selector, errs);
        template::validate_replicas(&spec.selector, &spec.template.clone().unwrap_or_default(), errs);
        let before = old.and_then(|old| old.spec.as_ref()).map(|spec| &spec.selector);
        template::validate_selector_change(&spec.selector, before, errs);
    }

    fn warnings(new: &ReplicaSet, old: Option<&ReplicaSet>) -> Vec<String> {
        let mut warnings = old.map_or_else(|| template::name_warnings(&new.metadata), |_| Vec::new());
        if let Some(template) = template_of(new) {
            warnings.extend(template::warnings(template, old.and_then(template_of), "spec.template"));
        }
        warnings
    }

    fn validate_status(new: &ReplicaSet, _old: &ReplicaSet, errs: &mut FieldErrors) {
        let status = new.status.clone().unwrap_or_default();
        let parts = [
            ("fullyLabeledReplicas", status.fully_labeled_replicas),
            ("readyReplicas", status.ready_replicas),
            ("availableReplicas", status.available_replicas),
        ];
        validate_replicas(status.replicas, &parts, status.observed_generation, errs);
        counts::not_negative(status.terminating_replicas, "status.terminatingReplicas", errs);
    }
}

fn template_of(object: &ReplicaSet) -> Option<&PodTemplateSpec> {
    object.spec.as_ref().and_then(|spec| spec.template.as_ref())
}

/// Counts of replicas hang together: of all, and of the labelled, ready and available ones, in this order.
pub(crate) fn validate_replicas(
    all: i32,
    parts: &[(&str, Option<i32>); 3],
    observed: Option<i64>,
    errs: &mut FieldErrors,
) {
    counts::not_negative(Some(all), "status.replicas", errs);
    counts::none_negative("status", &parts.map(|(field, count)| (field, count.map(i64::from))), errs);
    counts::not_negative(observed, "status.observedGeneration", errs);
    counts::none_above(i64::from(all), "cannot be greater than status.replicas", "status", parts, errs);
    let ready = i64::from(parts[1].1.unwrap_or(0));
    counts::none_above(ready, "cannot be greater than readyReplicas", "status", &parts[2..], errs);
}
