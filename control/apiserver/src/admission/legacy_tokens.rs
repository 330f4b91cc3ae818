//! Secrets of type `kubernetes.io/service-account-token`: a token without end, for those who ask for one by name.
//!
//! Upstream fills them by a controller, a moment later. The key that signs tokens does not leave the API server here,
//! so they are filled as they are made.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use corten_api::names::Names;
use corten_api::status::Status;
use serde_json::{Value, json};

use super::{Attempt, Plugin, is};
use crate::authenticate::SECRET_TYPE;
use crate::tokens::Bound;

const ACCOUNT: &str = "kubernetes.io/service-account.name";
const UID: &str = "kubernetes.io/service-account.uid";

pub(super) struct LegacyTokens;

impl Plugin for LegacyTokens {
    fn changes(&self, names: &Names) -> bool {
        is(names, "", "Secret")
    }

    fn admit(&self, write: &Attempt<'_>, secret: &mut Value) -> Result<(), Status> {
        if write.old.is_none() && secret["type"] == SECRET_TYPE { fill(write, secret) } else { Ok(()) }
    }
}

/// Fills in a new secret of that type if its account is there.
fn fill(write: &Attempt<'_>, secret: &mut Value) -> Result<(), Status> {
    let namespace = write.namespace.unwrap_or_default();
    let Some(name) = secret["metadata"]["annotations"][ACCOUNT].as_str().map(str::to_owned) else { return Ok(()) };
    let Some(account) = write.find("serviceaccounts", Some(namespace), &name)? else { return Ok(()) };
    let uid = account["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    let given = secret["metadata"]["annotations"][UID].as_str().unwrap_or_default();
    if !given.is_empty() && given != uid {
        return Ok(());
    }
    let own = secret["metadata"]["name"].as_str().unwrap_or_default();
    let bound = Bound { name, uid: uid.clone() };
    let token = write.server.tokens().issue_legacy(namespace, own, &bound).map_err(Status::internal)?;
    secret["metadata"]["annotations"][UID] = uid.into();
    if !secret["data"].is_object() {
        secret["data"] = json!({});
    }
    for (key, value) in
        [("ca.crt", write.server.config().pki.ca_pem()), ("namespace", namespace), ("token", token.as_str())]
    {
        secret["data"][key] = STANDARD.encode(value).into();
    }
    Ok(())
}
