//! Secrets: what not everybody may read.

use std::collections::BTreeMap;

use corten_api::api::core::v1::Secret;
use corten_api::field::{FieldErrors, Problem};
use corten_api::k8s_openapi::ByteString;
use corten_api::names::Names;
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::ColumnHead;
use crate::config_maps::{DATA_BYTES, check_key};
use crate::kind::Kind;
use crate::table::{NAME, age, column, number};

pub(crate) struct Secrets;

impl Kind for Secrets {
    type Object = Secret;

    const NAMES: Names = Names {
        group: "",
        version: "v1",
        kind: "Secret",
        plural: "secrets",
        singular: "secret",
        short: &[],
        categories: &[],
    };
    const COLUMNS: &'static [ColumnHead] = &[NAME, column("Type"), number("Data"), column("Age")];
    const FIELDS: &'static [&'static str] = &["type"];

    fn cells(secret: &Secret, now: Timestamp) -> Vec<Value> {
        let count = secret.data.as_ref().map_or(0, BTreeMap::len);
        let age = age(secret.metadata.creation_timestamp.as_ref(), now);
        vec![json!(secret.metadata.name), json!(secret.type_), json!(count), age.into()]
    }

    fn default(secret: &mut Secret) {
        if let Some(texts) = secret.string_data.take() {
            let data = secret.data.get_or_insert_default();
            data.extend(texts.into_iter().map(|(key, text)| (key, ByteString(text.into_bytes()))));
        }
        if secret.type_.as_deref().is_none_or(str::is_empty) {
            secret.type_ = Some("Opaque".to_owned());
        }
    }

    fn validate(secret: &Secret, old: Option<&Secret>, errs: &mut FieldErrors) {
        let mut bytes = 0;
        for (key, value) in secret.data.iter().flatten() {
            check_key(key, &format!("data[{key}]"), errs);
            bytes += value.0.len();
        }
        if bytes > DATA_BYTES {
            errs.push("data", Problem::TooLong(DATA_BYTES));
        }
        for key in needed_keys(secret.type_.as_deref().unwrap_or_default()) {
            if !secret.data.as_ref().is_some_and(|data| data.contains_key(*key)) {
                errs.required(format!("data[{key}]"), "");
            }
        }
        contents(secret, errs);
        let Some(old) = old else { return };
        if secret.type_ != old.type_ {
            errs.invalid("type", secret.type_.as_deref().unwrap_or_default(), "field is immutable");
        }
        if old.immutable == Some(true) {
            let why = "field is immutable when `immutable` is set";
            if secret.immutable != Some(true) {
                errs.forbidden("immutable", why);
            }
            if secret.data != old.data {
                errs.forbidden("data", why);
            }
        }
    }
}

fn needed_keys(kind: &str) -> &'static [&'static str] {
    match kind {
        "kubernetes.io/dockercfg" => &[".dockercfg"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        _ => &[],
    }
}

/// What the types of secrets demand besides keys.
fn contents(secret: &Secret, errs: &mut FieldErrors) {
    let data = |key: &str| secret.data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.as_slice());
    let json = |key: &str, errs: &mut FieldErrors| {
        if let Some(bytes) = data(key)
            && let Err(error) = serde_json::from_slice::<serde_json::Map<String, Value>>(bytes)
        {
            errs.invalid(format!("data[{key}]"), "<secret contents redacted>", error.to_string());
        }
    };
    match secret.type_.as_deref().unwrap_or_default() {
        "kubernetes.io/dockercfg" => json(".dockercfg", errs),
        "kubernetes.io/dockerconfigjson" => json(".dockerconfigjson", errs),
        "kubernetes.io/basic-auth" if data("username").is_none() && data("password").is_none() => {
            errs.required("data[username]", "");
            errs.required("data[password]", "");
        }
        "kubernetes.io/service-account-token" => {
            const ACCOUNT: &str = "kubernetes.io/service-account.name";
            let named = secret.metadata.annotations.as_ref().and_then(|all| all.get(ACCOUNT));
            if named.is_none_or(String::is_empty) {
                errs.required(format!("metadata.annotations[{ACCOUNT}]"), "");
            }
        }
        _ => {}
    }
}
