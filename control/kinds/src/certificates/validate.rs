//! What may be wrong with a request for a certificate, or with what became of it.

use corten_api::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition, CertificateSigningRequestSpec,
};
use corten_api::field::{FieldErrors, Problem};
use corten_api::label;

use super::{APPROVED, DENIED, FAILED, request};
use crate::selectors::invalid_json;

/// What a certificate may be used for.
const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];
/// Longest name of a signer: a namespaced service account in a domain, and a path.
const SIGNER_BYTES: usize = 571;
const LEAST_SECONDS: i32 = 600;

pub(super) fn spec(spec: &CertificateSigningRequestSpec, errs: &mut FieldErrors) {
    let usages = spec.usages.as_deref().unwrap_or_default();
    if usages.is_empty() {
        errs.required("spec.usages", "usages are required");
    }
    for (index, usage) in usages.iter().enumerate() {
        let path = format!("spec.usages[{index}]");
        if !USAGES.contains(&usage.as_str()) {
            errs.not_supported(path, usage, &USAGES);
        } else if usages[..index].contains(usage) {
            errs.duplicate(path, usage);
        }
    }
    if let Err(why) = request::decode(&spec.request.0) {
        errs.invalid("spec.request", Base64(&spec.request.0), why);
    }
    if spec.signer_name == "kubernetes.io/legacy-unknown" {
        let why = "the legacy signerName is not allowed via this API version";
        errs.invalid("spec.signerName", &spec.signer_name, why);
    } else {
        signer_name(&spec.signer_name, errs);
    }
    if let Some(seconds) = spec.expiration_seconds.filter(|seconds| *seconds < LEAST_SECONDS) {
        let why = "may not specify a duration less than 600 seconds (10 minutes)";
        errs.invalid("spec.expirationSeconds", seconds, why);
    }
}

/// Bytes as a message shows them.
struct Base64<'a>(&'a [u8]);

impl std::fmt::Debug for Base64<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = serde_json::to_string(&corten_api::k8s_openapi::ByteString(self.0.to_vec())).unwrap_or_default();
        f.write_str(&text)
    }
}

fn signer_name(name: &str, errs: &mut FieldErrors) {
    const PATH: &str = "spec.signerName";
    if name.is_empty() {
        return errs.required(PATH, "");
    }
    let Some((domain, path)) = name.split_once('/') else {
        let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return errs.invalid(PATH, name, why);
    };
    label::subdomain_problems(domain)
        .into_iter()
        .for_each(|why| errs.invalid(PATH, domain, format!("validating label {domain:?}: {why}")));
    if domain.split('.').count() < 2 {
        errs.invalid(PATH, domain, "should be a domain with at least two segments separated by dots");
    }
    for part in path.split('.') {
        let problems = label::subdomain_problems(part);
        problems.into_iter().for_each(|why| errs.invalid(PATH, path, format!("validating label {part:?}: {why}")));
    }
    if name.len() > SIGNER_BYTES {
        errs.push(PATH, Problem::TooLong(SIGNER_BYTES));
    }
}

pub(super) fn conditions(csr: &CertificateSigningRequest, errs: &mut FieldErrors) {
    const PATH: &str = "status.conditions";
    let all = super::conditions(csr);
    for (index, condition) in all.iter().enumerate() {
        let path = format!("{PATH}[{index}]");
        if condition.type_.is_empty() {
            errs.required(format!("{path}.type"), "");
        }
        let decided = [APPROVED, DENIED, FAILED].contains(&condition.type_.as_str());
        match condition.status.as_str() {
            "" => errs.required(format!("{path}.status"), ""),
            "True" => {}
            other if decided => errs.not_supported(format!("{path}.status"), other, &["True"]),
            "False" | "Unknown" => {}
            other => errs.not_supported(format!("{path}.status"), other, &["False", "True", "Unknown"]),
        }
        if all[..index].iter().any(|before| before.type_ == condition.type_) {
            errs.duplicate(format!("{path}.type"), &condition.type_);
        }
    }
    let find = |kind: &str| all.iter().position(|condition| condition.type_ == kind);
    if let (Some(approved), Some(denied)) = (find(APPROVED), find(DENIED)) {
        let later = approved.max(denied);
        let why = "Approved and Denied conditions are mutually exclusive";
        errs.invalid(format!("{PATH}[{later}].type"), &all[later].type_, why);
    }
}

/// A certificate comes once and stays.
pub(super) fn certificate(new: &CertificateSigningRequest, old: &CertificateSigningRequest, errs: &mut FieldErrors) {
    const PATH: &str = "status.certificate";
    let (bytes, before) = (super::certificate(new), super::certificate(old));
    if bytes == before {
        return;
    }
    if !before.is_empty() {
        return errs.invalid(PATH, Base64(bytes), "field is immutable");
    }
    if let Some(why) = request::certificates_problem(bytes) {
        errs.invalid(PATH, "<certificate data>", why);
    }
}

/// Whether it may have a certificate is not decided through the status.
pub(super) fn decisions(new: &CertificateSigningRequest, old: &CertificateSigningRequest, errs: &mut FieldErrors) {
    let of = |csr: &CertificateSigningRequest, kind: &str| -> Option<CertificateSigningRequestCondition> {
        super::conditions(csr).iter().find(|condition| condition.type_ == kind).cloned()
    };
    for kind in [APPROVED, DENIED] {
        let what = match (of(new, kind), of(old, kind)) {
            (Some(_), None) => "add",
            (None, Some(_)) => "remove",
            (Some(new), Some(old)) if new != old => "modify",
            _ => continue,
        };
        errs.forbidden("status.conditions", format!("updates may not {what} a condition of type {kind:?}"));
    }
    if of(old, FAILED).is_some() && of(new, FAILED).is_none() {
        errs.forbidden("status.conditions", format!("updates may not remove a condition of type {FAILED:?}"));
    }
}

/// A decision stays as it was made.
pub(super) fn approval(new: &CertificateSigningRequest, old: &CertificateSigningRequest, errs: &mut FieldErrors) {
    for before in super::conditions(old) {
        let kind = before.type_.as_str();
        let after = super::conditions(new).iter().find(|condition| condition.type_ == kind);
        match after {
            None if [APPROVED, DENIED, FAILED].contains(&kind) => {
                let why = format!("updates may not remove a condition of type {kind:?}");
                errs.forbidden("status.conditions", why);
            }
            Some(after) if kind == FAILED && after != before => {
                invalid_json(errs, "status.conditions", after, "updates may not modify a condition of type \"Failed\"");
            }
            _ => {}
        }
    }
}
