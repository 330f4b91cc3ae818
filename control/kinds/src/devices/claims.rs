//! ResourceClaims: devices that pods of a namespace want.

use corten_api::api::resource::v1::{ResourceClaim, ResourceClaimStatus};
use corten_api::field::FieldErrors;
use corten_api::names::Names;
use corten_api::status::Status;
use corten_base::Timestamp;
use serde_json::{Value, json};

use super::{requests, status};
use crate::kind::Kind;
use crate::table::{NAME, age, column};
use crate::{ColumnHead, Subresource, WriteContext, text};

pub(crate) struct ResourceClaims;

impl Kind for ResourceClaims {
    type Object = ResourceClaim;

    const NAMES: Names = Names {
        group: "resource.k8s.io",
        version: "v1",
        kind: "ResourceClaim",
        plural: "resourceclaims",
        singular: "resourceclaim",
        short: &[],
        categories: &[],
    };
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const SHOW_DELETED: bool = true;
    const COLUMNS: &'static [ColumnHead] = &[NAME, column("State"), column("Age")];

    fn cells(claim: &ResourceClaim, now: Timestamp) -> Vec<Value> {
        let status = claim.status.clone().unwrap_or_default();
        let deleted = claim.metadata.deletion_timestamp.is_some();
        let states = [
            (deleted, "deleted"),
            (status.allocation.is_none() && !deleted, "pending"),
            (status.allocation.is_some(), "allocated"),
            (status.allocation.is_some() && status.reserved_for.is_some_and(|users| !users.is_empty()), "reserved"),
        ];
        let states: Vec<&str> = states.into_iter().filter(|(is, _)| *is).map(|(_, state)| state).collect();
        vec![
            json!(claim.metadata.name),
            states.join(",").into(),
            age(claim.metadata.creation_timestamp.as_ref(), now).into(),
        ]
    }

    fn default(claim: &mut ResourceClaim) {
        claim.spec.devices.iter_mut().for_each(requests::default);
    }

    fn prepare(new: &mut ResourceClaim, old: Option<&ResourceClaim>, _cx: &WriteContext<'_>) -> Result<(), Status> {
        if old.is_none() {
            new.status = Some(ResourceClaimStatus::default());
        }
        Ok(())
    }

    fn validate(claim: &ResourceClaim, old: Option<&ResourceClaim>, errs: &mut FieldErrors) {
        if let Some(old) = old {
            text::unchanged(&claim.spec, &old.spec, "spec", errs);
        }
        if let Some(devices) = &claim.spec.devices {
            requests::validate(devices, "spec.devices", errs);
        }
    }

    fn validate_status(claim: &ResourceClaim, old: &ResourceClaim, errs: &mut FieldErrors) {
        status::validate(claim, old, errs);
    }
}
