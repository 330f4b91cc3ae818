//! Who may approve requests for certificates, and who may sign them: those who have that verb on the signer.
//!
//! Spec: <https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/#authorization>

use corten_api::names::Names;
use corten_api::status::Status;
use corten_kinds::Subresource;
use serde_json::Value;

use super::{Attributes, Authorizer, MASTERS, Resource, forbidden};
use crate::identity::Identity;
use crate::verbs::Change;

const GROUP: &str = "certificates.k8s.io";

/// Whether a user may change a request for a certificate in this way; anything else passes.
pub(crate) fn check(
    authorizer: &Authorizer,
    user: &Identity,
    names: &Names,
    what: Change,
    (old, new): (&Value, &Value),
) -> Result<(), Status> {
    if names.group != GROUP || names.kind != "CertificateSigningRequest" || user.is_in(MASTERS) {
        return Ok(());
    }
    let differs = |field: &str| old["status"][field] != new["status"][field];
    let verb = match what {
        Change::Part(Subresource::Approval) => "approve",
        Change::Status if differs("certificate") || differs("conditions") => "sign",
        _ => return Ok(()),
    };
    let signer = old["spec"]["signerName"].as_str().unwrap_or_default();
    let may = |name: &str| {
        let resource = Resource { group: GROUP, resource: "signers", name: name.into(), ..Resource::default() };
        authorizer.allows(user, &Attributes::to(verb, resource))
    };
    let domain = signer.split('/').next().unwrap_or_default();
    if may(signer) || may(&format!("{domain}/*")) {
        return Ok(());
    }
    let name = old["metadata"]["name"].as_str().unwrap_or_default();
    let why = format!("user not permitted to {verb} requests with signerName {signer:?}");
    Err(forbidden(GROUP, names.plural, name, &why))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use corten_base::Clock;
    use corten_store::{Op, Options, Store, Txn};
    use serde_json::json;

    use super::*;

    const REQUESTS: Names = Names {
        group: GROUP,
        version: "v1",
        kind: "CertificateSigningRequest",
        plural: "certificatesigningrequests",
        singular: "certificatesigningrequest",
        short: &[],
        categories: &[],
    };

    /// An authorizer under whose policy `ann` may approve for one signer and sign for all of a domain.
    async fn authorizer() -> Authorizer {
        let options =
            Options { dir: None, history: Duration::from_secs(60), history_bytes: 1 << 20, clock: Clock::system() };
        let store = Store::open(options).await.expect("a store");
        let rule = |verb: &str, name: &str| json!({"verbs": [verb], "apiGroups": [GROUP], "resources": ["signers"], "resourceNames": [name]});
        let role = json!({"rules": [rule("approve", "a.example/one"), rule("sign", "a.example/*")]});
        let binding = json!({
            "roleRef": {"kind": "ClusterRole", "name": "r"}, "subjects": [{"kind": "User", "name": "ann"}],
        });
        let put = |key: &str, value: &Value| Op::Put {
            key: format!("/registry/{key}").into(),
            value: value.to_string().into(),
            stamp: None,
            lease: 0,
        };
        let then = vec![put("clusterroles/r", &role), put("clusterrolebindings/r", &binding)];
        store.transact(Txn { compare: vec![], then }).await.expect("written");
        Authorizer::new(store)
    }

    #[tokio::test]
    async fn approving_and_signing_need_the_verb_on_the_signer() {
        let (authorizer, ann) = (authorizer().await, Identity::new("ann", &[]));
        let request = |signer: &str, status: Value| json!({"metadata": {"name": "r"}, "spec": {"signerName": signer}, "status": status});
        let check = |what: Change, signer: &str, status: Value| {
            let (old, new) = (request(signer, json!({})), request(signer, status));
            check(&authorizer, &ann, &REQUESTS, what, (&old, &new)).map_err(|status| status.message)
        };
        let (approval, certificate) = (Change::Part(Subresource::Approval), json!({"certificate": "x"}));
        assert_eq!(check(approval, "a.example/one", json!({})), Ok(()));
        let why = "certificatesigningrequests.certificates.k8s.io \"r\" is forbidden: user not permitted to approve requests with signerName \"a.example/two\"";
        assert_eq!(check(approval, "a.example/two", json!({})), Err(why.to_owned()));
        assert_eq!(check(Change::Status, "a.example/two", certificate.clone()), Ok(()));
        assert!(check(Change::Status, "b.example/two", certificate.clone()).is_err());
        assert_eq!(check(Change::Status, "b.example/two", json!({})), Ok(()), "nothing was signed");
        assert_eq!(check(Change::Object, "b.example/two", certificate), Ok(()), "a status that will not be taken");
    }
}
