//! PersistentVolumeClaimResize: claims grow only if their class can make volumes grow.

use corten_api::quantity::Quantity;
use corten_api::status::Status;
use serde_json::Value;

use super::pod_resources::amount;
use super::{Attempt, Plugin};

pub(super) struct PersistentVolumeClaimResize;

impl Plugin for PersistentVolumeClaimResize {
    fn validate(&self, write: &Attempt<'_>, claim: &Value) -> Result<(), Status> {
        let Some(old) = write.old.filter(|_| write.is("", "PersistentVolumeClaim")) else { return Ok(()) };
        if size(claim) <= size(old) {
            return Ok(());
        }
        if old["status"]["phase"] != "Bound" {
            return Err(write.forbidden(claim, "Only bound persistent volume claims can be expanded"));
        }
        let class = claim["spec"]["storageClassName"].as_str().unwrap_or_default();
        let class = write.find("storageclasses", None, class)?.unwrap_or_default();
        if class["allowVolumeExpansion"] == true {
            return Ok(());
        }
        let why = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize";
        Err(write.forbidden(claim, why))
    }
}

fn size(claim: &Value) -> Quantity {
    amount(&claim["spec"]["resources"]["requests"]["storage"])
}
