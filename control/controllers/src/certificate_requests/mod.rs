//! Approves the certificates that nodes ask for themselves, signs what is approved, and forgets what is done.
//!
//! Spec: <https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/>
//! Invariant: only the signers of Kubernetes that the cluster's authority stands for are answered, and none gives a
//! certificate that says more than its rules allow.

mod plan;
mod request;

use std::fmt::{self, Debug};
use std::sync::Arc;
use std::time::Duration;

use corten_api::api::authorization::v1::SubjectAccessReview;
use corten_api::api::certificates::v1::CertificateSigningRequest;
use corten_base::Timestamp;
use corten_client::{Informer, Key, Next, Writes};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::context::{Context, Error, or_gone};
use plan::{Step, plan};

/// Approval that may still be granted is asked for again after this time.
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// A certificate that the authority is to sign.
#[derive(Clone, Debug)]
pub struct CertificateOrder {
    /// The request, PEM.
    pub request: Vec<u8>,
    /// What the certificate may be used for, such as `client auth`.
    pub usages: Vec<String>,
    /// How long it lives.
    pub lifetime: Duration,
    /// A number that no other certificate has.
    pub serial: [u8; 16],
    /// When it is signed.
    pub now: Timestamp,
}

type Sign = dyn Fn(CertificateOrder) -> Result<String, String> + Send + Sync;

/// The cluster's certificate authority, as far as controllers may use it.
#[derive(Clone)]
pub struct Signer(Arc<Sign>);

impl Signer {
    /// An authority that signs in this way: the certificate, PEM, or why there is none.
    pub fn new(sign: impl Fn(CertificateOrder) -> Result<String, String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(sign))
    }
}

impl Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer")
    }
}

pub(crate) async fn run(cx: Context) {
    let requests = cx.informers.of::<CertificateSigningRequest>();
    let queue = cx.queue.clone();
    requests.on_change(move |_, new| new.into_iter().for_each(|request| queue.add(Key::of(request))));
    requests.synced().await;
    cx.work(1, move |cx, key| sync(cx, requests.clone(), key)).await;
}

async fn sync(cx: Context, requests: Informer<CertificateSigningRequest>, key: Key) -> Result<Next, Error> {
    let Some(request) = requests.by_key(&key) else { return Ok(Next::Wait) };
    let api: Api<CertificateSigningRequest> = Api::all(cx.client.clone());
    let mut writes = Writes::default();
    let now = cx.config.clock.now();
    let written = match plan(&request, now) {
        Step::Wait(until) => return Ok(until.map_or(Next::Wait, Next::After)),
        Step::Delete => {
            let preconditions = Preconditions { uid: request.uid(), resource_version: request.resource_version() };
            let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
            or_gone(api.delete(&key.name, &params).await)?.and_then(|either| either.left())
        }
        Step::Approve { may, message } => {
            if !allowed(&cx, &request, may).await? {
                tracing::debug!(request = key.name, may, "a certificate request awaits somebody's approval");
                return Ok(Next::After(ASK_AGAIN));
            }
            let patch = conditions(
                &request,
                json!({
                    "type": "Approved", "status": "True", "reason": "AutoApproved", "message": message,
                }),
            );
            or_gone(api.patch_approval(&key.name, &PatchParams::default(), &Patch::Merge(patch)).await)?
        }
        Step::Fail(message) => fail(&api, &request, "SignerValidationFailure", &message).await?,
        Step::Sign { usages, lifetime } => {
            let (serial, bytes) = (cx.config.random.bytes16(), request.spec.request.0.clone());
            match (cx.config.signer.0)(CertificateOrder { request: bytes, usages, lifetime, serial, now }) {
                Ok(certificate) => {
                    let mut patch = json!({"status": {"certificate": base64(&certificate)}});
                    patch["metadata"] = json!({"resourceVersion": request.resource_version()});
                    or_gone(api.patch_status(&key.name, &PatchParams::default(), &Patch::Merge(patch)).await)?
                }
                Err(why) => fail(&api, &request, "SigningFailure", &why).await?,
            }
        }
    };
    written.iter().for_each(|request| writes.note(&requests, request));
    writes.settle().await;
    Ok(Next::Wait)
}

fn base64(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}

async fn fail(
    api: &Api<CertificateSigningRequest>,
    request: &CertificateSigningRequest,
    reason: &str,
    message: &str,
) -> Result<Option<CertificateSigningRequest>, Error> {
    let condition = json!({"type": "Failed", "status": "True", "reason": reason, "message": message});
    let patch = Patch::Merge(conditions(request, condition));
    Ok(or_gone(api.patch_status(&request.name_any(), &PatchParams::default(), &patch).await)?)
}

/// A patch that adds a condition to those that the request has.
fn conditions(request: &CertificateSigningRequest, condition: Value) -> Value {
    let known = request.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let mut all: Vec<Value> = known.iter().map(|known| json!(known)).collect();
    all.push(condition);
    json!({"metadata": {"resourceVersion": request.resource_version()}, "status": {"conditions": all}})
}

/// Whether whoever asked may have such a certificate without anybody's word.
async fn allowed(cx: &Context, request: &CertificateSigningRequest, may: &str) -> Result<bool, Error> {
    let spec = &request.spec;
    let review = json!({"metadata": {}, "spec": {
        "user": spec.username, "uid": spec.uid, "groups": spec.groups, "extra": spec.extra,
        "resourceAttributes": {
            "group": "certificates.k8s.io", "resource": "certificatesigningrequests", "verb": "create",
            "subresource": may, "version": "*",
        },
    }});
    let review: SubjectAccessReview = serde_json::from_value(review)?;
    let api: Api<SubjectAccessReview> = Api::all(cx.client.clone());
    let answer = api.create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}
