//! What a pod may know of itself: the downward API.

use std::collections::BTreeMap;
use std::net::IpAddr;

use corten_api::api::core::v1::{Container, Pod, ResourceFieldSelector};
use corten_api::quantity::Quantity;

use crate::facts::{Allocatable, NodeFacts};
use crate::resources::amount;

/// A field of the pod as text. `ips` are the pod's own addresses.
pub(crate) fn field(path: &str, pod: &Pod, ips: &[IpAddr], node: &NodeFacts) -> Result<String, String> {
    let spec = pod.spec.as_ref();
    let first = |ips: &[IpAddr]| ips.first().map(ToString::to_string).unwrap_or_default();
    let all = |ips: &[IpAddr]| ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let text = |text: Option<&String>| text.cloned().unwrap_or_default();
    Ok(match path {
        "spec.nodeName" => text(spec.and_then(|spec| spec.node_name.as_ref())),
        "spec.serviceAccountName" => text(spec.and_then(|spec| spec.service_account_name.as_ref())),
        "spec.restartPolicy" => text(spec.and_then(|spec| spec.restart_policy.as_ref())),
        "spec.schedulerName" => text(spec.and_then(|spec| spec.scheduler_name.as_ref())),
        "status.phase" => text(pod.status.as_ref().and_then(|status| status.phase.as_ref())),
        "status.podIP" => first(ips),
        "status.podIPs" => all(ips),
        "status.hostIP" => first(&node.ips),
        "status.hostIPs" => all(&node.ips),
        path => metadata(path, pod)?,
    })
}

/// A field of the pod's metadata: all that a volume may show.
pub(crate) fn metadata(path: &str, pod: &Pod) -> Result<String, String> {
    let meta = &pod.metadata;
    let key = |prefix: &str| path.strip_prefix(prefix)?.strip_suffix("']");
    let entry = |map: &Option<BTreeMap<String, String>>, key: &str| {
        map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default()
    };
    Ok(match path {
        "metadata.name" => meta.name.clone().unwrap_or_default(),
        "metadata.namespace" => meta.namespace.clone().unwrap_or_default(),
        "metadata.uid" => meta.uid.clone().unwrap_or_default(),
        "metadata.labels" => lines(meta.labels.as_ref()),
        "metadata.annotations" => lines(meta.annotations.as_ref()),
        path => match (key("metadata.labels['"), key("metadata.annotations['")) {
            (Some(key), _) => entry(&meta.labels, key),
            (_, Some(key)) => entry(&meta.annotations, key),
            (None, None) => return Err(format!("unsupported fieldPath: {path}")),
        },
    })
}

fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map.into_iter().flatten().map(|(key, value)| format!("{key}={}", quoted(value))).collect();
    lines.join("\n")
}

/// In double quotes, with the escapes of Go's `%q`, which is what readers of these files parse.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            letter if letter.is_control() && u32::from(letter) < 0x80 => {
                out.push_str(&format!("\\x{:02x}", u32::from(letter)));
            }
            letter if letter.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(letter))),
            letter => out.push(letter),
        }
    }
    out.push('"');
    out
}

/// A request or limit as a whole number of divisors, rounded up. A limit that is not set is what the node has.
pub(crate) fn resource(
    selector: &ResourceFieldSelector,
    pod: &Pod,
    own: Option<&Container>,
    allocatable: &Allocatable,
) -> Result<String, String> {
    let container = match selector.container_name.as_deref().filter(|name| !name.is_empty()) {
        None => own.ok_or_else(|| "the container must be named".to_owned())?,
        Some(name) => container_named(pod, name).ok_or_else(|| format!("container {name} not found"))?,
    };
    let unsupported = || format!("unsupported container resource : {}", selector.resource);
    let (side, name) = selector.resource.split_once('.').ok_or_else(unsupported)?;
    let resources = container.resources.as_ref();
    let value = match side {
        "requests" => amount(resources.and_then(|resources| resources.requests.as_ref()), name),
        "limits" => {
            let limit = amount(resources.and_then(|resources| resources.limits.as_ref()), name);
            match name {
                "cpu" if limit.is_zero() => Quantity::from_millis(allocatable.cpu_millis),
                "memory" if limit.is_zero() => Quantity::from_units(allocatable.memory_bytes),
                "ephemeral-storage" if limit.is_zero() => Quantity::from_units(allocatable.ephemeral_bytes),
                _ => limit,
            }
        }
        _ => return Err(unsupported()),
    };
    let divisor = selector.divisor.as_ref().and_then(|divisor| Quantity::of(divisor).ok());
    let divisor = divisor.filter(|divisor| !divisor.is_zero()).unwrap_or(Quantity::from_units(1));
    let (value, divisor) = match name {
        "cpu" => (value.millis(), divisor.millis()),
        "memory" | "ephemeral-storage" => (value.units(), divisor.units()),
        name if name.starts_with("hugepages-") => (value.units(), divisor.units()),
        _ => return Err(unsupported()),
    };
    let rounded_up = (i128::from(value) + i128::from(divisor) - 1) / i128::from(divisor.max(1));
    Ok(rounded_up.to_string())
}

fn container_named<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    let spec = pod.spec.as_ref()?;
    spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|container| container.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use serde_json::json;

    #[test]
    fn fields_and_resources() {
        let pod = testing::pod(json!({
            "metadata": {"name": "web", "namespace": "demo", "uid": "u1", "labels": {"app": "web", "b": "2"},
                "annotations": {"note": "say \"hi\"\n"}},
            "spec": {"nodeName": "n1", "serviceAccountName": "sa", "containers": [{"name": "a", "resources": {
                "requests": {"cpu": "250m", "memory": "1Mi"}, "limits": {"memory": "1500Ki"}}}]},
        }));
        let node = testing::node();
        let ips = ["10.42.0.5".parse().expect("an address"), "fd00::5".parse().expect("an address")];
        for (path, expected) in [
            ("metadata.name", "web"),
            ("metadata.namespace", "demo"),
            ("metadata.uid", "u1"),
            ("metadata.labels['app']", "web"),
            ("metadata.labels['none']", ""),
            ("metadata.annotations['note']", "say \"hi\"\n"),
            ("metadata.labels", "app=\"web\"\nb=\"2\""),
            ("metadata.annotations", "note=\"say \\\"hi\\\"\\n\""),
            ("spec.nodeName", "n1"),
            ("spec.serviceAccountName", "sa"),
            ("status.podIP", "10.42.0.5"),
            ("status.podIPs", "10.42.0.5,fd00::5"),
            ("status.hostIP", "192.0.2.1"),
        ] {
            assert_eq!(field(path, &pod, &ips, &node).as_deref(), Ok(expected), "{path}");
        }
        assert!(field("spec.nonsense", &pod, &ips, &node).is_err());
        let own = pod.spec.as_ref().map(|spec| &spec.containers[0]);
        for (name, divisor, expected) in [
            ("requests.cpu", "0", "1"),
            ("requests.cpu", "1m", "250"),
            ("requests.memory", "1Ki", "1024"),
            ("limits.cpu", "1", "2"),
            ("limits.memory", "1Mi", "2"),
            ("limits.ephemeral-storage", "1Gi", "10"),
            ("requests.ephemeral-storage", "1", "0"),
        ] {
            let selector = serde_json::from_value(json!({"resource": name, "divisor": divisor})).expect("a selector");
            assert_eq!(resource(&selector, &pod, own, &node.allocatable).as_deref(), Ok(expected), "{name} {divisor}");
        }
    }
}
