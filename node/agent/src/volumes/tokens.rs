//! Tokens of service accounts, bound to a pod and renewed long before they expire.

use std::collections::BTreeMap;

use corten_api::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use corten_api::api::core::v1::{Pod, ServiceAccount, ServiceAccountTokenProjection};
use corten_base::{Timestamp, chain};
use jiff::SignedDuration;
use kube::api::PostParams;
use kube::{Api, Client};

/// Longest time between two renewals.
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// Which token of a pod: name of the volume, place in its list of sources.
pub(super) type TokenKey = (String, usize);

/// A token and when to ask for the next.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) text: String,
    pub(super) renew_at: Timestamp,
}

/// The tokens of one pod.
#[derive(Default)]
pub(super) struct Tokens(BTreeMap<TokenKey, Token>);

impl Tokens {
    pub(super) fn get(&self, volume: &str, index: usize) -> Option<&Token> {
        self.0.get(&(volume.to_owned(), index))
    }

    /// When the next token is due; `None` if there are none.
    pub(super) fn next_renewal(&self) -> Option<Timestamp> {
        self.0.values().map(|token| token.renew_at).min()
    }

    /// Makes sure that a token is there and not due.
    pub(super) async fn refresh(
        &mut self,
        client: &Client,
        pod: &Pod,
        key: TokenKey,
        source: &ServiceAccountTokenProjection,
        now: Timestamp,
    ) -> Result<(), String> {
        if self.0.get(&key).is_some_and(|token| token.renew_at > now) {
            return Ok(());
        }
        let token =
            request(client, pod, source, now).await.map_err(|error| format!("failed to fetch token: {error}"))?;
        self.0.insert(key, token);
        Ok(())
    }
}

async fn request(
    client: &Client,
    pod: &Pod,
    source: &ServiceAccountTokenProjection,
    now: Timestamp,
) -> Result<Token, String> {
    let account =
        pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()).filter(|name| !name.is_empty());
    let audience = source.audience.clone().filter(|audience| !audience.is_empty());
    let bound = BoundObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
    };
    let spec = TokenRequestSpec {
        audiences: Some(audience.into_iter().collect()),
        bound_object_ref: Some(bound),
        expiration_seconds: Some(source.expiration_seconds.unwrap_or(3600)),
    };
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let api: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let body = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
    let answer = api.create_token_request(account.unwrap_or("default"), &PostParams::default(), &body).await;
    match answer {
        Ok(answer) => {
            let status = answer.status.unwrap_or_default();
            match (status.token, status.expiration_timestamp) {
                (Some(text), Some(expires)) => Ok(Token { renew_at: renew_at(now, expires.0), text }),
                _ => Err("the answer holds no token".to_owned()),
            }
        }
        Err(kube::Error::Api(status)) => Err(status.message.clone()),
        Err(error) => Err(chain(&error)),
    }
}

/// When four fifths of a token's life are over, and every day.
fn renew_at(now: Timestamp, expires: Timestamp) -> Timestamp {
    let life = expires.duration_since(now);
    now + (life * 4 / 5).min(DAY).max(SignedDuration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_comes_at_four_fifths_or_after_a_day() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a timestamp");
        for (seconds, expected) in [(3607, 2885), (600, 480), (7 * 86_400, 86_400), (0, 1), (-5, 1)] {
            let at = renew_at(now, now + SignedDuration::from_secs(seconds));
            assert_eq!(at.duration_since(now).as_secs(), expected, "{seconds}");
        }
    }
}
