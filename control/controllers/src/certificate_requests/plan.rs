//! What becomes of a request next: pure.

use std::time::Duration;

use corten_api::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use corten_base::Timestamp;
use x509_parser::pem::Pem;

use super::request::{CLIENT, NODE_CLIENT, NODE_SERVER, client, names, node_client, node_server};

/// As long as upstream's signer gives certificates by default, and at most.
const LIFETIME: Duration = Duration::from_secs(365 * 86_400);
const LEAST_LIFETIME: Duration = Duration::from_secs(600);
/// How long requests are kept that are decided, and those that nobody decides on.
const DECIDED: Duration = Duration::from_secs(3600);
const PENDING: Duration = Duration::from_secs(24 * 3600);

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing until it changes, or until so much time has passed.
    Wait(Option<Duration>),
    /// It has been here long enough.
    Delete,
    /// Approve it if whoever asked may `create` this subresource of requests.
    Approve { may: &'static str, message: &'static str },
    /// The signer refuses it.
    Fail(String),
    /// Sign it.
    Sign { usages: Vec<String>, lifetime: Duration },
}

pub(super) fn plan(request: &CertificateSigningRequest, now: Timestamp) -> Step {
    let status = request.status.clone().unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default();
    let find = |kind: &str| conditions.iter().find(|condition| condition.type_ == kind && condition.status == "True");
    let (approved, denied, failed) = (find("Approved"), find("Denied"), find("Failed"));
    let issued = status.certificate.filter(|bytes| !bytes.0.is_empty());
    if let Some(condition) = denied.or(failed) {
        return forget(since(condition), DECIDED, now);
    }
    if let (Some(condition), Some(certificate)) = (approved, &issued) {
        if has_expired(&certificate.0, now) {
            return Step::Delete;
        }
        return forget(since(condition), DECIDED, now);
    }
    if approved.is_some() {
        return sign(request);
    }
    if let Some(step) = approve(request) {
        return step;
    }
    forget(request.metadata.creation_timestamp.as_ref().map(|time| time.0), PENDING, now)
}

fn since(condition: &CertificateSigningRequestCondition) -> Option<Timestamp> {
    condition.last_update_time.as_ref().or(condition.last_transition_time.as_ref()).map(|time| time.0)
}

/// Deletes what has been as it is for this time.
fn forget(since: Option<Timestamp>, after: Duration, now: Timestamp) -> Step {
    let Some(left) = since.and_then(|since| since.checked_add(after).ok()) else { return Step::Wait(None) };
    if left <= now {
        return Step::Delete;
    }
    Step::Wait(Some(Duration::try_from(left.duration_since(now)).unwrap_or_default() + Duration::from_secs(1)))
}

fn has_expired(pem: &[u8], now: Timestamp) -> bool {
    Pem::iter_from_buffer(pem).flatten().any(|block| {
        block.parse_x509().is_ok_and(|certificate| certificate.validity().not_after.timestamp() <= now.as_second())
    })
}

/// A node that asks for its client's certificate, its own or its first.
fn approve(request: &CertificateSigningRequest) -> Option<Step> {
    let spec = &request.spec;
    if spec.signer_name != NODE_CLIENT {
        return None;
    }
    let names = names(&spec.request.0).ok()?;
    node_client(&names, spec.usages.as_deref().unwrap_or_default()).ok()?;
    // A node may renew its own by another permission than somebody who asks for a new node.
    let own = spec.username.as_deref() == Some(names.common_name.as_str());
    Some(if own {
        let message = "Auto approving self kubelet client certificate after SubjectAccessReview.";
        Step::Approve { may: "selfnodeclient", message }
    } else {
        let message = "Auto approving kubelet client certificate after SubjectAccessReview.";
        Step::Approve { may: "nodeclient", message }
    })
}

fn sign(request: &CertificateSigningRequest) -> Step {
    let spec = &request.spec;
    let usages = spec.usages.clone().unwrap_or_default();
    let judged = match spec.signer_name.as_str() {
        CLIENT => client(&usages),
        NODE_CLIENT => names(&spec.request.0).and_then(|names| node_client(&names, &usages)),
        NODE_SERVER => names(&spec.request.0).and_then(|names| node_server(&names, &usages)),
        // Somebody else's.
        _ => return Step::Wait(None),
    };
    if let Err(why) = judged {
        return Step::Fail(why);
    }
    let asked =
        spec.expiration_seconds.map_or(LIFETIME, |seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
    Step::Sign { usages, lifetime: asked.clamp(LEAST_LIFETIME, LIFETIME) }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};
    use serde_json::{Value, json};

    use super::*;

    /// A request for this common name, these organizations and further names.
    fn pem(name: &str, organization: &str, hosts: &[&str], others: &[SanType]) -> String {
        let mut params =
            CertificateParams::new(hosts.iter().map(|&host| host.to_owned()).collect::<Vec<_>>()).expect("names");
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, organization);
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names.extend(others.iter().cloned());
        params.serialize_request(&KeyPair::generate().expect("a key")).expect("a request").pem().expect("text")
    }

    fn request(signer: &str, text: &str, usages: &[&str], status: Value) -> CertificateSigningRequest {
        use base64::Engine;
        let object = json!({
            "metadata": {"name": "r", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {
                "signerName": signer, "username": "system:node:n1", "usages": usages,
                "request": base64::engine::general_purpose::STANDARD.encode(text),
            },
            "status": status,
        });
        serde_json::from_value(object).expect("a request")
    }

    fn condition(kind: &str) -> Value {
        json!({"conditions": [{"type": kind, "status": "True", "lastUpdateTime": "2026-01-01T01:00:00Z"}]})
    }

    fn at(time: &str) -> Timestamp {
        format!("2026-01-{time}:00Z").parse().expect("a time")
    }

    const CLIENT_USAGES: [&str; 2] = ["digital signature", "client auth"];

    #[test]
    fn nodes_get_their_clients_certificates_without_anybodys_word() {
        let node = pem("system:node:n1", "system:nodes", &[], &[]);
        let look = |signer: &str, text: &str, usages: &[&str]| match plan(
            &request(signer, text, usages, json!({})),
            at("01T00:00"),
        ) {
            Step::Approve { may, .. } => may,
            _ => "",
        };
        assert_eq!(look(NODE_CLIENT, &node, &CLIENT_USAGES), "selfnodeclient");
        let with_key = ["client auth", "key encipherment", "digital signature"];
        assert_eq!(look(NODE_CLIENT, &node, &with_key), "selfnodeclient");
        assert_eq!(look(NODE_CLIENT, &pem("system:node:n2", "system:nodes", &[], &[]), &CLIENT_USAGES), "nodeclient");
        for (signer, text, usages) in [
            (CLIENT, &node, &CLIENT_USAGES[..]),
            (NODE_SERVER, &node, &["digital signature", "server auth"]),
            (NODE_CLIENT, &node, &["digital signature", "server auth"]),
            (NODE_CLIENT, &node, &["client auth"]),
            (NODE_CLIENT, &pem("n1", "system:nodes", &[], &[]), &CLIENT_USAGES),
            (NODE_CLIENT, &pem("system:node:n1", "system:masters", &[], &[]), &CLIENT_USAGES),
            (NODE_CLIENT, &pem("system:node:n1", "system:nodes", &["api"], &[]), &CLIENT_USAGES),
            (NODE_CLIENT, &"no request".to_owned(), &CLIENT_USAGES),
        ] {
            assert_eq!(look(signer, text, usages), "", "{signer} {usages:?} {text}");
        }
    }

    #[test]
    fn what_is_approved_is_signed_by_its_signers_rules() {
        let server_usages = ["digital signature", "server auth"];
        let address = SanType::IpAddress([192, 0, 2, 1].into());
        let uri = SanType::URI("spiffe://x".try_into().expect("a name"));
        let text = |others: &[SanType]| pem("system:node:n1", "system:nodes", &[], others);
        let look = |signer: &str, text: &str, usages: &[&str]| match plan(
            &request(signer, text, usages, condition("Approved")),
            at("01T01:00"),
        ) {
            Step::Sign { lifetime, .. } => format!("signed for {} days", lifetime.as_secs() / 86_400),
            Step::Fail(why) => why,
            Step::Wait(None) => "left alone".to_owned(),
            other => format!("{other:?}"),
        };
        let lines = [
            look(CLIENT, &pem("jane", "dev", &[], &[]), &["client auth"]),
            look(CLIENT, &pem("jane", "dev", &[], &[]), &["digital signature"]),
            look(CLIENT, &pem("jane", "dev", &[], &[]), &["client auth", "server auth"]),
            look(NODE_CLIENT, &text(&[]), &CLIENT_USAGES),
            look(NODE_CLIENT, &text(std::slice::from_ref(&address)), &CLIENT_USAGES),
            look(NODE_SERVER, &text(std::slice::from_ref(&address)), &server_usages),
            look(NODE_SERVER, &text(&[]), &server_usages),
            look(NODE_SERVER, &text(&[address, uri]), &server_usages),
            look("example.com/own", &text(&[]), &server_usages),
        ];
        expect_test::expect![[r#"
            signed for 365 days
            missing required usage for client certificate: client auth
            invalid usage for client certificate: server auth
            signed for 365 days
            IP subjectAltNames are not allowed
            signed for 365 days
            DNS or IP subjectAltName is required
            URI subjectAltNames are not allowed
            left alone"#]]
        .assert_eq(&lines.join("\n"));
        let mut short = request(CLIENT, &pem("jane", "dev", &[], &[]), &["client auth"], condition("Approved"));
        for (asked, given) in [(600, 600), (3600, 3600), (i32::MAX, 365 * 86_400)] {
            short.spec.expiration_seconds = Some(asked);
            let Step::Sign { lifetime, .. } = plan(&short, at("01T01:00")) else { panic!("not signed") };
            assert_eq!(lifetime.as_secs(), given);
        }
    }

    #[test]
    fn what_is_done_is_forgotten() {
        let look =
            |status: Value, time: &str| plan(&request("example.com/own", "", &["client auth"], status), at(time));
        let hour_and_a_second = Step::Wait(Some(Duration::from_secs(3601)));
        for kind in ["Denied", "Failed"] {
            assert_eq!(look(condition(kind), "01T01:00"), hour_and_a_second, "{kind}");
            assert_eq!(look(condition(kind), "01T02:00"), Step::Delete, "{kind}");
        }
        let mut issued = condition("Approved");
        issued["certificate"] = "eA==".into();
        assert_eq!(look(issued.clone(), "01T01:00"), hour_and_a_second);
        assert_eq!(look(issued, "01T02:00"), Step::Delete);
        assert_eq!(look(json!({}), "01T23:59"), Step::Wait(Some(Duration::from_secs(61))));
        assert_eq!(look(json!({}), "02T00:00"), Step::Delete);
        // Approved and not signed: its signer may still come.
        assert_eq!(look(condition("Approved"), "31T00:00"), Step::Wait(None));
    }
}
