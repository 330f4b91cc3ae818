//! The environment of a container.
//!
//! Source: makeEnvironmentVariables of Kubernetes v1.36. Pure: what the variables are made from is given.

mod expand;
pub(crate) mod fields;
mod services;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use corten_api::api::core::v1::{Container, EnvVarSource, Pod, Service};
use indexed::Variables;

pub(crate) use expand::expand;

use crate::facts::NodeFacts;
use crate::ports::PortError;
use crate::sources::Objects;

/// What variables are made from.
pub(crate) struct Given<'a> {
    /// The pod.
    pub(crate) pod: &'a Pod,
    /// Its addresses.
    pub(crate) ips: &'a [IpAddr],
    /// Its node.
    pub(crate) node: &'a NodeFacts,
    /// The ConfigMaps and Secrets that it refers to, as far as they exist.
    pub(crate) objects: &'a Objects,
    /// All services.
    pub(crate) services: &'a [Arc<Service>],
}

/// The variables of a container, without those of its image.
pub(crate) fn environment(container: &Container, given: &Given<'_>) -> Result<Vec<(String, String)>, PortError> {
    let namespace = given.pod.metadata.namespace.as_deref().unwrap_or_default();
    let links = given.pod.spec.as_ref().and_then(|spec| spec.enable_service_links).unwrap_or(true);
    let services = services::variables(given.services, namespace, links);
    let mut variables = Variables::default();
    sets(container, given, &mut variables)?;
    for variable in container.env.iter().flatten() {
        let literal = variable.value.as_deref().filter(|value| !value.is_empty());
        let value = match (literal, &variable.value_from) {
            (Some(value), _) => expand(value, |name| variables.get(name).or_else(|| services.get(name)).cloned()),
            (None, Some(from)) => match referenced(from, container, given).map_err(config_error)? {
                Some(value) => value,
                // Optional, and not there.
                None => continue,
            },
            (None, None) => String::new(),
        };
        variables.set(variable.name.clone(), value);
    }
    for (name, value) in services {
        if variables.get(&name).is_none() {
            variables.set(name, value);
        }
    }
    Ok(variables.into_list())
}

/// A spec that cannot be turned into a container.
pub(crate) fn config_error(message: impl Into<String>) -> PortError {
    PortError { reason: "CreateContainerConfigError", message: message.into() }
}

/// Whole ConfigMaps and Secrets.
fn sets(container: &Container, given: &Given<'_>, variables: &mut Variables) -> Result<(), PortError> {
    for set in container.env_from.iter().flatten() {
        let prefix = set.prefix.as_deref().unwrap_or_default();
        let found: BTreeMap<&String, String> = if let Some(source) = &set.config_map_ref {
            match given.objects.config_map(&source.name) {
                Ok(map) => map.data.iter().flatten().map(|(key, value)| (key, value.clone())).collect(),
                Err(_) if source.optional == Some(true) => continue,
                Err(error) => return Err(config_error(error)),
            }
        } else if let Some(source) = &set.secret_ref {
            match given.objects.secret(&source.name) {
                Ok(secret) => secret.data.iter().flatten().map(|(key, value)| (key, text(&value.0))).collect(),
                Err(_) if source.optional == Some(true) => continue,
                Err(error) => return Err(config_error(error)),
            }
        } else {
            continue;
        };
        for (key, value) in found {
            let name = format!("{prefix}{key}");
            // What exec(2) could not tell apart is left out, as upstream does.
            if !name.contains('=') && name.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
                variables.set(name, value);
            }
        }
    }
    Ok(())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The value that a variable refers to; `None` if it is optional and not there.
fn referenced(from: &EnvVarSource, container: &Container, given: &Given<'_>) -> Result<Option<String>, String> {
    let namespace = given.pod.metadata.namespace.as_deref().unwrap_or_default();
    if let Some(selector) = &from.field_ref {
        return fields::field(&selector.field_path, given.pod, given.ips, given.node).map(Some);
    }
    if let Some(selector) = &from.resource_field_ref {
        return fields::resource(selector, given.pod, Some(container), &given.node.allocatable).map(Some);
    }
    let found = if let Some(selector) = &from.config_map_key_ref {
        let value = given.objects.config_map(&selector.name).and_then(|map| {
            let value = map.data.as_ref().and_then(|data| data.get(&selector.key)).cloned();
            value
                .ok_or_else(|| format!("couldn't find key {} in ConfigMap {namespace}/{}", selector.key, selector.name))
        });
        (value, selector.optional)
    } else if let Some(selector) = &from.secret_key_ref {
        let value = given.objects.secret(&selector.name).and_then(|secret| {
            let value = secret.data.as_ref().and_then(|data| data.get(&selector.key)).map(|value| text(&value.0));
            value.ok_or_else(|| format!("couldn't find key {} in Secret {namespace}/{}", selector.key, selector.name))
        });
        (value, selector.optional)
    } else {
        return Err("variables from files are not supported yet".to_owned());
    };
    match found {
        (Ok(value), _) => Ok(Some(value)),
        (Err(_), Some(true)) => Ok(None),
        (Err(error), _) => Err(error),
    }
}

/// Variables in the order in which they were first set.
mod indexed {
    use std::collections::HashMap;

    #[derive(Default)]
    pub(super) struct Variables {
        list: Vec<(String, String)>,
        places: HashMap<String, usize>,
    }

    impl Variables {
        pub(super) fn get(&self, name: &str) -> Option<&String> {
            self.places.get(name).map(|place| &self.list[*place].1)
        }

        pub(super) fn set(&mut self, name: String, value: String) {
            if let Some(place) = self.places.get(&name) {
                self.list[*place].1 = value;
            } else {
                self.places.insert(name.clone(), self.list.len());
                self.list.push((name, value));
            }
        }

        pub(super) fn into_list(self) -> Vec<(String, String)> {
            self.list
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    fn check(container: &Value, expect: &Expect) {
        let pod = testing::pod(json!({
            "metadata": {"name": "web", "namespace": "demo", "uid": "u1"},
            "spec": {"enableServiceLinks": false, "containers": [container]},
        }));
        let objects = Objects::of_test(
            &[json!({"metadata": {"name": "cfg"}, "data": {"mode": "fast", "my-key.x": "1"}})],
            // "tiger"
            &[json!({"metadata": {"name": "login"}, "data": {"password": "dGlnZXI="}})],
        );
        let node = testing::node();
        let ips = ["10.42.0.5".parse().expect("an address")];
        let given = Given { pod: &pod, ips: &ips, node: &node, objects: &objects, services: &[] };
        let container = &pod.spec.as_ref().expect("a spec").containers[0];
        let shown = match environment(container, &given) {
            Ok(list) => list.iter().map(|(name, value)| format!("{name}={value}\n")).collect(),
            Err(error) => format!("{}: {}\n", error.reason, error.message),
        };
        expect.assert_eq(&shown);
    }

    #[test]
    fn values_sets_and_references() {
        check(
            &json!({"name": "a",
            "envFrom": [{"configMapRef": {"name": "cfg"}, "prefix": "C_"}, {"secretRef": {"name": "login"}},
                {"configMapRef": {"name": "none", "optional": true}}],
            "env": [
                {"name": "PLAIN", "value": "x"},
                {"name": "JOINED", "value": "$(PLAIN)-$(C_mode)-$$(PLAIN)-$(NONE)"},
                {"name": "KEY", "valueFrom": {"configMapKeyRef": {"name": "cfg", "key": "mode"}}},
                {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "login", "key": "password"}}},
                {"name": "GONE", "valueFrom": {"secretKeyRef": {"name": "login", "key": "no", "optional": true}}},
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                {"name": "password", "value": "lion"},
                {"name": "EMPTY"},
            ]}),
            &expect![[r"
                C_mode=fast
                C_my-key.x=1
                password=lion
                PLAIN=x
                JOINED=x-fast-$(PLAIN)-$(NONE)
                KEY=fast
                SECRET=tiger
                IP=10.42.0.5
                CPU=2
                EMPTY=
            "]],
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let variable = |from: Value| json!({"name": "a", "env": [{"name": "X", "valueFrom": from}]});
        check(
            &variable(json!({"configMapKeyRef": {"name": "none", "key": "k"}})),
            &expect![[r#"
                CreateContainerConfigError: configmap "none" not found
            "#]],
        );
        check(
            &variable(json!({"configMapKeyRef": {"name": "cfg", "key": "k"}})),
            &expect![[r"
                CreateContainerConfigError: couldn't find key k in ConfigMap demo/cfg
            "]],
        );
        check(
            &variable(json!({"secretKeyRef": {"name": "login", "key": "k"}})),
            &expect![[r"
                CreateContainerConfigError: couldn't find key k in Secret demo/login
            "]],
        );
        check(
            &json!({"name": "a", "envFrom": [{"secretRef": {"name": "none"}}]}),
            &expect![[r#"
                CreateContainerConfigError: secret "none" not found
            "#]],
        );
    }
}
