//! ConfigMaps: settings.

use corten_api::api::core::v1::ConfigMap;
use corten_api::field::{FieldErrors, Problem};
use corten_api::names::Names;
use corten_base::Timestamp;
use serde_json::{Value, json};

use crate::ColumnHead;
use crate::kind::Kind;
use crate::table::{NAME, age, column, number};

/// Most bytes of all values together.
pub(crate) const DATA_BYTES: usize = 1 << 20;

pub(crate) struct ConfigMaps;

impl Kind for ConfigMaps {
    type Object = ConfigMap;

    const NAMES: Names = Names {
        group: "",
        version: "v1",
        kind: "ConfigMap",
        plural: "configmaps",
        singular: "configmap",
        short: &["cm"],
        categories: &[],
    };
    const COLUMNS: &'static [ColumnHead] = &[NAME, number("Data"), column("Age")];

    fn cells(map: &ConfigMap, now: Timestamp) -> Vec<Value> {
        let count =
            map.data.as_ref().map_or(0, |data| data.len()) + map.binary_data.as_ref().map_or(0, |data| data.len());
        vec![json!(map.metadata.name), json!(count), age(map.metadata.creation_timestamp.as_ref(), now).into()]
    }

    fn validate(map: &ConfigMap, old: Option<&ConfigMap>, errs: &mut FieldErrors) {
        let texts = map.data.iter().flatten().map(|(key, value)| (key, value.len()));
        let binaries = map.binary_data.iter().flatten().map(|(key, value)| (key, value.0.len()));
        let mut bytes = 0;
        for (key, length) in texts {
            check_key(key, &format!("data[{key}]"), errs);
            bytes += length;
        }
        for (key, length) in binaries {
            check_key(key, &format!("binaryData[{key}]"), errs);
            if map.data.as_ref().is_some_and(|data| data.contains_key(key)) {
                errs.invalid(format!("binaryData[{key}]"), key, "duplicate of key present in data");
            }
            bytes += length;
        }
        if bytes > DATA_BYTES {
            errs.push("", Problem::TooLong(DATA_BYTES));
        }
        let Some(old) = old.filter(|old| old.immutable == Some(true)) else { return };
        let why = "field is immutable when `immutable` is set";
        if map.immutable != Some(true) {
            errs.forbidden("immutable", why);
        }
        if map.data != old.data {
            errs.forbidden("data", why);
        }
        if map.binary_data != old.binary_data {
            errs.forbidden("binaryData", why);
        }
    }
}

/// Keys of ConfigMaps and Secrets become file names.
pub(crate) fn check_key(key: &str, path: &str, errs: &mut FieldErrors) {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    if key.is_empty() || !key.chars().all(fits) {
        let why = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
        errs.invalid(path, key, why);
    } else if key == "." || key.starts_with("..") {
        errs.invalid(
            path,
            key,
            if key == "." {
                "must not be '.'"
            } else if key == ".." {
                "must not be '..'"
            } else {
                "must not start with '..'"
            },
        );
    } else if key.len() > 253 {
        errs.invalid(path, key, "must be no more than 253 characters");
    }
}
