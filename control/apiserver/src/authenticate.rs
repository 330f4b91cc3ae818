//! Who asks: a client certificate, a service-account token, or nobody.

use corten_api::status::Status;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use rustls_pki_types::{CertificateDer, UnixTime};
use serde_json::Value;

use crate::identity::Identity;
use crate::server::Server;
use crate::storage;
use crate::tokens::Bound;

/// The identity behind a request; 401 for credentials that are not good.
pub(crate) fn authenticate(
    server: &Server,
    certificates: Option<&[CertificateDer<'_>]>,
    headers: &HeaderMap,
) -> Result<Identity, Status> {
    if let Some(([own, rest @ ..], true)) = certificates.map(|all| (all, !all.is_empty())) {
        return certificate(server, own, rest).ok_or_else(Status::unauthorized);
    }
    let Some(header) = headers.get(AUTHORIZATION) else { return Ok(Identity::anonymous()) };
    let text = header.to_str().map_err(|_| Status::unauthorized())?;
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
            self::token(server, token.trim()).ok_or_else(Status::unauthorized)
        }
        _ => Err(Status::unauthorized()),
    }
}

/// The user is the certificate's common name, its organisations are the groups.
fn certificate(server: &Server, own: &CertificateDer<'_>, rest: &[CertificateDer<'_>]) -> Option<Identity> {
    let seconds = u64::try_from(server.clock().now().as_second()).ok()?;
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    server.verifier().verify_client_cert(own, rest, now).ok()?;
    let (_, parsed) = x509_parser::parse_x509_certificate(own).ok()?;
    let name = parsed.subject().iter_common_name().next()?.as_str().ok()?.to_owned();
    let groups: Vec<&str> = parsed.subject().iter_organization().filter_map(|group| group.as_str().ok()).collect();
    Some(Identity::new(name, &groups))
}

/// A token counts as long as the account and the objects it is bound to are there.
fn token(server: &Server, token: &str) -> Option<Identity> {
    let subject = server.tokens().verify(token, server.clock().now())?.kubernetes;
    let namespace = &subject.namespace;
    let is_there = |storage: &str, bound: &Bound| {
        let snapshot = server.store().snapshot();
        let key = storage::key(storage, Some(namespace), &bound.name);
        let object: Option<Value> = snapshot.get(&key).and_then(|entry| serde_json::from_slice(&entry.value).ok());
        object.is_some_and(|object| object["metadata"]["uid"] == *bound.uid)
    };
    let there = is_there("serviceaccounts", &subject.serviceaccount)
        && subject.pod.as_ref().is_none_or(|pod| is_there("pods", pod))
        && subject.secret.as_ref().is_none_or(|secret| is_there("secrets", secret));
    there.then(|| Identity::service_account(namespace, &subject.serviceaccount.name))
}
