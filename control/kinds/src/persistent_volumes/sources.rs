//! Where a persistent volume's bytes are: one of many sources, most of them of old.
//!
//! Wording: pkg/apis/core/validation of Kubernetes v1.36. Defaults: pkg/apis/core/v1/defaults.go.

use corten_api::api::core::v1::{PersistentVolumeSpec, SecretReference};
use corten_api::field::FieldErrors;

use crate::text::{dns_label, driver, no_climbing, one_of, required};

/// Fills in what a source leaves out.
pub(crate) fn default(spec: &mut PersistentVolumeSpec) {
    fn word(field: &mut Option<String>, default: &str) {
        if field.as_deref().is_none_or(str::is_empty) {
            *field = Some(default.to_owned());
        }
    }
    if let Some(source) = &mut spec.host_path {
        source.type_.get_or_insert_default();
    }
    if let Some(source) = &mut spec.iscsi {
        word(&mut source.iscsi_interface, "default");
    }
    if let Some(source) = &mut spec.rbd {
        word(&mut source.pool, "rbd");
        word(&mut source.user, "admin");
        word(&mut source.keyring, "/etc/ceph/keyring");
    }
    if let Some(source) = &mut spec.azure_disk {
        source.caching_mode.get_or_insert_with(|| "ReadWrite".to_owned());
        source.kind.get_or_insert_with(|| "Shared".to_owned());
        source.fs_type.get_or_insert_with(|| "ext4".to_owned());
        source.read_only.get_or_insert(false);
    }
    if let Some(source) = &mut spec.scale_io {
        word(&mut source.storage_mode, "ThinProvisioned");
        word(&mut source.fs_type, "xfs");
    }
}

/// The spec with its source alone.
pub(super) fn only(spec: &PersistentVolumeSpec) -> PersistentVolumeSpec {
    PersistentVolumeSpec {
        access_modes: None,
        capacity: None,
        claim_ref: None,
        mount_options: None,
        node_affinity: None,
        persistent_volume_reclaim_policy: None,
        storage_class_name: None,
        volume_attributes_class_name: None,
        volume_mode: None,
        ..spec.clone()
    }
}

/// Holds every source that is set against its rules, and demands exactly one.
pub(super) fn validate(spec: &PersistentVolumeSpec, path: &str, errs: &mut FieldErrors) {
    let mut rules = Rules { path, found: 0, errs };
    if let Some(source) = &spec.host_path
        && rules.begin("hostPath")
    {
        let types =
            ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
        rules.required(&source.path, "hostPath.path");
        no_climbing(&source.path, &rules.at("hostPath.path"), rules.errs);
        one_of(source.type_.as_deref(), &types, &rules.at("hostPath.type"), rules.errs);
    }
    if let Some(source) = &spec.gce_persistent_disk
        && rules.begin("gcePersistentDisk")
    {
        rules.required(&source.pd_name, "gcePersistentDisk.pdName");
        rules.partition(source.partition, "gcePersistentDisk.partition");
    }
    if let Some(source) = &spec.aws_elastic_block_store
        && rules.begin("awsElasticBlockStore")
    {
        rules.required(&source.volume_id, "awsElasticBlockStore.volumeID");
        rules.partition(source.partition, "awsElasticBlockStore.partition");
    }
    if let Some(source) = &spec.glusterfs
        && rules.begin("glusterfs")
    {
        rules.required(&source.endpoints, "glusterfs.endpoints");
        rules.required(&source.path, "glusterfs.path");
        if source.endpoints_namespace.as_deref() == Some("") {
            let why = "if the endpointnamespace is set, it must be a valid namespace name";
            rules.errs.invalid(rules.at("glusterfs.endpointsNamespace"), "", why);
        }
    }
    if let Some(source) = &spec.flocker
        && rules.begin("flocker")
    {
        let (name, uuid) = (source.dataset_name.clone().unwrap_or_default(), source.dataset_uuid.clone());
        let uuid = uuid.unwrap_or_default();
        if name.is_empty() && uuid.is_empty() {
            rules.errs.required(rules.at("flocker"), "one of datasetName and datasetUUID is required");
        }
        if !name.is_empty() && !uuid.is_empty() {
            let why = "resource can not be specified simultaneously for both datasetUUID and datasetName";
            rules.errs.invalid(rules.at("flocker"), "resource", why);
        }
        if name.contains('/') {
            rules.errs.invalid(rules.at("flocker.datasetName"), &name, "must not contain '/'");
        }
    }
    if let Some(source) = &spec.nfs
        && rules.begin("nfs")
    {
        rules.required(&source.server, "nfs.server");
        rules.required(&source.path, "nfs.path");
        if !source.path.starts_with('/') {
            rules.errs.invalid(rules.at("nfs.path"), &source.path, "must be an absolute path");
        }
    }
    if let Some(source) = &spec.rbd
        && rules.begin("rbd")
    {
        rules.list(&source.monitors, "rbd.monitors");
        rules.required(&source.image, "rbd.image");
    }
    if let Some(source) = &spec.quobyte
        && rules.begin("quobyte")
    {
        quobyte(&source.registry, &source.volume, source.tenant.as_deref(), &mut rules);
    }
    if let Some(source) = &spec.cephfs
        && rules.begin("cephfs")
    {
        rules.list(&source.monitors, "cephfs.monitors");
    }
    if let Some(source) = &spec.iscsi
        && rules.begin("iscsi")
    {
        rules.required(&source.target_portal, "iscsi.targetPortal");
        iqn(&source.iqn, &mut rules);
        if !(0..=255).contains(&source.lun) {
            rules.errs.invalid(rules.at("iscsi.lun"), source.lun, "must be between 0 and 255, inclusive");
        }
        let chap = source.chap_auth_discovery == Some(true) || source.chap_auth_session == Some(true);
        if chap && source.secret_ref.is_none() {
            rules.errs.required(rules.at("iscsi.secretRef"), "");
        }
        if let Some(secret) = &source.secret_ref {
            rules.required(secret.name.as_deref().unwrap_or_default(), "iscsi.secretRef.name");
        }
    }
    if let Some(source) = &spec.cinder
        && rules.begin("cinder")
    {
        rules.required(&source.volume_id, "cinder.volumeID");
        if let Some(secret) = &source.secret_ref {
            rules.secret(secret, "cinder.secretRef");
        }
    }
    if let Some(source) = &spec.fc
        && rules.begin("fc")
    {
        let names = source.target_wwns.as_ref().is_some_and(|names| !names.is_empty());
        let ids = source.wwids.as_ref().is_some_and(|ids| !ids.is_empty());
        match (names, ids) {
            (false, false) => {
                let why = "must specify either targetWWNs or wwids, but not both";
                rules.errs.required(rules.at("fc.targetWWNs"), why);
            }
            (true, true) => {
                let shown = source.target_wwns.clone().unwrap_or_default();
                rules.errs.invalid(
                    rules.at("fc.targetWWNs"),
                    shown,
                    "targetWWNs and wwids can not be specified simultaneously",
                );
            }
            (true, false) => match source.lun {
                None => rules.errs.required(rules.at("fc.lun"), "lun is required if targetWWNs is specified"),
                Some(lun) if !(0..=255).contains(&lun) => {
                    rules.errs.invalid(rules.at("fc.lun"), lun, "must be between 0 and 255, inclusive");
                }
                Some(_) => {}
            },
            (false, true) => {}
        }
    }
    if let Some(source) = &spec.flex_volume
        && rules.begin("flexVolume")
    {
        rules.required(&source.driver, "flexVolume.driver");
        for key in source.options.iter().flatten().map(|(key, _)| key) {
            let domain = key.split('/').next().unwrap_or_default();
            let reserved = ["kubernetes.io", "k8s.io"];
            if key.contains('/') && reserved.iter().any(|own| domain == *own || domain.ends_with(&format!(".{own}"))) {
                let why = "kubernetes.io and k8s.io namespaces are reserved for Kubernetes internal usage";
                rules.errs.invalid(rules.at(&format!("flexVolume.options.{key}")), key, why);
            }
        }
    }
    if let Some(source) = &spec.azure_file
        && rules.begin("azureFile")
    {
        rules.required(&source.secret_name, "azureFile.secretName");
        rules.required(&source.share_name, "azureFile.shareName");
        if source.secret_namespace.as_deref() == Some("") {
            rules.errs.invalid(rules.at("azureFile.secretNamespace"), "", "secretNamespace is invalid");
        }
    }
    if let Some(source) = &spec.vsphere_volume
        && rules.begin("vsphereVolume")
    {
        rules.required(&source.volume_path, "vsphereVolume.volumePath");
    }
    if let Some(source) = &spec.photon_persistent_disk
        && rules.begin("photonPersistentDisk")
    {
        rules.required(&source.pd_id, "photonPersistentDisk.pdID");
    }
    if let Some(source) = &spec.portworx_volume
        && rules.begin("portworxVolume")
    {
        rules.required(&source.volume_id, "portworxVolume.volumeID");
    }
    if let Some(source) = &spec.azure_disk
        && rules.begin("azureDisk")
    {
        azure_disk(source, &mut rules);
    }
    if let Some(source) = &spec.scale_io
        && rules.begin("scaleIO")
    {
        rules.required(&source.gateway, "scaleIO.gateway");
        rules.required(&source.system, "scaleIO.system");
        rules.required(source.volume_name.as_deref().unwrap_or_default(), "scaleIO.volumeName");
    }
    if let Some(source) = &spec.local
        && rules.begin("local")
    {
        rules.required(&source.path, "local.path");
        no_climbing(&source.path, &rules.at("local.path"), rules.errs);
        if spec.node_affinity.is_none() {
            rules.errs.required(rules.at("nodeAffinity"), "Local volume requires node affinity");
        }
    }
    if let Some(source) = &spec.storageos
        && rules.begin("storageos")
    {
        let name = source.volume_name.clone().unwrap_or_default();
        if name.is_empty() {
            rules.errs.required(rules.at("storageos.volumeName"), "");
        } else {
            dns_label(&name, &rules.at("storageos.volumeName"), rules.errs);
        }
        if let Some(namespace) = source.volume_namespace.as_deref().filter(|text| !text.is_empty()) {
            dns_label(namespace, &rules.at("storageos.volumeNamespace"), rules.errs);
        }
        if let Some(secret) = &source.secret_ref {
            rules.required(secret.name.as_deref().unwrap_or_default(), "storageos.secretRef.name");
            rules.required(secret.namespace.as_deref().unwrap_or_default(), "storageos.secretRef.namespace");
        }
    }
    if let Some(source) = &spec.csi
        && rules.begin("csi")
    {
        driver(&source.driver, &rules.at("csi.driver"), rules.errs);
        rules.required(&source.volume_handle, "csi.volumeHandle");
        for (field, secret) in [
            ("controllerPublishSecretRef", &source.controller_publish_secret_ref),
            ("controllerExpandSecretRef", &source.controller_expand_secret_ref),
            ("nodePublishSecretRef", &source.node_publish_secret_ref),
            ("nodeExpandSecretRef", &source.node_expand_secret_ref),
        ] {
            if let Some(secret) = secret {
                rules.secret(secret, &format!("csi.{field}"));
            }
        }
    }
    if rules.found == 0 {
        rules.errs.required(path, "must specify a volume type");
    }
}

/// What the rules of all sources share.
struct Rules<'a, 'b> {
    path: &'a str,
    found: u32,
    errs: &'b mut FieldErrors,
}

impl Rules<'_, '_> {
    fn at(&self, field: &str) -> String {
        format!("{}.{field}", self.path)
    }

    /// Whether this source is the first, whose fields are judged.
    fn begin(&mut self, source: &str) -> bool {
        self.found += 1;
        if self.found > 1 {
            self.errs.forbidden(self.at(source), "may not specify more than 1 volume type");
        }
        self.found == 1
    }

    fn required(&mut self, value: &str, field: &str) {
        required(value, &self.at(field), self.errs);
    }

    fn list(&mut self, values: &[String], field: &str) {
        if values.is_empty() {
            self.errs.required(self.at(field), "");
        }
    }

    fn partition(&mut self, partition: Option<i32>, field: &str) {
        if let Some(number) = partition.filter(|number| !(0..=255).contains(number)) {
            self.errs.invalid(self.at(field), number, "must be between 0 and 255, inclusive");
        }
    }

    fn secret(&mut self, secret: &SecretReference, field: &str) {
        for (part, value) in [("name", &secret.name), ("namespace", &secret.namespace)] {
            let path = self.at(&format!("{field}.{part}"));
            match value.as_deref().unwrap_or_default() {
                "" => self.errs.required(path, ""),
                value => dns_label(value, &path, self.errs),
            }
        }
    }
}

fn quobyte(registry: &str, volume: &str, tenant: Option<&str>, rules: &mut Rules<'_, '_>) {
    if registry.is_empty() {
        let why = "must be a host:port pair or multiple pairs separated by commas";
        rules.errs.required(rules.at("quobyte.registry"), why);
    } else if tenant.unwrap_or_default().len() >= 65 {
        rules.errs.required(rules.at("quobyte.tenant"), "must be a UUID and may not exceed a length of 64 characters");
    } else if registry.split(',').any(|pair| !pair.contains(':')) {
        let why = "must be a host:port pair or multiple pairs separated by commas";
        rules.errs.invalid(rules.at("quobyte.registry"), registry, why);
    }
    rules.required(volume, "quobyte.volume");
}

fn iqn(name: &str, rules: &mut Rules<'_, '_>) {
    if name.is_empty() {
        return rules.errs.required(rules.at("iscsi.iqn"), "");
    }
    if !["iqn", "eui", "naa"].iter().any(|kind| name.starts_with(kind)) {
        rules.errs.invalid(rules.at("iscsi.iqn"), name, "must be valid format starting with iqn, eui, or naa");
    }
}

fn azure_disk(source: &corten_api::api::core::v1::AzureDiskVolumeSource, rules: &mut Rules<'_, '_>) {
    rules.required(&source.disk_name, "azureDisk.diskName");
    rules.required(&source.disk_uri, "azureDisk.diskURI");
    let modes = ["None", "ReadOnly", "ReadWrite"];
    one_of(source.caching_mode.as_deref(), &modes, &rules.at("azureDisk.cachingMode"), rules.errs);
    let kinds = ["Dedicated", "Managed", "Shared"];
    one_of(source.kind.as_deref(), &kinds, &rules.at("azureDisk.kind"), rules.errs);
    let uri = source.disk_uri.as_str();
    let managed = source.kind.as_deref() == Some("Managed");
    if managed && !uri.is_empty() && !uri.starts_with("/subscriptions/") {
        let form = "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}";
        rules.errs.not_supported(rules.at("azureDisk.diskURI"), uri, &[form]);
    }
    if !managed && !uri.is_empty() && !uri.starts_with("http") {
        let form = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd";
        rules.errs.not_supported(rules.at("azureDisk.diskURI"), uri, &[form]);
    }
}
