//! DaemonSets: a pod on every node that fits.

use corten_api::IntOrString;
use corten_api::api::apps::v1::{
    DaemonSet, DaemonSetSpec, DaemonSetStatus, DaemonSetUpdateStrategy, RollingUpdateDaemonSet,
};
use corten_api::api::core::v1::PodTemplateSpec;
use corten_api::field::FieldErrors;
use corten_api::names::Names;
use corten_api::status::Status;
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::kind::Kind;
use crate::pods::template;
use crate::table::{NAME, age, column, containers, labels, number, selector, wide};
use crate::{ColumnHead, Subresource, WriteContext, counts, selectors};

const ROLLING: &str = "RollingUpdate";
/// Counts the changes of the template. A field of the kind in versions before v1, and since then an annotation.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

pub(crate) struct DaemonSets;

impl Kind for DaemonSets {
    type Object = DaemonSet;

    const NAMES: Names = Names {
        group: "apps",
        version: "v1",
        kind: "DaemonSet",
        plural: "daemonsets",
        singular: "daemonset",
        short: &["ds"],
        categories: &["all"],
    };
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const COLUMNS: &'static [ColumnHead] = &[
        NAME,
        number("Desired"),
        number("Current"),
        number("Ready"),
        number("Up-to-date"),
        number("Available"),
        column("Node Selector"),
        column("Age"),
        wide("Containers"),
        wide("Images"),
        wide("Selector"),
    ];
    const GENERATION: bool = true;

    fn cells(set: &DaemonSet, now: Timestamp) -> Vec<Value> {
        let spec = set.spec.clone().unwrap_or_default();
        let status = set.status.clone().unwrap_or_default();
        let pod = spec.template.spec.as_ref();
        let (names, images) = containers(pod);
        vec![
            json!(set.metadata.name),
            json!(status.desired_number_scheduled),
            json!(status.current_number_scheduled),
            json!(status.number_ready),
            json!(status.updated_number_scheduled.unwrap_or(0)),
            json!(status.number_available.unwrap_or(0)),
            labels(pod.and_then(|pod| pod.node_selector.as_ref())).into(),
            age(set.metadata.creation_timestamp.as_ref(), now).into(),
            names.into(),
            images.into(),
            selector(&spec.selector).into(),
        ]
    }

    fn default(set: &mut DaemonSet) {
        let spec = set.spec.get_or_insert_with(DaemonSetSpec::default);
        let strategy = spec.update_strategy.get_or_insert_default();
        if strategy.type_.get_or_insert_with(|| ROLLING.to_owned()) == ROLLING {
            let rolling = strategy.rolling_update.get_or_insert_default();
            rolling.max_unavailable.get_or_insert(IntOrString::Int(1));
            rolling.max_surge.get_or_insert(IntOrString::Int(0));
        }
        spec.revision_history_limit.get_or_insert(10);
        template::default(&mut spec.template);
    }

    fn prepare(new: &mut DaemonSet, old: Option<&DaemonSet>, _cx: &WriteContext<'_>) -> Result<(), Status> {
        let given = template_generation(new)?;
        let generation = match old {
            None => {
                new.status = Some(DaemonSetStatus::default());
                given.unwrap_or(0).max(1)
            }
            // The client has no say in it.
            Some(old) => {
                let before = template_generation(old).ok().flatten().unwrap_or(1);
                let template = |set: &DaemonSet| set.spec.as_ref().map(|spec| spec.template.clone());
                before.saturating_add(i64::from(template(new) != template(old)))
            }
        };
        let annotations = new.metadata.annotations.get_or_insert_default();
        annotations.insert(TEMPLATE_GENERATION.to_owned(), generation.to_string());
        Ok(())
    }

    fn validate(set: &DaemonSet, old: Option<&DaemonSet>, errs: &mut FieldErrors) {
        let Some(spec) = &set.spec else { return };
        selectors::labels(&spec.selector, "spec.selector", errs);
        template::validate_match(&spec.selector, &spec.template, "spec.template", errs);
        template::validate(&spec.template, "spec.template", errs);
        template::validate_endless(&spec.template, "DaemonSet", "spec.template", errs);
        counts::not_negative(spec.min_ready_seconds, "spec.minReadySeconds", errs);
        if let Some(strategy) = &spec.update_strategy {
            validate_strategy(strategy, errs);
        }
        counts::not_negative(spec.revision_history_limit, "spec.revisionHistoryLimit", errs);
        let before = old.and_then(|old| old.spec.as_ref()).map(|spec| &spec.selector);
        template::validate_selector_change(&spec.selector, before, errs);
    }

    fn warnings(new: &DaemonSet, old: Option<&DaemonSet>) -> Vec<String> {
        let Some(template) = template_of(new) else { return Vec::new() };
        template::warnings(template, old.and_then(template_of), "spec.template")
    }

    fn validate_status(new: &DaemonSet, old: &DaemonSet, errs: &mut FieldErrors) {
        let status = new.status.clone().unwrap_or_default();
        let whole = |count: Option<i32>| count.map(i64::from);
        let numbers = [
            ("currentNumberScheduled", Some(status.current_number_scheduled.into())),
            ("numberMisscheduled", Some(status.number_misscheduled.into())),
            ("desiredNumberScheduled", Some(status.desired_number_scheduled.into())),
            ("numberReady", Some(status.number_ready.into())),
            ("observedGeneration", status.observed_generation),
            ("updatedNumberScheduled", whole(status.updated_number_scheduled)),
            ("numberAvailable", whole(status.number_available)),
            ("numberUnavailable", whole(status.number_unavailable)),
            ("collisionCount", whole(status.collision_count)),
        ];
        counts::none_negative("status", &numbers, errs);
        let before = old.status.as_ref().and_then(|status| status.collision_count);
        counts::not_decremented(status.collision_count, before, "status.collisionCount", errs);
    }
}

fn template_of(object: &DaemonSet) -> Option<&PodTemplateSpec> {
    object.spec.as_ref().map(|spec| &spec.template)
}

fn template_generation(set: &DaemonSet) -> Result<Option<i64>, Status> {
    let annotations = set.metadata.annotations.as_ref();
    let Some(text) = annotations.and_then(|annotations| annotations.get(TEMPLATE_GENERATION)) else { return Ok(None) };
    let number = text.parse().map_err(|_| {
        let why = format!("the annotation {TEMPLATE_GENERATION} must be a number: parsing {text:?}: invalid syntax");
        Status::bad_request(why)
    })?;
    Ok(Some(number))
}

fn validate_strategy(strategy: &DaemonSetUpdateStrategy, errs: &mut FieldErrors) {
    let path = "spec.updateStrategy";
    match (strategy.type_.as_deref().unwrap_or_default(), &strategy.rolling_update) {
        ("OnDelete", _) => {}
        (ROLLING, None) => errs.required(format!("{path}.rollingUpdate"), ""),
        (ROLLING, Some(rolling)) => validate_rolling(rolling, &format!("{path}.rollingUpdate"), errs),
        _ => counts::not_supported(path, strategy, &[ROLLING, "OnDelete"], errs),
    }
}

/// Either so many pods may be missing, or so many may be too many, not both.
fn validate_rolling(rolling: &RollingUpdateDaemonSet, path: &str, errs: &mut FieldErrors) {
    let nothing = IntOrString::Int(0);
    let unavailable = rolling.max_unavailable.as_ref().unwrap_or(&nothing);
    let surge = rolling.max_surge.as_ref().unwrap_or(&nothing);
    let (unavailable_path, surge_path) = (format!("{path}.maxUnavailable"), format!("{path}.maxSurge"));
    for check in [counts::amount, counts::at_most_all] {
        check(unavailable, &unavailable_path, errs);
        check(surge, &surge_path, errs);
    }
    match (counts::number(unavailable) != 0, counts::number(surge) != 0) {
        (true, true) => counts::invalid(surge_path, surge, "may not be set when maxUnavailable is non-zero", errs),
        (false, false) => errs.required(unavailable_path, "cannot be 0 when maxSurge is 0"),
        _ => {}
    }
}
