//! Service-account tokens: signed statements of who a pod is.
//!
//! Format: JWT with ES256; claims as pkg/serviceaccount/claims.go of Kubernetes has them.

use corten_base::{Random, Timestamp};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rcgen::PublicKeyData;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::pki::PkiError;

/// Who issues tokens, and for whom they are unless asked otherwise.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// Makes and reads tokens.
pub(crate) struct Tokens {
    signing: EncodingKey,
    verifying: DecodingKey,
    random: Random,
}

/// What a token binds a service account to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bound {
    pub(crate) name: String,
    pub(crate) uid: String,
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    pub(crate) aud: Vec<String>,
    pub(crate) exp: i64,
    pub(crate) iat: i64,
    pub(crate) nbf: i64,
    pub(crate) iss: String,
    pub(crate) sub: String,
    pub(crate) jti: String,
    #[serde(rename = "kubernetes.io")]
    pub(crate) kubernetes: Subject,
}

/// The objects a token speaks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Subject {
    pub(crate) namespace: String,
    pub(crate) serviceaccount: Bound,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pod: Option<Bound>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) secret: Option<Bound>,
}

impl Tokens {
    pub(crate) fn new(key_pem: &str, random: Random) -> Result<Self, PkiError> {
        let issue = |source| PkiError::Issue { subject: "service accounts".to_owned(), source };
        let pair = rcgen::KeyPair::from_pem(key_pem).map_err(issue)?;
        let general = |error: jsonwebtoken::errors::Error| PkiError::Tls(rustls::Error::General(error.to_string()));
        Ok(Self {
            signing: EncodingKey::from_ec_pem(key_pem.as_bytes()).map_err(general)?,
            verifying: DecodingKey::from_ec_der(pair.der_bytes()),
            random,
        })
    }

    /// A token for the subject, valid for `seconds`.
    pub(crate) fn issue(
        &self,
        subject: Subject,
        audiences: Vec<String>,
        seconds: i64,
        now: Timestamp,
    ) -> Result<String, jsonwebtoken::errors::Error> {
        let now = now.as_second();
        let claims = Claims {
            aud: audiences,
            exp: now + seconds,
            iat: now,
            nbf: now,
            iss: ISSUER.to_owned(),
            sub: format!("system:serviceaccount:{}:{}", subject.namespace, subject.serviceaccount.name),
            jti: uuid::Builder::from_random_bytes(self.random.bytes16()).into_uuid().to_string(),
            kubernetes: subject,
        };
        jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &self.signing)
    }

    /// The claims of a token that this cluster signed for itself and that is valid now.
    pub(crate) fn verify(&self, token: &str, now: Timestamp) -> Option<Claims> {
        let mut validation = Validation::new(Algorithm::ES256);
        // Times are held against the server's own clock, below.
        validation.validate_exp = false;
        validation.required_spec_claims.clear();
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[ISSUER]);
        let claims = jsonwebtoken::decode::<Claims>(token, &self.verifying, &validation).ok()?.claims;
        let now = now.as_second();
        (claims.exp > now && claims.nbf <= now).then_some(claims)
    }
}

/// `status` of a TokenRequest.
pub(crate) fn status(token: &str, expires: Timestamp) -> Value {
    let expires = expires.as_second();
    let expires = Timestamp::from_second(expires).map(|time| time.to_string()).unwrap_or_default();
    json!({"token": token, "expirationTimestamp": expires})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_back_until_they_expire() {
        let key = rcgen::KeyPair::generate().expect("a key");
        let tokens = Tokens::new(&key.serialize_pem(), Random::seeded(1)).expect("tokens");
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let bound = Bound { name: "default".to_owned(), uid: "u".to_owned() };
        let subject = Subject { namespace: "a".to_owned(), serviceaccount: bound, pod: None, secret: None };
        let token = tokens.issue(subject.clone(), vec![ISSUER.to_owned()], 600, now).expect("a token");
        let claims = tokens.verify(&token, now).expect("valid");
        assert_eq!((claims.sub.as_str(), claims.kubernetes), ("system:serviceaccount:a:default", subject.clone()));
        let later = "2026-01-01T00:10:00Z".parse().expect("a time");
        assert_eq!(tokens.verify(&token, later), None, "expired");
        let foreign = tokens.issue(subject, vec!["other".to_owned()], 600, now).expect("a token");
        assert_eq!(tokens.verify(&foreign, now), None, "for another audience");
        let mut tampered = token.into_bytes();
        let last = tampered.len() - 10;
        tampered[last] ^= 1;
        assert_eq!(tokens.verify(&String::from_utf8_lossy(&tampered), now), None);
    }
}
