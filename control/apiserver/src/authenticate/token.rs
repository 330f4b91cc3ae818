//! Tokens of service accounts, held against the objects that they speak for.

use corten_base::Timestamp;
use serde_json::Value;

use super::CREDENTIAL;
use crate::identity::Identity;
use crate::server::Server;
use crate::storage;
use crate::tokens::{Bound, Claims, ISSUER, LegacyClaims};

/// Type of secrets that hold a token of a service account.
pub(crate) const SECRET_TYPE: &str = "kubernetes.io/service-account-token";
/// How long an object that is being deleted still counts.
const LEEWAY: i64 = 60;

/// Whom a token speaks for, and to whom.
#[derive(Debug)]
pub(crate) struct Bearer {
    pub(crate) user: Identity,
    /// Those of the audiences asked about that the token is for.
    pub(crate) audiences: Vec<String>,
}

/// Reads a token that is for one of these audiences (or, without any, for this server); `Err` says why it is no good.
/// A token counts as long as the account and the objects it is bound to are there.
pub(crate) fn bearer(server: &Server, token: &str, audiences: &[String]) -> Result<Bearer, String> {
    let own = [ISSUER.to_owned()];
    let wanted = if audiences.is_empty() { &own[..] } else { audiences };
    let among = |given: &[String]| wanted.iter().filter(|own| given.contains(own)).cloned().collect::<Vec<_>>();
    if let Some(claims) = server.tokens().verify(token, server.clock().now()) {
        let audiences = among(&claims.aud);
        if audiences.is_empty() {
            return Err(format!(
                "invalid bearer token, token audiences {:?} is invalid for the target audiences {wanted:?}",
                claims.aud
            ));
        }
        return Ok(Bearer { user: bound_user(server, &claims)?, audiences });
    }
    if let Some(claims) = server.tokens().verify_legacy(token) {
        // Tokens of secrets are for this server, always.
        let audiences = among(&own);
        if !audiences.is_empty() {
            return Ok(Bearer { user: legacy_user(server, &claims, token)?, audiences });
        }
    }
    Err("invalid bearer token".to_owned())
}

fn bound_user(server: &Server, claims: &Claims) -> Result<Identity, String> {
    let subject = &claims.kubernetes;
    let (namespace, account) = (subject.namespace.as_str(), &subject.serviceaccount);
    let there = |kind: &str, storage: &str, namespace: Option<&str>, bound: &Bound| {
        let object = read(server, storage, namespace, &bound.name);
        if object.is_some_and(|object| lives(&object, &bound.uid, server.clock().now())) {
            return Ok(());
        }
        Err(format!("{kind} {:?} is gone, and the token with it", bound.name))
    };
    there("service account", "serviceaccounts", Some(namespace), account)?;
    let mut user = Identity::service_account(namespace, &account.name);
    user.uid.clone_from(&account.uid);
    let mut tell = |key: &str, value: &str| {
        user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
    };
    if let Some(pod) = &subject.pod {
        there("pod", "pods", Some(namespace), pod)?;
        tell("pod-name", &pod.name);
        tell("pod-uid", &pod.uid);
    }
    if let Some(secret) = &subject.secret {
        there("secret", "secrets", Some(namespace), secret)?;
    }
    if let Some(node) = &subject.node {
        // A pod's token tells its node and lives as long as the pod; one that is bound to a node lives as long as that.
        if subject.pod.is_none() {
            there("node", "minions", None, node)?;
        }
        tell("node-name", &node.name);
        if !node.uid.is_empty() {
            tell("node-uid", &node.uid);
        }
    }
    if !claims.jti.is_empty() {
        user.extra.insert(CREDENTIAL.to_owned(), vec![format!("JTI={}", claims.jti)]);
    }
    Ok(user)
}

/// The token of a secret counts as long as the secret holds it.
fn legacy_user(server: &Server, claims: &LegacyClaims, token: &str) -> Result<Identity, String> {
    use base64::Engine;
    let namespace = Some(claims.namespace.as_str());
    let secret = read(server, "secrets", namespace, &claims.secret);
    let kept = secret.filter(|own| own["type"] == SECRET_TYPE && own["metadata"]["deletionTimestamp"].is_null());
    let kept = kept.and_then(|own| own["data"]["token"].as_str().map(str::to_owned));
    let encoded = base64::engine::general_purpose::STANDARD.encode(token);
    if kept.is_none_or(|kept| kept != encoded) {
        return Err("service account token has been invalidated".to_owned());
    }
    let account = read(server, "serviceaccounts", namespace, &claims.account);
    if !account.is_some_and(|account| lives(&account, &claims.uid, server.clock().now())) {
        return Err(format!("service account {:?} is gone, and the token with it", claims.account));
    }
    let mut user = Identity::service_account(&claims.namespace, &claims.account);
    user.uid.clone_from(&claims.uid);
    Ok(user)
}

fn read(server: &Server, storage: &str, namespace: Option<&str>, name: &str) -> Option<Value> {
    storage::find(&server.store().snapshot(), storage, namespace, name).ok().flatten()
}

/// Whether an object is the one meant, and not long past its deletion.
fn lives(object: &Value, uid: &str, now: Timestamp) -> bool {
    let metadata = &object["metadata"];
    let ended: Option<Timestamp> = metadata["deletionTimestamp"].as_str().and_then(|text| text.parse().ok());
    metadata["uid"] == *uid && ended.is_none_or(|ended| ended.as_second() + LEEWAY >= now.as_second())
}
