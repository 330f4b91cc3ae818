//! StatefulSets: pods with names and volumes of their own, started and ended in order.

use corten_api::IntOrString;
use corten_api::api::apps::v1::{
    RollingUpdateStatefulSetStrategy, StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec,
    StatefulSetStatus, StatefulSetUpdateStrategy,
};
use corten_api::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimStatus, PersistentVolumeClaimVolumeSource, PodTemplateSpec, Volume,
};
use corten_api::field::FieldErrors;
use corten_api::names::Names;
use corten_api::status::Status;
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::kind::Kind;
use crate::meta::{NameRule, label_problems};
use crate::pods::template;
use crate::table::{NAME, age, column, containers, wide};
use crate::{ColumnHead, Subresource, WriteContext, counts};

const ROLLING: &str = "RollingUpdate";
const CHANGE: &str = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";

pub(crate) struct StatefulSets;

impl Kind for StatefulSets {
    type Object = StatefulSet;

    const NAMES: Names = Names {
        group: "apps",
        version: "v1",
        kind: "StatefulSet",
        plural: "statefulsets",
        singular: "statefulset",
        short: &["sts"],
        categories: &["all"],
    };
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status, Subresource::Scale];
    const COLUMNS: &'static [ColumnHead] = &[NAME, column("Ready"), column("Age"), wide("Containers"), wide("Images")];
    const GENERATION: bool = true;
    // Its pods are named after it, and their names are host names.
    const NAME_RULE: NameRule = NameRule::Label;

    fn cells(set: &StatefulSet, now: Timestamp) -> Vec<Value> {
        let spec = set.spec.clone().unwrap_or_default();
        let ready = set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0);
        let (names, images) = containers(spec.template.spec.as_ref());
        vec![
            json!(set.metadata.name),
            format!("{ready}/{}", spec.replicas.unwrap_or(1)).into(),
            age(set.metadata.creation_timestamp.as_ref(), now).into(),
            names.into(),
            images.into(),
        ]
    }

    fn default(set: &mut StatefulSet) {
        let spec = set.spec.get_or_insert_default();
        spec.pod_management_policy.get_or_insert_with(|| "OrderedReady".to_owned());
        let strategy = spec.update_strategy.get_or_insert_default();
        if strategy.type_.is_none() {
            strategy.type_ = Some(ROLLING.to_owned());
            strategy.rolling_update.get_or_insert_default();
        }
        if strategy.type_.as_deref() == Some(ROLLING)
            && let Some(rolling) = &mut strategy.rolling_update
        {
            rolling.partition.get_or_insert(0);
            rolling.max_unavailable.get_or_insert(IntOrString::Int(1));
        }
        let retention = spec.persistent_volume_claim_retention_policy.get_or_insert_default();
        for field in [&mut retention.when_deleted, &mut retention.when_scaled] {
            field.get_or_insert_with(|| "Retain".to_owned());
        }
        spec.replicas.get_or_insert(1);
        spec.revision_history_limit.get_or_insert(10);
        template::default(&mut spec.template);
        spec.volume_claim_templates.iter_mut().flatten().for_each(default_claim);
    }

    fn prepare(new: &mut StatefulSet, old: Option<&StatefulSet>, _cx: &WriteContext<'_>) -> Result<(), Status> {
        if old.is_none() {
            new.status = Some(StatefulSetStatus { available_replicas: Some(0), ..StatefulSetStatus::default() });
        }
        Ok(())
    }

    fn validate(set: &StatefulSet, old: Option<&StatefulSet>, errs: &mut FieldErrors) {
        let Some(spec) = &set.spec else { return };
        let before = old.and_then(|old| old.spec.as_ref());
        validate_spec(spec, before, errs);
        if let Some(before) = before
            && kept(spec, before) != *before
        {
            errs.forbidden("spec", CHANGE);
        }
    }

    fn warnings(new: &StatefulSet, old: Option<&StatefulSet>) -> Vec<String> {
        let Some(template) = template_of(new) else { return Vec::new() };
        template::warnings(template, old.and_then(template_of), "spec.template")
    }

    fn validate_status(new: &StatefulSet, old: &StatefulSet, errs: &mut FieldErrors) {
        let status = new.status.clone().unwrap_or_default();
        let whole = |count: Option<i32>| count.map(i64::from);
        let numbers = [
            ("replicas", Some(i64::from(status.replicas))),
            ("readyReplicas", whole(status.ready_replicas)),
            ("currentReplicas", whole(status.current_replicas)),
            ("updatedReplicas", whole(status.updated_replicas)),
            ("availableReplicas", whole(status.available_replicas)),
            ("observedGeneration", status.observed_generation),
            ("collisionCount", whole(status.collision_count)),
        ];
        counts::none_negative("status", &numbers, errs);
        let parts = [
            ("readyReplicas", status.ready_replicas),
            ("currentReplicas", status.current_replicas),
            ("updatedReplicas", status.updated_replicas),
            ("availableReplicas", status.available_replicas),
        ];
        let all = i64::from(status.replicas);
        counts::none_above(all, "cannot be greater than status.replicas", "status", &parts, errs);
        let ready = i64::from(status.ready_replicas.unwrap_or(0));
        counts::none_above(ready, "cannot be greater than status.readyReplicas", "status", &parts[3..], errs);
        let before = old.status.as_ref().and_then(|status| status.collision_count);
        counts::not_decremented(status.collision_count, before, "status.collisionCount", errs);
    }
}

fn template_of(object: &StatefulSet) -> Option<&PodTemplateSpec> {
    object.spec.as_ref().map(|spec| &spec.template)
}

fn default_claim(claim: &mut PersistentVolumeClaim) {
    claim.spec.get_or_insert_default().volume_mode.get_or_insert_with(|| "Filesystem".to_owned());
    let status = claim.status.get_or_insert_with(PersistentVolumeClaimStatus::default);
    status.phase.get_or_insert_with(|| "Pending".to_owned());
}

/// The new spec with everything that may change as it was.
fn kept(new: &StatefulSetSpec, old: &StatefulSetSpec) -> StatefulSetSpec {
    StatefulSetSpec {
        replicas: old.replicas,
        ordinals: old.ordinals.clone(),
        template: old.template.clone(),
        update_strategy: old.update_strategy.clone(),
        revision_history_limit: old.revision_history_limit,
        persistent_volume_claim_retention_policy: old.persistent_volume_claim_retention_policy.clone(),
        min_ready_seconds: old.min_ready_seconds,
        ..new.clone()
    }
}

fn validate_spec(spec: &StatefulSetSpec, old: Option<&StatefulSetSpec>, errs: &mut FieldErrors) {
    match spec.pod_management_policy.as_deref().unwrap_or_default() {
        "" => errs.required("spec.podManagementPolicy", ""),
        "OrderedReady" | "Parallel" => {}
        other => errs.invalid("spec.podManagementPolicy", other, "must be 'OrderedReady' or 'Parallel'"),
    }
    if let Some(strategy) = &spec.update_strategy {
        validate_strategy(strategy, errs);
    }
    if let Some(policy) = &spec.persistent_volume_claim_retention_policy {
        validate_retention(policy, errs);
    }
    counts::not_negative(spec.replicas, "spec.replicas", errs);
    counts::not_negative(spec.min_ready_seconds, "spec.minReadySeconds", errs);
    counts::not_negative(spec.revision_history_limit, "spec.revisionHistoryLimit", errs);
    let start = spec.ordinals.as_ref().and_then(|ordinals| ordinals.start);
    counts::not_negative(start, "spec.ordinals.start", errs);
    if let Some(service) = spec.service_name.as_deref().filter(|name| !name.is_empty())
        && old.is_none()
    {
        for why in label_problems(service) {
            errs.invalid("spec.serviceName", service, why);
        }
    }
    template::validate_selector(&spec.selector, errs);
    template::validate_match(&spec.selector, &spec.template, "spec.template", errs);
    // What is wrong with a template that is stored already must not keep the set from being scaled.
    if old.is_none_or(|old| old.template != spec.template) {
        template::validate(&with_claims(spec), "spec.template", errs);
    } else {
        template::validate_metadata(&spec.template, "spec.template", errs);
    }
    template::validate_endless(&spec.template, "StatefulSet", "spec.template", errs);
}

/// The template as its pods will be: with a volume for each claim, which takes the place of one of the same name.
fn with_claims(spec: &StatefulSetSpec) -> PodTemplateSpec {
    let mut template = spec.template.clone();
    let claims = spec.volume_claim_templates.iter().flatten().filter_map(|claim| claim.metadata.name.clone());
    if let Some(pod) = &mut template.spec {
        for name in claims {
            let volumes = pod.volumes.get_or_insert_default();
            let source = PersistentVolumeClaimVolumeSource { claim_name: name.clone(), ..Default::default() };
            let volume = Volume { name: name.clone(), persistent_volume_claim: Some(source), ..Volume::default() };
            match volumes.iter_mut().find(|volume| volume.name == name) {
                Some(same) => *same = volume,
                None => volumes.push(volume),
            }
        }
    }
    template
}

fn validate_strategy(strategy: &StatefulSetUpdateStrategy, errs: &mut FieldErrors) {
    let path = "spec.updateStrategy";
    let rolling = strategy.rolling_update.as_ref();
    match (strategy.type_.as_deref().unwrap_or_default(), rolling) {
        ("", _) => errs.required(path, ""),
        ("OnDelete", Some(rolling)) => {
            let why = "only allowed for updateStrategy 'RollingUpdate'";
            counts::invalid(format!("{path}.rollingUpdate"), rolling, why, errs);
        }
        (ROLLING, Some(rolling)) => validate_rolling(rolling, errs),
        ("OnDelete" | ROLLING, None) => {}
        _ => counts::invalid(path, strategy, "must be 'RollingUpdate' or 'OnDelete'", errs),
    }
}

fn validate_rolling(rolling: &RollingUpdateStatefulSetStrategy, errs: &mut FieldErrors) {
    counts::not_negative(rolling.partition, "spec.updateStrategy.rollingUpdate.partition", errs);
    if let Some(unavailable) = &rolling.max_unavailable {
        let path = "spec.updateStrategy.rollingUpdate.maxUnavailable";
        counts::amount(unavailable, path, errs);
        if counts::number(unavailable) == 0 {
            counts::invalid(path, unavailable, "cannot be 0", errs);
        }
        counts::at_most_all(unavailable, path, errs);
    }
}

fn validate_retention(policy: &StatefulSetPersistentVolumeClaimRetentionPolicy, errs: &mut FieldErrors) {
    for (field, value) in [("whenDeleted", &policy.when_deleted), ("whenScaled", &policy.when_scaled)] {
        let value = value.as_deref().unwrap_or_default();
        if !["Retain", "Delete"].contains(&value) {
            let path = format!("spec.persistentVolumeClaimRetentionPolicy.{field}");
            errs.not_supported(path, value, &["Retain", "Delete"]);
        }
    }
}
