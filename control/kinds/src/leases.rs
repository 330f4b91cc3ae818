//! Leases: who holds what, and since when it last said so.

use corten_api::api::coordination::v1::Lease;
use corten_api::field::FieldErrors;
use corten_api::names::Names;
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::ColumnHead;
use crate::kind::Kind;
use crate::table::{NAME, age, column};

pub(crate) struct Leases;

impl Kind for Leases {
    type Object = Lease;

    const NAMES: Names = Names {
        group: "coordination.k8s.io",
        version: "v1",
        kind: "Lease",
        plural: "leases",
        singular: "lease",
        short: &[],
        categories: &[],
    };
    const UNCONDITIONAL_UPDATE: bool = false;
    const CREATE_ON_UPDATE: bool = true;
    const COLUMNS: &'static [ColumnHead] = &[NAME, column("Holder"), column("Age")];

    fn cells(lease: &Lease, now: Timestamp) -> Vec<Value> {
        let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone()).unwrap_or_default();
        vec![json!(lease.metadata.name), holder.into(), age(lease.metadata.creation_timestamp.as_ref(), now).into()]
    }

    fn validate(lease: &Lease, _old: Option<&Lease>, errs: &mut FieldErrors) {
        let Some(spec) = &lease.spec else { return };
        if let Some(seconds) = spec.lease_duration_seconds
            && seconds <= 0
        {
            errs.invalid("spec.leaseDurationSeconds", seconds, "must be greater than 0");
        }
        if let Some(count) = spec.lease_transitions
            && count < 0
        {
            errs.invalid("spec.leaseTransitions", count, "must be greater than or equal to 0");
        }
        let strategy = spec.strategy.as_deref().unwrap_or_default();
        if !strategy.is_empty() && strategy != "OldestEmulationVersion" && !strategy.contains('/') {
            errs.not_supported("spec.strategy", strategy, &["OldestEmulationVersion"]);
        }
        if strategy.is_empty() && spec.preferred_holder.as_ref().is_some_and(|holder| !holder.is_empty()) {
            errs.forbidden("spec.preferredHolder", "may only be specified if `strategy` is defined");
        }
    }
}
