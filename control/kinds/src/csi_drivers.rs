//! CSIDrivers: what a storage driver can do and wants.

use corten_api::api::storage::v1::CSIDriver;
use corten_api::field::FieldErrors;
use corten_api::names::{Names, Scope};
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::kind::Kind;
use crate::table::{NAME, age, boolean, column, or_none};
use crate::{ColumnHead, text};

pub(crate) struct CsiDrivers;

impl Kind for CsiDrivers {
    type Object = CSIDriver;

    const NAMES: Names = Names {
        group: "storage.k8s.io",
        version: "v1",
        kind: "CSIDriver",
        plural: "csidrivers",
        singular: "csidriver",
        short: &[],
        categories: &[],
    };
    const UNCONDITIONAL_UPDATE: bool = false;
    const SCOPE: Scope = Scope::Cluster;
    const SHOW_DELETED: bool = true;
    const COLUMNS: &'static [ColumnHead] = &[
        NAME,
        boolean("AttachRequired"),
        boolean("PodInfoOnMount"),
        boolean("StorageCapacity"),
        column("TokenRequests"),
        boolean("RequiresRepublish"),
        column("Modes"),
        column("Age"),
    ];

    fn cells(driver: &CSIDriver, now: Timestamp) -> Vec<Value> {
        let spec = &driver.spec;
        let requests = spec.token_requests.as_deref().unwrap_or_default();
        let audiences: Vec<&str> = requests.iter().map(|request| request.audience.as_str()).collect();
        let tokens = if requests.is_empty() { "<unset>".to_owned() } else { audiences.join(",") };
        let modes = spec.volume_lifecycle_modes.clone().unwrap_or_default().join(",");
        vec![
            json!(driver.metadata.name),
            spec.attach_required.unwrap_or(true).into(),
            spec.pod_info_on_mount.unwrap_or(false).into(),
            spec.storage_capacity.unwrap_or(false).into(),
            tokens.into(),
            spec.requires_republish.unwrap_or(false).into(),
            or_none(modes).into(),
            age(driver.metadata.creation_timestamp.as_ref(), now).into(),
        ]
    }

    fn default(driver: &mut CSIDriver) {
        let spec = &mut driver.spec;
        spec.attach_required.get_or_insert(true);
        spec.pod_info_on_mount.get_or_insert(false);
        spec.storage_capacity.get_or_insert(false);
        spec.fs_group_policy.get_or_insert_with(|| "ReadWriteOnceWithFSType".to_owned());
        if spec.volume_lifecycle_modes.as_ref().is_none_or(Vec::is_empty) {
            spec.volume_lifecycle_modes = Some(vec!["Persistent".to_owned()]);
        }
        spec.requires_republish.get_or_insert(false);
        spec.se_linux_mount.get_or_insert(false);
    }

    fn validate(driver: &CSIDriver, old: Option<&CSIDriver>, errs: &mut FieldErrors) {
        let (spec, name) = (&driver.spec, driver.metadata.name.as_deref().unwrap_or_default());
        text::driver(name, "metadata.name", errs);
        for (field, value) in [
            ("attachedRequired", spec.attach_required),
            ("podInfoOnMount", spec.pod_info_on_mount),
            ("storageCapacity", spec.storage_capacity),
        ] {
            if value.is_none() {
                errs.required(format!("spec.{field}"), "");
            }
        }
        let policies = ["File", "None", "ReadWriteOnceWithFSType"];
        text::one_of(spec.fs_group_policy.as_deref(), &policies, "spec.fsGroupPolicy", errs);
        for (index, request) in spec.token_requests.iter().flatten().enumerate() {
            let path = format!("spec.tokenRequests[{index}]");
            let earlier = &spec.token_requests.as_deref().unwrap_or_default()[..index];
            if earlier.iter().any(|other| other.audience == request.audience) {
                errs.duplicate(format!("{path}.audience"), &request.audience);
            }
            let Some(seconds) = request.expiration_seconds else { continue };
            let path = format!("{path}.expirationSeconds");
            if seconds < 600 {
                errs.invalid(path, seconds, "may not specify a duration less than 10 minutes");
            } else if seconds > 1 << 32 {
                errs.invalid(path, seconds, "may not specify a duration larger than 2^32 seconds");
            }
        }
        for mode in spec.volume_lifecycle_modes.iter().flatten() {
            text::one_of(Some(mode), &["Ephemeral", "Persistent"], "spec.volumeLifecycleModes", errs);
        }
        if let Some(seconds) = spec.node_allocatable_update_period_seconds.filter(|&seconds| seconds < 10) {
            let path = "spec.nodeAllocatableUpdatePeriodSeconds";
            errs.invalid(path, seconds, "must be greater than or equal to 10 seconds");
        }
        let Some(old) = old else { return };
        text::unchanged(&spec.attach_required, &old.spec.attach_required, "spec.attachedRequired", errs);
        let (modes, were) = (&spec.volume_lifecycle_modes, &old.spec.volume_lifecycle_modes);
        text::unchanged(modes, were, "spec.volumeLifecycleModes", errs);
    }
}
