//! Service-account tokens: signed statements of who a pod is; and the documents by which others can check them.
//!
//! Format: JWT with ES256; claims as pkg/serviceaccount/claims.go and legacy.go of Kubernetes have them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use corten_base::{Random, Timestamp};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rcgen::PublicKeyData;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::identity::account_name;
use crate::pki::PkiError;

/// Who issues tokens, and for whom they are unless asked otherwise.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// Who issues the tokens that secrets hold.
const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";

/// Makes and reads tokens.
pub(crate) struct Tokens {
    signing: EncodingKey,
    verifying: DecodingKey,
    /// The public key's name, and its coordinates.
    key_id: String,
    point: Vec<u8>,
    random: Random,
}

/// What a token binds a service account to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bound {
    pub(crate) name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
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
    #[serde(default)]
    pub(crate) jti: String,
    #[serde(rename = "kubernetes.io")]
    pub(crate) kubernetes: Subject,
}

/// The objects a token speaks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Subject {
    pub(crate) namespace: String,
    pub(crate) serviceaccount: Bound,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pod: Option<Bound>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) secret: Option<Bound>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) node: Option<Bound>,
    /// When the client should have fetched another token, though this one is still good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) warnafter: Option<i64>,
}

/// What the token of a secret says. It has no end but that of the secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LegacyClaims {
    iss: String,
    #[serde(rename = "kubernetes.io/serviceaccount/namespace")]
    pub(crate) namespace: String,
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
    pub(crate) secret: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name")]
    pub(crate) account: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid")]
    pub(crate) uid: String,
    sub: String,
}

impl Tokens {
    pub(crate) fn new(key_pem: &str, random: Random) -> Result<Self, PkiError> {
        let issue = |source| PkiError::Issue { subject: "service accounts".to_owned(), source };
        let pair = rcgen::KeyPair::from_pem(key_pem).map_err(issue)?;
        let general = |error: jsonwebtoken::errors::Error| PkiError::Tls(rustls::Error::General(error.to_string()));
        Ok(Self {
            signing: EncodingKey::from_ec_pem(key_pem.as_bytes()).map_err(general)?,
            verifying: DecodingKey::from_ec_der(pair.der_bytes()),
            key_id: URL_SAFE_NO_PAD.encode(Sha256::digest(pair.subject_public_key_info())),
            point: pair.der_bytes().to_vec(),
            random,
        })
    }

    fn sign(&self, claims: &impl Serialize) -> Result<String, jsonwebtoken::errors::Error> {
        let header = Header { typ: None, kid: Some(self.key_id.clone()), ..Header::new(Algorithm::ES256) };
        jsonwebtoken::encode(&header, claims, &self.signing)
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
        self.sign(&Claims {
            aud: audiences,
            exp: now + seconds,
            iat: now,
            nbf: now,
            iss: ISSUER.to_owned(),
            sub: account_name(&subject.namespace, &subject.serviceaccount.name),
            jti: uuid::Builder::from_random_bytes(self.random.bytes16()).into_uuid().to_string(),
            kubernetes: subject,
        })
    }

    /// The token that a secret holds for an account.
    pub(crate) fn issue_legacy(
        &self,
        namespace: &str,
        secret: &str,
        account: &Bound,
    ) -> Result<String, jsonwebtoken::errors::Error> {
        self.sign(&LegacyClaims {
            iss: LEGACY_ISSUER.to_owned(),
            namespace: namespace.to_owned(),
            secret: secret.to_owned(),
            account: account.name.clone(),
            uid: account.uid.clone(),
            sub: account_name(namespace, &account.name),
        })
    }

    /// The claims of a token that this cluster signed and that is valid now, for whichever audience.
    pub(crate) fn verify(&self, token: &str, now: Timestamp) -> Option<Claims> {
        let claims: Claims = self.read(token, ISSUER)?;
        let now = now.as_second();
        (claims.exp > now && claims.nbf <= now).then_some(claims)
    }

    /// The claims of a token that this cluster signed for a secret.
    pub(crate) fn verify_legacy(&self, token: &str) -> Option<LegacyClaims> {
        self.read(token, LEGACY_ISSUER)
    }

    fn read<C: serde::de::DeserializeOwned + Clone>(&self, token: &str, issuer: &str) -> Option<C> {
        let mut validation = Validation::new(Algorithm::ES256);
        // Times are held against the server's own clock, and audiences against those that are asked about.
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        validation.set_issuer(&[issuer]);
        Some(jsonwebtoken::decode::<C>(token, &self.verifying, &validation).ok()?.claims)
    }

    /// The keys that tokens are signed with: `/openid/v1/jwks`.
    pub(crate) fn key_set(&self) -> Value {
        // The public key is an uncompressed point: 4, x, y.
        let half = |from: usize| URL_SAFE_NO_PAD.encode(self.point.get(from..from + 32).unwrap_or_default());
        let key = json!({
            "use": "sig", "kty": "EC", "kid": self.key_id, "crv": "P-256", "alg": "ES256", "x": half(1), "y": half(33),
        });
        json!({"keys": [key]})
    }
}

/// `/.well-known/openid-configuration`: who issues tokens, and where its keys are.
pub(crate) fn configuration(authority: &str) -> Value {
    json!({
        "issuer": ISSUER,
        "jwks_uri": format!("https://{authority}/openid/v1/jwks"),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> Tokens {
        let key = rcgen::KeyPair::generate().expect("a key");
        Tokens::new(&key.serialize_pem(), Random::seeded(1)).expect("tokens")
    }

    #[test]
    fn tokens_are_read_back_until_they_expire() {
        let tokens = tokens();
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let account = Bound { name: "default".to_owned(), uid: "u".to_owned() };
        let subject = Subject { namespace: "a".to_owned(), serviceaccount: account, ..Subject::default() };
        let token = tokens.issue(subject.clone(), vec![ISSUER.to_owned()], 600, now).expect("a token");
        let claims = tokens.verify(&token, now).expect("valid");
        assert_eq!((claims.sub.as_str(), claims.kubernetes), ("system:serviceaccount:a:default", subject));
        let later = "2026-01-01T00:10:00Z".parse().expect("a time");
        assert_eq!(tokens.verify(&token, later), None, "expired");
        assert_eq!(tokens.verify_legacy(&token), None, "of another issuer");
        let mut tampered = token.into_bytes();
        let last = tampered.len() - 10;
        tampered[last] ^= 1;
        assert_eq!(tokens.verify(&String::from_utf8_lossy(&tampered), now), None);
    }

    #[test]
    fn tokens_of_secrets_have_no_end() {
        let tokens = tokens();
        let account = Bound { name: "robot".to_owned(), uid: "u".to_owned() };
        let token = tokens.issue_legacy("a", "s", &account).expect("a token");
        let claims = tokens.verify_legacy(&token).expect("valid");
        assert_eq!((claims.sub.as_str(), claims.secret.as_str()), ("system:serviceaccount:a:robot", "s"));
        assert_eq!(tokens.verify(&token, "2026-01-01T00:00:00Z".parse().expect("a time")), None);
    }

    #[test]
    fn others_can_check_tokens_by_the_published_key() {
        let tokens = tokens();
        let token = tokens.issue_legacy("a", "s", &Bound::default()).expect("a token");
        let set: jsonwebtoken::jwk::JwkSet = serde_json::from_value(tokens.key_set()).expect("a key set");
        let header = jsonwebtoken::decode_header(&token).expect("a header");
        let key = set.find(&header.kid.expect("a key's name")).expect("the key");
        let mut validation = Validation::new(Algorithm::ES256);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        let key = DecodingKey::from_jwk(key).expect("usable");
        jsonwebtoken::decode::<Value>(&token, &key, &validation).expect("its signature is good");
    }
}
