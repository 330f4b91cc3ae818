//! Paths in a pod's volumes, which must stay inside them.
//!
//! Wording and order: pkg/apis/core/validation/validation.go of Kubernetes v1.36.

use corten_api::api::core::v1::{DownwardAPIVolumeFile, KeyToPath, Volume, VolumeMount, VolumeProjection};
use corten_api::field::FieldErrors;

use super::env;

/// A path that leads down from where it starts.
pub(super) fn descending(value: &str, path: &str, errs: &mut FieldErrors) {
    if value.starts_with('/') {
        errs.invalid(path, value, "must be a relative path");
    }
    if value.split('/').any(|part| part == "..") {
        errs.invalid(path, value, "must not contain '..'");
    }
}

/// A path of a file in a volume that is made of parts. Names that begin with two dots are for the volume's own use.
pub(super) fn file(value: &str, path: &str, errs: &mut FieldErrors) {
    if value.is_empty() {
        return errs.required(path, "");
    }
    descending(value, path, errs);
    if value.starts_with("..") && !value.starts_with("../") {
        errs.invalid(path, value, "must not start with '..'");
    }
}

/// What a mount shows of its volume.
pub(super) fn mount(mount: &VolumeMount, path: &str, errs: &mut FieldErrors) {
    let given = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
    let (sub_path, sub_path_expr) = (given(&mount.sub_path), given(&mount.sub_path_expr));
    if let Some(value) = &sub_path {
        descending(value, &format!("{path}.subPath"), errs);
    }
    if let Some(value) = &sub_path_expr {
        let path = format!("{path}.subPathExpr");
        if sub_path.is_some() {
            errs.invalid(&path, value, "subPathExpr and subPath are mutually exclusive");
        }
        descending(value, &path, errs);
    }
}

/// Files that a volume is made of.
pub(super) fn volume(volume: &Volume, path: &str, errs: &mut FieldErrors) {
    if let Some(source) = &volume.config_map {
        items(source.items.as_deref(), &format!("{path}.configMap"), errs);
    }
    if let Some(source) = &volume.secret {
        items(source.items.as_deref(), &format!("{path}.secret"), errs);
    }
    if let Some(source) = &volume.downward_api {
        facts(source.items.as_deref(), &format!("{path}.downwardAPI"), errs);
    }
    let sources = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
    for (index, source) in sources.enumerate() {
        projection(source, &format!("{path}.projected.sources[{index}]"), errs);
    }
}

fn projection(source: &VolumeProjection, path: &str, errs: &mut FieldErrors) {
    if let Some(source) = &source.config_map {
        items(source.items.as_deref(), &format!("{path}.configMap"), errs);
    }
    if let Some(source) = &source.secret {
        items(source.items.as_deref(), &format!("{path}.secret"), errs);
    }
    if let Some(source) = &source.downward_api {
        facts(source.items.as_deref(), &format!("{path}.downwardAPI"), errs);
    }
    if let Some(source) = &source.service_account_token {
        file(&source.path, &format!("{path}.serviceAccountToken.path"), errs);
    }
}

fn items(items: Option<&[KeyToPath]>, path: &str, errs: &mut FieldErrors) {
    for (index, item) in items.unwrap_or_default().iter().enumerate() {
        let path = format!("{path}.items[{index}]");
        if item.key.is_empty() {
            errs.required(format!("{path}.key"), "");
        }
        file(&item.path, &format!("{path}.path"), errs);
    }
}

fn facts(items: Option<&[DownwardAPIVolumeFile]>, path: &str, errs: &mut FieldErrors) {
    for (index, item) in items.unwrap_or_default().iter().enumerate() {
        let path = format!("{path}.items[{index}]");
        file(&item.path, &format!("{path}.path"), errs);
        match (&item.field_ref, &item.resource_field_ref) {
            (Some(_), Some(_)) => {
                errs.invalid(path, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously");
            }
            (Some(field), None) => env::file_field_ref(field, &format!("{path}.fieldRef"), errs),
            (None, Some(resource)) => {
                env::resource_ref(resource, true, &format!("{path}.resourceFieldRef"), errs);
            }
            (None, None) => errs.required(path, "one of fieldRef and resourceFieldRef is required"),
        }
    }
}
