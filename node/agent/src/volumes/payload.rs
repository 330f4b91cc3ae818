//! The files of the volumes that show objects. Pure.

use std::collections::BTreeMap;

use corten_api::api::core::v1::{ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret};

use crate::env::fields;
use crate::facts::Allocatable;
use crate::sources::Objects;

/// Mode of files for which nothing is said.
pub(crate) const DEFAULT_MODE: i32 = 0o644;

/// A file to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    /// Its bytes.
    pub(crate) data: Vec<u8>,
    /// Its permission bits.
    pub(crate) mode: u32,
    /// Its owner, if not root.
    pub(crate) owner: Option<u32>,
}

/// Files by path relative to the volume.
pub(crate) type Payload = BTreeMap<String, File>;

/// Which keys of an object go where.
#[derive(Clone, Copy)]
pub(crate) struct Selection<'a> {
    /// Name of the object.
    pub(crate) name: &'a str,
    /// All keys if there are none.
    pub(crate) items: Option<&'a [KeyToPath]>,
    /// Mode of files that have none of their own.
    pub(crate) mode: i32,
    /// What is missing is left out.
    pub(crate) optional: bool,
}

/// The files of a ConfigMap.
pub(crate) fn config_map(selection: Selection<'_>, objects: &Objects) -> Result<Payload, String> {
    let all = |map: &ConfigMap| {
        let text = map.data.iter().flatten().map(|(key, value)| (key.clone(), value.clone().into_bytes()));
        let binary = map.binary_data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone()));
        text.chain(binary).collect()
    };
    selected(selection, objects.config_map(selection.name).map(all), "configmap references non-existent config key")
}

/// The files of a Secret.
pub(crate) fn secret(selection: Selection<'_>, objects: &Objects) -> Result<Payload, String> {
    let all =
        |secret: &Secret| secret.data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone())).collect();
    selected(selection, objects.secret(selection.name).map(all), "references non-existent secret key")
}

fn selected(
    selection: Selection<'_>,
    data: Result<BTreeMap<String, Vec<u8>>, String>,
    missing: &str,
) -> Result<Payload, String> {
    let mut data = match data {
        Ok(data) => data,
        Err(_) if selection.optional => return Ok(Payload::new()),
        Err(error) => return Err(error),
    };
    let file =
        |data: Vec<u8>, mode: Option<i32>| File { data, mode: bits(mode.unwrap_or(selection.mode)), owner: None };
    let Some(items) = selection.items.filter(|items| !items.is_empty()) else {
        return Ok(data.into_iter().map(|(key, data)| (key, file(data, None))).collect());
    };
    let mut payload = Payload::new();
    for item in items {
        check_path(&item.path)?;
        match data.get_mut(&item.key) {
            Some(data) => drop(payload.insert(clean(&item.path), file(data.clone(), item.mode))),
            None if selection.optional => {}
            None => return Err(format!("{missing}: {}", item.key)),
        }
    }
    Ok(payload)
}

/// The files of the downward API.
pub(crate) fn downward(
    items: &[DownwardAPIVolumeFile],
    mode: i32,
    pod: &Pod,
    allocatable: &Allocatable,
) -> Result<Payload, String> {
    let mut payload = Payload::new();
    for item in items {
        check_path(&item.path)?;
        let text = if let Some(selector) = &item.field_ref {
            fields::metadata(&selector.field_path, pod)?
        } else if let Some(selector) = &item.resource_field_ref {
            fields::resource(selector, pod, None, allocatable)?
        } else {
            return Err(format!("{} shows neither a field nor a resource", item.path));
        };
        let file = File { data: text.into_bytes(), mode: bits(item.mode.unwrap_or(mode)), owner: None };
        payload.insert(clean(&item.path), file);
    }
    Ok(payload)
}

/// The file of a token. Only its owner reads it, if it is known who that is.
pub(crate) fn token(path: &str, token: &str, mode: i32, owner: Owner) -> Result<Payload, String> {
    check_path(path)?;
    let known = owner.user.is_some() || owner.group.is_some();
    let mode = if known { 0o600 } else { bits(mode) };
    let file = File { data: token.as_bytes().to_vec(), mode, owner: owner.user };
    Ok(Payload::from([(clean(path), file)]))
}

/// Who reads the files of a pod's volumes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Owner {
    /// The user as whom all containers run, if there is one.
    pub(crate) user: Option<u32>,
    /// The pod's `fsGroup`.
    pub(crate) group: Option<u32>,
}

impl Owner {
    pub(crate) fn of(pod: &Pod) -> Self {
        let Some(spec) = &pod.spec else { return Self::default() };
        let context = spec.security_context.as_ref();
        let own = context.and_then(|context| context.run_as_user);
        let mut users = spec
            .init_containers
            .iter()
            .flatten()
            .chain(&spec.containers)
            .map(|container| container.security_context.as_ref().and_then(|context| context.run_as_user).or(own));
        let first = users.next().flatten();
        let user = first.filter(|_| users.all(|user| user == first));
        let number = |number: i64| u32::try_from(number).ok();
        Self { user: user.and_then(number), group: context.and_then(|context| context.fs_group).and_then(number) }
    }
}

fn bits(mode: i32) -> u32 {
    mode.unsigned_abs() & 0o777
}

fn clean(path: &str) -> String {
    path.split('/').filter(|part| !part.is_empty() && *part != ".").collect::<Vec<_>>().join("/")
}

fn check_path(path: &str) -> Result<(), String> {
    let inside = !path.starts_with('/') && !path.starts_with("..") && path.split('/').all(|part| part != "..");
    if inside && !clean(path).is_empty() {
        Ok(())
    } else {
        Err(format!("invalid path {path:?}: must stay inside the volume"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    fn check(items: &Value, optional: bool, expect: &Expect) {
        let objects = Objects::of_test(
            &[json!({"metadata": {"name": "cfg"}, "data": {"a": "1", "b": "2"}, "binaryData": {"c": "AAE="}})],
            &[],
        );
        let items: Option<Vec<KeyToPath>> = serde_json::from_value(items.clone()).expect("items");
        let selection = Selection { name: "cfg", items: items.as_deref(), mode: 0o644, optional };
        let shown = match config_map(selection, &objects) {
            Ok(payload) => show(&payload),
            Err(error) => format!("{error}\n"),
        };
        expect.assert_eq(&shown);
    }

    fn show(payload: &Payload) -> String {
        payload
            .iter()
            .map(|(path, file)| format!("{path} {:o} {:?}\n", file.mode, String::from_utf8_lossy(&file.data)))
            .collect()
    }

    #[test]
    fn keys_and_items() {
        check(
            &Value::Null,
            false,
            &expect![[r#"
            a 644 "1"
            b 644 "2"
            c 644 "\0\u{1}"
        "#]],
        );
        check(
            &json!([{"key": "a", "path": "x//y/./a", "mode": 0o400}]),
            false,
            &expect![[r#"
            x/y/a 400 "1"
        "#]],
        );
        check(
            &json!([{"key": "no", "path": "no"}]),
            false,
            &expect![[r"
            configmap references non-existent config key: no
        "]],
        );
        check(
            &json!([{"key": "no", "path": "no"}, {"key": "a", "path": "a"}]),
            true,
            &expect![[r#"
            a 644 "1"
        "#]],
        );
        for path in ["../a", "/a", "x/../../a", "..a", "", "."] {
            assert!(check_path(path).is_err(), "{path}");
        }
    }

    #[test]
    fn missing_objects() {
        let selection = Selection { name: "none", items: None, mode: 0o644, optional: false };
        assert_eq!(secret(selection, &Objects::default()), Err("secret \"none\" not found".to_owned()));
        let selection = Selection { optional: true, ..selection };
        assert_eq!(secret(selection, &Objects::default()), Ok(Payload::new()));
    }

    #[test]
    fn tokens_belong_to_the_user_of_all_containers() {
        let pod = |spec: Value| testing::pod(json!({"spec": spec}));
        let user = |user: i64| json!({"name": "a", "securityContext": {"runAsUser": user}});
        for (spec, expected) in [
            (json!({"containers": [user(5), user(5)]}), (Some(5), None)),
            (json!({"containers": [user(5), user(6)]}), (None, None)),
            (json!({"containers": [user(5), {"name": "b"}]}), (None, None)),
            (
                json!({"containers": [user(5), {"name": "b"}], "securityContext": {"runAsUser": 5, "fsGroup": 7}}),
                (Some(5), Some(7)),
            ),
        ] {
            let owner = Owner::of(&pod(spec.clone()));
            assert_eq!((owner.user, owner.group), expected, "{spec}");
        }
        let owner = Owner { user: Some(5), group: None };
        assert_eq!(token("token", "x", 0o644, owner).expect("a payload")["token"].mode, 0o600);
        assert_eq!(token("token", "x", 0o644, Owner::default()).expect("a payload")["token"].mode, 0o644);
    }
}
