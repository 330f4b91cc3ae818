//! The volumes of a pod, by type.
//!
//! Wording: pkg/apis/core/validation of Kubernetes v1.36.

use std::collections::{BTreeMap, HashSet};

use corten_api::api::core::v1::{ProjectedVolumeSource, Volume, VolumeProjection};
use corten_api::field::FieldErrors;
use corten_api::label;
use corten_api::quantity::Quantity;
use serde_json::Value;

use super::paths;
use crate::meta::label_problems;
use crate::{net, selectors};

const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";

/// The volumes by name.
pub(super) fn validate<'a>(volumes: &'a [Volume], path: &str, errs: &mut FieldErrors) -> BTreeMap<&'a str, &'a Volume> {
    let mut names = BTreeMap::new();
    for (index, volume) in volumes.iter().enumerate() {
        let path = format!("{path}[{index}]");
        if volume.name.is_empty() {
            errs.required(format!("{path}.name"), "");
        } else {
            let problems = label_problems(&volume.name);
            problems.into_iter().for_each(|why| errs.invalid(format!("{path}.name"), &volume.name, why));
        }
        if names.insert(volume.name.as_str(), volume).is_some() {
            errs.duplicate(format!("{path}.name"), &volume.name);
        }
        source(volume, &path, errs);
    }
    names
}

fn source(volume: &Volume, path: &str, errs: &mut FieldErrors) {
    let value = serde_json::to_value(volume).unwrap_or_default();
    let mut sources = value.as_object().into_iter().flatten().filter(|(field, _)| *field != "name");
    let Some((kind, source)) = sources.next() else { return errs.required(path, "must specify a volume type") };
    for (extra, _) in sources {
        errs.forbidden(format!("{path}.{extra}"), "may not specify more than 1 volume type");
    }
    let path = format!("{path}.{kind}");
    // Fields that must be filled, by type; the rest has rules of its own below.
    let needed: &[&str] = match kind.as_str() {
        "awsElasticBlockStore" | "cinder" | "portworxVolume" => &["volumeID"],
        "azureDisk" => &["diskName", "diskURI"],
        "azureFile" => &["secretName", "shareName"],
        "cephfs" => &["monitors"],
        "configMap" => &["name"],
        "csi" | "flexVolume" => &["driver"],
        "gcePersistentDisk" => &["pdName"],
        "gitRepo" => &["repository"],
        "glusterfs" => &["endpoints", "path"],
        "hostPath" => &["path"],
        "image" => &["reference"],
        "iscsi" => &["targetPortal", "iqn"],
        "nfs" => &["server", "path"],
        "persistentVolumeClaim" => &["claimName"],
        "photonPersistentDisk" => &["pdID"],
        "quobyte" => &["registry", "volume"],
        "rbd" => &["monitors", "image"],
        "scaleIO" => &["gateway", "system", "volumeName"],
        "secret" => &["secretName"],
        "vsphereVolume" => &["volumePath"],
        _ => &[],
    };
    for field in needed {
        let empty = match &source[*field] {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            _ => false,
        };
        if empty {
            errs.required(format!("{path}.{field}"), "");
        }
    }
    if let Some(mode) = source["defaultMode"].as_i64().filter(|mode| !(0..=0o777).contains(mode)) {
        errs.invalid(format!("{path}.defaultMode"), mode, MODE);
    }
    for (index, item) in source["items"].as_array().into_iter().flatten().enumerate() {
        if let Some(mode) = item["mode"].as_i64().filter(|mode| !(0..=0o777).contains(mode)) {
            errs.invalid(format!("{path}.items[{index}].mode"), mode, MODE);
        }
    }
    special(volume, &path, errs);
}

fn special(volume: &Volume, path: &str, errs: &mut FieldErrors) {
    if let Some(source) = &volume.empty_dir
        && let Some(limit) = &source.size_limit
        && Quantity::of(limit).is_ok_and(Quantity::is_negative)
    {
        errs.forbidden(format!("{path}.sizeLimit"), "SizeLimit field must be a valid resource quantity");
    }
    if let Some(source) = &volume.host_path {
        if source.path.split('/').any(|part| part == "..") {
            errs.invalid(format!("{path}.path"), &source.path, "must not contain '..'");
        }
        let known =
            ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
        if let Some(kind) = source.type_.as_deref().filter(|kind| !known.contains(kind)) {
            errs.not_supported(format!("{path}.type"), kind, &known);
        }
    }
    if let Some(source) = &volume.git_repo
        && let Some(directory) = source.directory.as_deref().filter(|directory| !directory.is_empty())
    {
        paths::descending(directory, &format!("{path}.directory"), errs);
    }
    if let Some(source) = &volume.nfs
        && !source.path.is_empty()
        && !source.path.starts_with('/')
    {
        errs.invalid(format!("{path}.path"), &source.path, "must be an absolute path");
    }
    if let Some(source) = &volume.iscsi {
        let named = ["iqn", "eui", "naa"].iter().any(|prefix| source.iqn.starts_with(prefix));
        if !source.iqn.is_empty() && !named {
            errs.invalid(format!("{path}.iqn"), &source.iqn, "must be valid format starting with iqn, eui, or naa");
        }
        if !(0..=255).contains(&source.lun) {
            errs.invalid(format!("{path}.lun"), source.lun, "must be between 0 and 255, inclusive");
        }
        let chap = source.chap_auth_discovery == Some(true) || source.chap_auth_session == Some(true);
        if chap && source.secret_ref.is_none() {
            errs.required(format!("{path}.secretRef"), "");
        }
    }
    if let Some(source) = &volume.fc {
        let has = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
        match (has(&source.target_wwns), has(&source.wwids)) {
            (false, false) => {
                errs.required(format!("{path}.targetWWNs"), "must specify either targetWWNs or wwids, but not both");
            }
            (true, true) => {
                let why = "targetWWNs and wwids can not be specified simultaneously";
                errs.invalid(format!("{path}.targetWWNs"), source.target_wwns.clone().unwrap_or_default(), why);
            }
            (true, false) => match source.lun {
                None => errs.required(format!("{path}.lun"), "lun is required if targetWWNs is specified"),
                Some(lun) if !(0..=255).contains(&lun) => {
                    errs.invalid(format!("{path}.lun"), lun, "must be between 0 and 255, inclusive");
                }
                Some(_) => {}
            },
            (false, true) => {}
        }
    }
    if let Some(source) = &volume.flocker {
        let filled = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        match (filled(&source.dataset_name), filled(&source.dataset_uuid)) {
            (false, false) => errs.required(path, "one of datasetName and datasetUUID is required"),
            (true, true) => {
                errs.invalid(path, "resource", "datasetName and datasetUUID can not be specified simultaneously");
            }
            _ => {}
        }
    }
    if let Some(source) = &volume.azure_disk {
        let modes = ["None", "ReadOnly", "ReadWrite"];
        if let Some(mode) = source.caching_mode.as_deref().filter(|mode| !modes.contains(mode)) {
            errs.not_supported(format!("{path}.cachingMode"), mode, &modes);
        }
        let kinds = ["Dedicated", "Managed", "Shared"];
        if let Some(kind) = source.kind.as_deref().filter(|kind| !kinds.contains(kind)) {
            errs.not_supported(format!("{path}.kind"), kind, &kinds);
        }
    }
    if let Some(source) = &volume.csi {
        let path = format!("{path}.driver");
        if source.driver.len() > 63 {
            errs.push(&path, corten_api::field::Problem::TooLong(63));
        }
        let lower = source.driver.to_lowercase();
        let problems = if lower.is_empty() { Vec::new() } else { label::subdomain_problems(&lower) };
        problems.into_iter().for_each(|why| errs.invalid(&path, &source.driver, why));
    }
    if let Some(source) = &volume.image {
        let known = ["Always", "IfNotPresent", "Never"];
        if let Some(policy) =
            source.pull_policy.as_deref().filter(|policy| !policy.is_empty() && !known.contains(policy))
        {
            errs.not_supported(format!("{path}.pullPolicy"), policy, &known);
        }
    }
    if let Some(source) = &volume.ephemeral {
        claim_template(source.volume_claim_template.as_ref(), &format!("{path}.volumeClaimTemplate"), errs);
    }
    if let Some(source) = &volume.projected {
        projected(source, path, errs);
    }
    // Paths of files; its own path is that of the volume.
    let volume_path = path.rsplit_once('.').map_or(path, |(volume, _)| volume);
    paths::volume(volume, volume_path, errs);
}

fn claim_template(
    template: Option<&corten_api::api::core::v1::PersistentVolumeClaimTemplate>,
    path: &str,
    errs: &mut FieldErrors,
) {
    let Some(template) = template else { return errs.required(path, "") };
    let spec = &template.spec;
    let modes = spec.access_modes.as_deref().unwrap_or_default();
    if modes.is_empty() {
        errs.required(format!("{path}.spec.accessModes"), "at least 1 access mode is required");
    }
    let known = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
    for mode in modes.iter().filter(|mode| !known.contains(&mode.as_str())) {
        errs.not_supported(format!("{path}.spec.accessModes"), mode, &known);
    }
    selectors::optional(spec.selector.as_ref(), &format!("{path}.spec.selector"), errs);
    let path = format!("{path}.spec.resources[storage]");
    match spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()?.get("storage")) {
        None => errs.required(path, ""),
        Some(text) => match Quantity::of(text) {
            Ok(size) if size.is_zero() || size.is_negative() => {
                errs.invalid(path, &text.0, "must be greater than zero");
            }
            Ok(_) => {}
            Err(error) => errs.invalid(path, &text.0, error.to_string()),
        },
    }
}

fn projected(source: &ProjectedVolumeSource, path: &str, errs: &mut FieldErrors) {
    let mut files = HashSet::new();
    for (index, part) in source.sources.iter().flatten().enumerate() {
        let path = format!("{path}.sources[{index}]");
        projection(part, &path, &mut files, errs);
    }
}

fn projection(part: &VolumeProjection, path: &str, files: &mut HashSet<String>, errs: &mut FieldErrors) {
    let given = [
        ("secret", part.secret.is_some()),
        ("downwardAPI", part.downward_api.is_some()),
        ("configMap", part.config_map.is_some()),
        ("serviceAccountToken", part.service_account_token.is_some()),
        ("clusterTrustBundle", part.cluster_trust_bundle.is_some()),
        ("podCertificate", part.pod_certificate.is_some()),
    ];
    let mut given = given.into_iter().filter(|(_, is)| *is);
    if given.next().is_none() {
        errs.required(path, "must specify one of: secret, configMap, downwardAPI, serviceAccountToken, clusterTrustBundle, podCertificate");
    }
    for (extra, _) in given {
        errs.forbidden(format!("{path}.{extra}"), "may not specify more than 1 volume type");
    }
    let mut once = |file: &str, errs: &mut FieldErrors| {
        if !file.is_empty() && !files.insert(file.to_owned()) {
            errs.invalid(path, file, format!("conflicting duplicate paths: {file}"));
        }
    };
    for (field, name, items) in [
        (
            "secret",
            part.secret.as_ref().map(|from| &from.name),
            part.secret.as_ref().and_then(|from| from.items.as_ref()),
        ),
        (
            "configMap",
            part.config_map.as_ref().map(|from| &from.name),
            part.config_map.as_ref().and_then(|from| from.items.as_ref()),
        ),
    ] {
        if name.is_some_and(String::is_empty) {
            errs.required(format!("{path}.{field}.name"), "");
        }
        items.into_iter().flatten().for_each(|item| once(&item.path, errs));
    }
    part.downward_api.iter().flat_map(|from| from.items.iter().flatten()).for_each(|item| once(&item.path, errs));
    if let Some(token) = &part.service_account_token {
        once(&token.path, errs);
        let path = format!("{path}.serviceAccountToken.expirationSeconds");
        match token.expiration_seconds.unwrap_or(0) {
            seconds if seconds < 600 => errs.invalid(path, seconds, "may not specify a duration less than 10 minutes"),
            seconds if seconds > 1 << 32 => {
                errs.invalid(path, seconds, "may not specify a duration larger than 2^32 seconds");
            }
            _ => {}
        }
    }
    if let Some(bundle) = &part.cluster_trust_bundle {
        let path = format!("{path}.clusterTrustBundle");
        match (bundle.name.is_some(), bundle.signer_name.is_some()) {
            (true, true) => errs.invalid(&path, "", "only one of name and signerName may be used"),
            (false, false) => errs.required(&path, "either name or signerName must be specified"),
            _ => {}
        }
        selectors::optional(bundle.label_selector.as_ref(), &format!("{path}.labelSelector"), errs);
        paths::file(&bundle.path, &format!("{path}.path"), errs);
        once(&bundle.path, errs);
    }
    if let Some(certificate) = &part.pod_certificate {
        let path = format!("{path}.podCertificate");
        net::domain_path(&certificate.signer_name, &format!("{path}.signerName"), errs);
        let types = ["ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519", "RSA3072", "RSA4096"];
        if !types.contains(&certificate.key_type.as_str()) {
            errs.not_supported(format!("{path}.keyType"), &certificate.key_type, &types);
        }
        for (field, file) in [
            ("credentialBundlePath", &certificate.credential_bundle_path),
            ("keyPath", &certificate.key_path),
            ("certificateChainPath", &certificate.certificate_chain_path),
        ] {
            if let Some(file) = file.as_deref().filter(|file| !file.is_empty()) {
                paths::file(file, &format!("{path}.{field}"), errs);
                once(file, errs);
            }
        }
    }
}
