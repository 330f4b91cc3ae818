//! ReplicaSets: so many pods of one template.

use corten_api::api::apps::v1::{ReplicaSet, ReplicaSetSpec};
use corten_api::field::FieldErrors;
use corten_api::names::Names;
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::kind::Kind;
use crate::pods::template;
use crate::table::{NAME, age, column, containers, number, selector, wide};
use crate::{ColumnHead, Subresource};

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
        if let Some(template) = &mut spec.template {
            template::default(template);
        }
    }

    fn validate(set: &ReplicaSet, old: Option<&ReplicaSet>, errs: &mut FieldErrors) {
        let Some(spec) = &set.spec else { return };
        template::validate_count(spec.replicas, "spec.replicas", errs);
        template::validate_count(spec.min_ready_seconds, "spec.minReadySeconds", errs);
        match &spec.template {
            Some(pods) => template::validate(&spec.selector, pods, errs),
            None => errs.required("spec.template", ""),
        }
        let before = old.and_then(|old| old.spec.as_ref()).map(|spec| &spec.selector);
        template::validate_selector_change(&spec.selector, before, errs);
    }
}
