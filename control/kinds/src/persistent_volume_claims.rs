//! PersistentVolumeClaims: a wish for storage.

use corten_api::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeClaimStatus, TypedLocalObjectReference,
    TypedObjectReference,
};
use corten_api::field::FieldErrors;
use corten_api::names::Names;
use corten_api::quantity::Quantity;
use corten_api::selector::Labels;
use corten_api::status::Status;
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::access_modes::CLASS_ANNOTATION;
use crate::kind::Kind;
use crate::persistent_volumes::VOLUME_MODES;
use crate::table::{NAME, age, column, wide};
use crate::{ColumnHead, Subresource, WriteContext, access_modes, amounts, text};

const CONDITION_RESIZING: [&str; 4] =
    ["ControllerResizeInProgress", "ControllerResizeInfeasible", "NodeResizePending", "NodeResizeInProgress"];

pub(crate) struct PersistentVolumeClaims;

impl Kind for PersistentVolumeClaims {
    type Object = PersistentVolumeClaim;

    const NAMES: Names = Names {
        group: "",
        version: "v1",
        kind: "PersistentVolumeClaim",
        plural: "persistentvolumeclaims",
        singular: "persistentvolumeclaim",
        short: &["pvc"],
        categories: &[],
    };
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const SHOW_DELETED: bool = true;
    const COLUMNS: &'static [ColumnHead] = &[
        NAME,
        column("Status"),
        column("Volume"),
        column("Capacity"),
        column("Access Modes"),
        column("StorageClass"),
        column("VolumeAttributesClass"),
        column("Age"),
        wide("VolumeMode"),
    ];
    const FIELDS: &'static [&'static str] = &["name"];

    fn cells(claim: &PersistentVolumeClaim, now: Timestamp) -> Vec<Value> {
        let spec = claim.spec.clone().unwrap_or_default();
        let status = claim.status.clone().unwrap_or_default();
        let bound = spec.volume_name.as_deref().is_some_and(|name| !name.is_empty());
        let capacity = status.capacity.as_ref().and_then(|capacity| capacity.get("storage"));
        let capacity = if bound { capacity.map_or_else(|| "0".to_owned(), amounts::shown) } else { String::new() };
        let modes = if bound { access_modes::shown(status.access_modes.as_ref()) } else { String::new() };
        let deleted = claim.metadata.deletion_timestamp.is_some();
        let beta = claim.metadata.annotations.as_ref().and_then(|all| all.get(CLASS_ANNOTATION).cloned());
        let unset = || "<unset>".to_owned();
        vec![
            json!(claim.metadata.name),
            if deleted { "Terminating".to_owned() } else { status.phase.unwrap_or_default() }.into(),
            spec.volume_name.unwrap_or_default().into(),
            capacity.into(),
            modes.into(),
            beta.or(spec.storage_class_name).unwrap_or_default().into(),
            spec.volume_attributes_class_name.unwrap_or_else(unset).into(),
            age(claim.metadata.creation_timestamp.as_ref(), now).into(),
            spec.volume_mode.unwrap_or_else(unset).into(),
        ]
    }

    fn default(claim: &mut PersistentVolumeClaim) {
        default_spec(claim.spec.get_or_insert_default());
        claim.status.get_or_insert_default().phase.get_or_insert_with(|| "Pending".to_owned());
    }

    fn prepare(
        new: &mut PersistentVolumeClaim,
        old: Option<&PersistentVolumeClaim>,
        _cx: &WriteContext<'_>,
    ) -> Result<(), Status> {
        if old.is_none() {
            let phase = Some("Pending".to_owned());
            new.status = Some(PersistentVolumeClaimStatus { phase, ..PersistentVolumeClaimStatus::default() });
            same_source(new.spec.get_or_insert_default());
        }
        Ok(())
    }

    fn validate(claim: &PersistentVolumeClaim, old: Option<&PersistentVolumeClaim>, errs: &mut FieldErrors) {
        let Some(spec) = &claim.spec else { return };
        validate_spec(spec, "spec", errs);
        if let Some(old) = old {
            validate_change(claim, old, errs);
        }
    }

    fn validate_status(claim: &PersistentVolumeClaim, _old: &PersistentVolumeClaim, errs: &mut FieldErrors) {
        let status = claim.status.clone().unwrap_or_default();
        for (name, amount) in status.capacity.iter().flatten() {
            amounts::amount(name, amount, &format!("status.capacity[{name}]"), errs);
        }
        for (name, state) in status.allocated_resource_statuses.iter().flatten() {
            let known = CONDITION_RESIZING.contains(&state.as_str()) || state == "NodeResizeInfeasible";
            if !known {
                let path = format!("status.allocatedResourceStatuses[{name}]");
                errs.not_supported(
                    path,
                    state,
                    &[
                        "ControllerResizeInProgress",
                        "ControllerResizeInfeasible",
                        "NodeResizeInProgress",
                        "NodeResizeInfeasible",
                        "NodeResizePending",
                    ],
                );
            }
        }
        for (name, amount) in status.allocated_resources.iter().flatten() {
            amounts::amount(name, amount, &format!("status.allocatedResources[{name}]"), errs);
        }
    }

    fn field(object: &Value, _name: &str) -> String {
        object["metadata"]["name"].as_str().unwrap_or_default().to_owned()
    }
}

/// Also for the claims that stateful sets and pods hold as templates.
pub(crate) fn default_spec(spec: &mut PersistentVolumeClaimSpec) {
    spec.volume_mode.get_or_insert_with(|| "Filesystem".to_owned());
}

/// A source in the old field and in the new one are the same source.
fn same_source(spec: &mut PersistentVolumeClaimSpec) {
    match (&spec.data_source, &spec.data_source_ref) {
        (Some(source), None) => {
            spec.data_source_ref = Some(TypedObjectReference {
                api_group: source.api_group.clone(),
                kind: source.kind.clone(),
                name: source.name.clone(),
                namespace: None,
            });
        }
        (None, Some(source)) if source.namespace.as_deref().is_none_or(str::is_empty) => {
            spec.data_source = Some(TypedLocalObjectReference {
                api_group: source.api_group.clone(),
                kind: source.kind.clone(),
                name: source.name.clone(),
            });
        }
        _ => {}
    }
}

/// Also for the claims that stateful sets and pods hold as templates.
pub(crate) fn validate_spec(spec: &PersistentVolumeClaimSpec, path: &str, errs: &mut FieldErrors) {
    let at = |field: &str| format!("{path}.{field}");
    let modes = spec.access_modes.as_deref().unwrap_or_default();
    if modes.is_empty() {
        errs.required(at("accessModes"), "at least 1 access mode is required");
    }
    if let Some(selector) = &spec.selector
        && let Err(error) = Labels::from_selector(selector)
    {
        errs.invalid(at("selector"), error.0, "invalid label selector");
    }
    access_modes::validate(modes, &at("accessModes"), errs);
    match storage(spec.resources.as_ref().and_then(|resources| resources.requests.as_ref())) {
        None => errs.required(at("resources[storage]"), ""),
        Some(amount) => {
            amounts::amount("storage", amount, &at("resources[storage]"), errs);
            amounts::positive(amount, &at("resources[storage]"), errs);
        }
    }
    for (field, class) in [
        ("storageClassName", &spec.storage_class_name),
        ("volumeAttributesClassName", &spec.volume_attributes_class_name),
    ] {
        if let Some(class) = class.as_deref().filter(|class| !class.is_empty()) {
            text::subdomain(class, &at(field), errs);
        }
    }
    text::one_of(spec.volume_mode.as_deref(), &VOLUME_MODES, &at("volumeMode"), errs);
    if let Some(source) = &spec.data_source {
        let group = source.api_group.as_deref();
        reference((&source.kind, &source.name, group), &at("dataSource"), errs);
    }
    let Some(source) = &spec.data_source_ref else { return };
    let group = source.api_group.as_deref();
    reference((&source.kind, &source.name, group), &at("dataSourceRef"), errs);
    let namespace = source.namespace.as_deref().filter(|namespace| !namespace.is_empty());
    if let Some(namespace) = namespace {
        text::dns_label(namespace, &at("dataSourceRef.namespace"), errs);
    }
    if let Some(old) = &spec.data_source {
        if namespace.is_some() {
            let why = "may not be specified when dataSourceRef.namespace is specified";
            errs.invalid(path, at("dataSource"), why);
        } else if (&old.kind, &old.name, &old.api_group) != (&source.kind, &source.name, &source.api_group) {
            errs.invalid(path, at("dataSource"), "must match dataSourceRef");
        }
    }
}

fn storage(
    amounts: Option<&amounts::Amounts>,
) -> Option<&corten_api::k8s_openapi::apimachinery::pkg::api::resource::Quantity> {
    amounts.and_then(|amounts| amounts.get("storage"))
}

fn reference((kind, name, group): (&str, &str, Option<&str>), path: &str, errs: &mut FieldErrors) {
    text::required(name, &format!("{path}.name"), errs);
    text::required(kind, &format!("{path}.kind"), errs);
    match group.unwrap_or_default() {
        "" if kind != "PersistentVolumeClaim" => {
            let why = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            errs.invalid(path, kind, why);
        }
        "" => {}
        group => text::subdomain(group, &format!("{path}.apiGroup"), errs),
    }
}

/// Claims stay what they were, so that quotas and limits hold; what may change is written out here.
fn validate_change(claim: &PersistentVolumeClaim, old: &PersistentVolumeClaim, errs: &mut FieldErrors) {
    const WHY: &str =
        "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
    let (Some(spec), Some(before)) = (&claim.spec, &old.spec) else { return };
    let mut allowed = spec.clone();
    let bound = old.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
    if before.volume_name.as_deref().is_none_or(str::is_empty) {
        allowed.volume_name.clone_from(&before.volume_name);
    }
    // A class may be given later to a claim that was made when there was no default one.
    let beta = old.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(CLASS_ANNOTATION));
    if before.storage_class_name.is_none() && !beta {
        allowed.storage_class_name = None;
    }
    if bound {
        let requests = allowed.resources.get_or_insert_default().requests.get_or_insert_default();
        match storage(before.resources.as_ref().and_then(|resources| resources.requests.as_ref())) {
            Some(amount) => drop(requests.insert("storage".to_owned(), amount.clone())),
            None => drop(requests.remove("storage")),
        }
        allowed.volume_attributes_class_name.clone_from(&before.volume_attributes_class_name);
    }
    if allowed != *before {
        errs.forbidden("spec", WHY);
    }
    let size = |claim: &PersistentVolumeClaim| -> Quantity {
        let resources = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref());
        storage(resources.and_then(|resources| resources.requests.as_ref())).map_or(Quantity::ZERO, amounts::read)
    };
    let has = storage(old.status.as_ref().and_then(|status| status.capacity.as_ref()));
    if size(claim) < size(old) && size(claim) <= has.map_or(Quantity::ZERO, amounts::read) {
        errs.forbidden("spec.resources.requests.storage", "field can not be less than status.capacity");
    }
    text::unchanged(&spec.volume_mode, &before.volume_mode, "volumeMode", errs);
    if let Some(was) = before.volume_attributes_class_name.as_deref() {
        let path = "spec.volumeAttributesClassName";
        match spec.volume_attributes_class_name.as_deref() {
            None => errs.forbidden(path, "update from non-nil value to nil is forbidden"),
            Some("") if !was.is_empty() => {
                errs.forbidden(path, "update from non-nil value to an empty string is forbidden");
            }
            Some(_) => {}
        }
    }
}
