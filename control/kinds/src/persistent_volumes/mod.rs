//! PersistentVolumes: storage of the cluster.

mod sources;

use corten_api::api::core::v1::{PersistentVolume, PersistentVolumeSpec, PersistentVolumeStatus};
use corten_api::field::FieldErrors;
use corten_api::meta::Time;
use corten_api::names::{Names, Scope};
use corten_api::status::Status;
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::access_modes::CLASS_ANNOTATION;
use crate::kind::Kind;
use crate::table::{NAME, age, column, wide};
use crate::{ColumnHead, Subresource, WriteContext, access_modes, amounts, selectors, text};

pub(crate) use sources::default as default_source;

const POLICIES: [&str; 3] = ["Delete", "Recycle", "Retain"];
pub(crate) const VOLUME_MODES: [&str; 2] = ["Block", "Filesystem"];

pub(crate) struct PersistentVolumes;

impl Kind for PersistentVolumes {
    type Object = PersistentVolume;

    const NAMES: Names = Names {
        group: "",
        version: "v1",
        kind: "PersistentVolume",
        plural: "persistentvolumes",
        singular: "persistentvolume",
        short: &["pv"],
        categories: &[],
    };
    const SCOPE: Scope = Scope::Cluster;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const SHOW_DELETED: bool = true;
    const COLUMNS: &'static [ColumnHead] = &[
        NAME,
        column("Capacity"),
        column("Access Modes"),
        column("Reclaim Policy"),
        column("Status"),
        column("Claim"),
        column("StorageClass"),
        column("VolumeAttributesClass"),
        column("Reason"),
        column("Age"),
        wide("VolumeMode"),
    ];
    const FIELDS: &'static [&'static str] = &["name"];

    fn cells(volume: &PersistentVolume, now: Timestamp) -> Vec<Value> {
        let spec = volume.spec.clone().unwrap_or_default();
        let status = volume.status.clone().unwrap_or_default();
        let capacity = spec.capacity.as_ref().and_then(|capacity| capacity.get("storage"));
        let claim = spec.claim_ref.unwrap_or_default();
        let claim = claim.name.map(|name| format!("{}/{name}", claim.namespace.unwrap_or_default()));
        let deleted = volume.metadata.deletion_timestamp.is_some();
        let beta = volume.metadata.annotations.as_ref().and_then(|all| all.get(CLASS_ANNOTATION).cloned());
        let unset = || "<unset>".to_owned();
        vec![
            json!(volume.metadata.name),
            capacity.map_or_else(|| "0".to_owned(), amounts::shown).into(),
            access_modes::shown(spec.access_modes.as_ref()).into(),
            spec.persistent_volume_reclaim_policy.unwrap_or_default().into(),
            if deleted { "Terminating".to_owned() } else { status.phase.unwrap_or_default() }.into(),
            claim.unwrap_or_default().into(),
            beta.or(spec.storage_class_name).unwrap_or_default().into(),
            spec.volume_attributes_class_name.unwrap_or_else(unset).into(),
            status.reason.unwrap_or_default().into(),
            age(volume.metadata.creation_timestamp.as_ref(), now).into(),
            spec.volume_mode.unwrap_or_else(unset).into(),
        ]
    }

    fn default(volume: &mut PersistentVolume) {
        let spec = volume.spec.get_or_insert_default();
        spec.persistent_volume_reclaim_policy.get_or_insert_with(|| "Retain".to_owned());
        spec.volume_mode.get_or_insert_with(|| "Filesystem".to_owned());
        sources::default(spec);
        volume.status.get_or_insert_default().phase.get_or_insert_with(|| "Pending".to_owned());
    }

    fn prepare(
        new: &mut PersistentVolume,
        old: Option<&PersistentVolume>,
        cx: &WriteContext<'_>,
    ) -> Result<(), Status> {
        if old.is_none() {
            new.status = Some(PersistentVolumeStatus {
                phase: Some("Pending".to_owned()),
                last_phase_transition_time: Some(Time(cx.now)),
                ..PersistentVolumeStatus::default()
            });
        }
        Ok(())
    }

    fn prepare_status(new: &mut PersistentVolume, old: &PersistentVolume, cx: &WriteContext<'_>) -> Result<(), Status> {
        let before = old.status.clone().unwrap_or_default();
        let status = new.status.get_or_insert_default();
        // Whoever says when is believed.
        if status.last_phase_transition_time == before.last_phase_transition_time && status.phase != before.phase {
            status.last_phase_transition_time = Some(Time(cx.now));
        }
        Ok(())
    }

    fn validate(volume: &PersistentVolume, old: Option<&PersistentVolume>, errs: &mut FieldErrors) {
        let Some(spec) = &volume.spec else { return };
        validate_spec(spec, "spec", errs);
        if let Some(before) = old.and_then(|old| old.spec.as_ref()) {
            validate_change(spec, before, errs);
        }
    }

    fn field(object: &Value, _name: &str) -> String {
        // An old way to say metadata.name, which clients still use.
        object["metadata"]["name"].as_str().unwrap_or_default().to_owned()
    }
}

/// Also judges the inline volume of an attachment.
pub(crate) fn validate_spec(spec: &PersistentVolumeSpec, path: &str, errs: &mut FieldErrors) {
    let at = |field: &str| format!("{path}.{field}");
    let modes = spec.access_modes.as_deref().unwrap_or_default();
    if modes.is_empty() {
        errs.required(at("accessModes"), "");
    }
    access_modes::validate(modes, &at("accessModes"), errs);
    let capacity = spec.capacity.clone().unwrap_or_default();
    if capacity.is_empty() {
        errs.required(at("capacity"), "");
    } else if !capacity.contains_key("storage") || capacity.len() > 1 {
        errs.push(
            at("capacity"),
            corten_api::field::Problem::NotSupported(
                serde_json::to_string(&capacity).unwrap_or_default(),
                vec!["storage".to_owned()],
            ),
        );
    }
    for (name, amount) in &capacity {
        let path = at(&format!("capacity[{name}]"));
        amounts::amount(name, amount, &path, errs);
        amounts::positive(amount, &path, errs);
    }
    let policy = spec.persistent_volume_reclaim_policy.as_deref();
    text::one_of(policy, &POLICIES, &at("persistentVolumeReclaimPolicy"), errs);
    if let Some(affinity) = &spec.node_affinity {
        match &affinity.required {
            Some(selector) => selectors::nodes(selector, &at("nodeAffinity.required"), errs),
            None => errs.required(at("nodeAffinity.required"), "must specify required node constraints"),
        }
    }
    sources::validate(spec, path, errs);
    let root = spec.host_path.as_ref().is_some_and(|source| normal(&source.path) == "/");
    if root && policy == Some("Recycle") {
        errs.forbidden(at("persistentVolumeReclaimPolicy"), "may not be 'recycle' for a hostPath of '/'");
    }
    if let Some(class) = spec.storage_class_name.as_deref().filter(|class| !class.is_empty()) {
        text::subdomain(class, &at("storageClassName"), errs);
    }
    text::one_of(spec.volume_mode.as_deref(), &VOLUME_MODES, &at("volumeMode"), errs);
    if let Some(class) = spec.volume_attributes_class_name.as_deref() {
        if class.is_empty() {
            errs.required(at("volumeAttributesClassName"), "an empty string is disallowed");
        } else {
            text::subdomain(class, &at("volumeAttributesClassName"), errs);
        }
        if spec.csi.is_none() {
            errs.required(at("csi"), "has to be specified when using volumeAttributesClassName");
        }
    }
}

/// A path without its detours.
fn normal(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    format!("/{}", parts.join("/"))
}

fn validate_change(spec: &PersistentVolumeSpec, before: &PersistentVolumeSpec, errs: &mut FieldErrors) {
    let mut source = sources::only(spec);
    let was = sources::only(before);
    // The secret for growing may come later than the volume.
    if let (Some(csi), Some(old)) = (&mut source.csi, &was.csi)
        && old.controller_expand_secret_ref.is_none()
    {
        csi.controller_expand_secret_ref = None;
    }
    if source != was {
        errs.forbidden("spec.persistentvolumesource", "spec.persistentvolumesource is immutable after creation");
    }
    text::unchanged(&spec.volume_mode, &before.volume_mode, "volumeMode", errs);
    if before.node_affinity.is_some() {
        text::unchanged(&spec.node_affinity, &before.node_affinity, "nodeAffinity", errs);
    }
    if let Some(was) = &before.volume_attributes_class_name {
        let path = "spec.volumeAttributesClassName";
        match &spec.volume_attributes_class_name {
            None => errs.forbidden(path, "update from non-nil value to nil is forbidden"),
            Some(new) if new.is_empty() && !was.is_empty() => {
                errs.forbidden(path, "update from non-nil value to an empty string is forbidden");
            }
            Some(_) => {}
        }
    }
}
