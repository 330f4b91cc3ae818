//! CertificateSigningRequests: who wants a certificate, whether it may have one, and the certificate.
//!
//! Rules and wording: pkg/apis/certificates and pkg/registry/certificates of Kubernetes v1.36.

mod request;
mod signers;
mod validate;

use corten_api::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition, CertificateSigningRequestStatus,
};
use corten_api::field::FieldErrors;
use corten_api::meta::Time;
use corten_api::names::{Names, Scope};
use corten_api::status::Status;
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::kind::Kind;
use crate::table::{NAME, age, column, human};
use crate::{ColumnHead, Subresource, WriteContext};

const APPROVED: &str = "Approved";
const DENIED: &str = "Denied";
const FAILED: &str = "Failed";

pub(crate) struct SigningRequests;

impl Kind for SigningRequests {
    type Object = CertificateSigningRequest;

    const NAMES: Names = Names {
        group: "certificates.k8s.io",
        version: "v1",
        kind: "CertificateSigningRequest",
        plural: "certificatesigningrequests",
        singular: "certificatesigningrequest",
        short: &["csr"],
        categories: &[],
    };
    const SCOPE: Scope = Scope::Cluster;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status, Subresource::Approval];
    const COLUMNS: &'static [ColumnHead] = &[
        NAME,
        column("Age"),
        column("SignerName"),
        column("Requestor"),
        column("RequestedDuration"),
        column("Condition"),
    ];
    const FIELDS: &'static [&'static str] = &["spec.signerName"];

    fn cells(csr: &CertificateSigningRequest, now: Timestamp) -> Vec<Value> {
        let spec = &csr.spec;
        let seconds = spec.expiration_seconds.map_or_else(|| "<none>".to_owned(), |s| human(i64::from(s)));
        let has = |kind: &str| conditions(csr).iter().any(|condition| condition.type_ == kind);
        let mut state = if has(DENIED) {
            DENIED.to_owned()
        } else if has(APPROVED) {
            APPROVED.to_owned()
        } else {
            "Pending".to_owned()
        };
        if has(FAILED) {
            state.push_str(",Failed");
        }
        if !certificate(csr).is_empty() {
            state.push_str(",Issued");
        }
        vec![
            json!(csr.metadata.name),
            age(csr.metadata.creation_timestamp.as_ref(), now).into(),
            json!(spec.signer_name),
            json!(spec.username.as_deref().unwrap_or_default()),
            seconds.into(),
            state.into(),
        ]
    }

    fn prepare(
        new: &mut CertificateSigningRequest,
        old: Option<&CertificateSigningRequest>,
        cx: &WriteContext<'_>,
    ) -> Result<(), Status> {
        if let Some(old) = old {
            // What is asked for stays as it was asked.
            new.spec = old.spec.clone();
            return Ok(());
        }
        new.status = Some(CertificateSigningRequestStatus::default());
        let spec = &mut new.spec;
        (spec.username, spec.uid, spec.groups, spec.extra) = (None, None, None, None);
        if let Some(user) = cx.user {
            let filled = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            spec.username = filled(user.name);
            spec.uid = filled(user.uid);
            spec.groups = (!user.groups.is_empty()).then(|| user.groups.to_vec());
            spec.extra = (!user.extra.is_empty()).then(|| user.extra.clone());
        }
        signers::forbid_masters(new)
    }

    fn validate(new: &CertificateSigningRequest, old: Option<&CertificateSigningRequest>, errs: &mut FieldErrors) {
        match old {
            None => validate::spec(&new.spec, errs),
            Some(_) => validate::conditions(new, errs),
        }
    }

    fn prepare_status(
        new: &mut CertificateSigningRequest,
        old: &CertificateSigningRequest,
        cx: &WriteContext<'_>,
    ) -> Result<(), Status> {
        stamp(new, old, cx.now);
        Ok(())
    }

    fn validate_status(new: &CertificateSigningRequest, old: &CertificateSigningRequest, errs: &mut FieldErrors) {
        validate::conditions(new, errs);
        validate::certificate(new, old, errs);
        validate::decisions(new, old, errs);
    }

    fn part(
        _part: Subresource,
        new: &CertificateSigningRequest,
        old: &CertificateSigningRequest,
        cx: &WriteContext<'_>,
    ) -> Result<Option<CertificateSigningRequest>, Status> {
        // An approval changes the conditions alone.
        let mut approved = old.clone();
        let status = approved.status.get_or_insert_default();
        status.conditions = new.status.as_ref().and_then(|status| status.conditions.clone());
        stamp(&mut approved, old, cx.now);
        Ok(Some(approved))
    }

    fn validate_part(
        _part: Subresource,
        new: &CertificateSigningRequest,
        old: &CertificateSigningRequest,
        errs: &mut FieldErrors,
    ) {
        validate::conditions(new, errs);
        validate::approval(new, old, errs);
    }

    fn warnings(new: &CertificateSigningRequest, old: Option<&CertificateSigningRequest>) -> Vec<String> {
        if old.is_some() { Vec::new() } else { signers::warnings(&new.spec) }
    }
}

fn conditions(csr: &CertificateSigningRequest) -> &[CertificateSigningRequestCondition] {
    csr.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default()
}

fn certificate(csr: &CertificateSigningRequest) -> &[u8] {
    csr.status.as_ref().and_then(|status| status.certificate.as_ref()).map_or(&[], |bytes| &bytes.0)
}

/// Says of conditions that came in when they came in.
fn stamp(new: &mut CertificateSigningRequest, old: &CertificateSigningRequest, now: Timestamp) {
    let now = Time(Timestamp::from_second(now.as_second()).unwrap_or(now));
    let before = conditions(old).to_vec();
    for condition in new.status.iter_mut().flat_map(|status| status.conditions.iter_mut().flatten()) {
        let known = before.iter().find(|old| old.type_ == condition.type_);
        if condition.last_update_time.is_none() {
            condition.last_update_time = Some(now.clone());
        }
        if condition.last_transition_time.is_none() {
            let same = known.filter(|old| old.status == condition.status);
            let since = same.and_then(|old| old.last_transition_time.clone());
            condition.last_transition_time = Some(since.unwrap_or_else(|| now.clone()));
        }
    }
}
