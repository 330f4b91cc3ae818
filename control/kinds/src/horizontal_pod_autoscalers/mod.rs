//! HorizontalPodAutoscalers: as many replicas as the load demands. Version 2 is what is stored; version 1 is a view.

mod columns;
mod defaults;
mod metrics;
mod v1;
mod validate;

use corten_api::api::autoscaling::v2::{HorizontalPodAutoscaler, HorizontalPodAutoscalerStatus};
use corten_api::field::FieldErrors;
use corten_api::names::Names;
use corten_api::status::Status;
use corten_base::Timestamp;
use serde_json::Value;

use crate::kind::Kind;
use crate::{ColumnHead, Subresource, WriteContext};

pub(crate) use v1::HorizontalPodAutoscalersV1;

/// What version 1 has no field for is in these annotations when it is shown; version 2 has none of them.
const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

const fn names(version: &'static str) -> Names {
    Names {
        group: "autoscaling",
        version,
        kind: "HorizontalPodAutoscaler",
        plural: "horizontalpodautoscalers",
        singular: "horizontalpodautoscaler",
        short: &["hpa"],
        categories: &["all"],
    }
}

pub(crate) struct HorizontalPodAutoscalers;

impl Kind for HorizontalPodAutoscalers {
    type Object = HorizontalPodAutoscaler;

    const NAMES: Names = names("v2");
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const COLUMNS: &'static [ColumnHead] = columns::COLUMNS;

    fn cells(autoscaler: &HorizontalPodAutoscaler, now: Timestamp) -> Vec<Value> {
        columns::cells(autoscaler, now)
    }

    fn default(autoscaler: &mut HorizontalPodAutoscaler) {
        defaults::autoscaler(autoscaler);
    }

    fn prepare(
        new: &mut HorizontalPodAutoscaler,
        old: Option<&HorizontalPodAutoscaler>,
        _cx: &WriteContext<'_>,
    ) -> Result<(), Status> {
        if old.is_none() {
            new.status = Some(HorizontalPodAutoscalerStatus::default());
        }
        if let Some(annotations) = &mut new.metadata.annotations {
            annotations.retain(|key, _| ![METRICS, CURRENT_METRICS, CONDITIONS, BEHAVIOR].contains(&key.as_str()));
            if annotations.is_empty() {
                new.metadata.annotations = None;
            }
        }
        Ok(())
    }

    fn validate(autoscaler: &HorizontalPodAutoscaler, old: Option<&HorizontalPodAutoscaler>, errs: &mut FieldErrors) {
        validate::autoscaler(autoscaler, old, errs);
    }

    fn validate_status(new: &HorizontalPodAutoscaler, _old: &HorizontalPodAutoscaler, errs: &mut FieldErrors) {
        validate::status(new, errs);
    }
}
