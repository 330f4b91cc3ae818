//! What a client is told of a pod that is fine: outdated fields and likely mistakes.
//!
//! Wording: pkg/api/pod/warnings.go of Kubernetes v1.36.

use std::collections::HashSet;

use corten_api::api::core::v1::{Container, Pod, PodSpec};
use corten_api::quantity::Quantity;

/// Labels of nodes that have new names.
const RENAMED: [(&str, &str); 4] = [
    ("beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
    ("beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    ("failure-domain.beta.kubernetes.io/zone", "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"),
];

pub(super) fn pod(pod: &Pod, old: Option<&Pod>) -> Vec<String> {
    // What was there before was told before.
    let unchanged = old.is_some_and(|old| old.spec == pod.spec);
    match &pod.spec {
        Some(spec) if !unchanged => self::spec(spec, "spec"),
        _ => Vec::new(),
    }
}

/// What to tell of a spec, be it of a pod or of a template.
pub(crate) fn spec(spec: &PodSpec, path: &str) -> Vec<String> {
    let mut texts = Vec::new();
    for (key, hint) in RENAMED {
        if spec.node_selector.as_ref().is_some_and(|labels| labels.contains_key(key)) {
            texts.push(format!("{path}.nodeSelector[{key}]: {hint}"));
        }
    }
    for (index, alias) in spec.host_aliases.iter().flatten().enumerate() {
        let twice = spec.host_aliases.iter().flatten().take(index).any(|before| before.ip == alias.ip);
        if twice {
            texts.push(format!("{path}.hostAliases[{index}].ip: duplicate ip {:?}", alias.ip));
        }
    }
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        let path = format!("{path}.volumes[{index}]");
        for (field, used, why) in [
            (
                "photonPersistentDisk",
                volume.photon_persistent_disk.is_some(),
                "deprecated in v1.11, non-functional in v1.16+",
            ),
            ("gitRepo", volume.git_repo.is_some(), "deprecated in v1.11, and disabled by default in v1.33+"),
            ("scaleIO", volume.scale_io.is_some(), "deprecated in v1.16, non-functional in v1.22+"),
            ("flocker", volume.flocker.is_some(), "deprecated in v1.22, non-functional in v1.25+"),
            ("storageos", volume.storageos.is_some(), "deprecated in v1.22, non-functional in v1.25+"),
            ("quobyte", volume.quobyte.is_some(), "deprecated in v1.22, non-functional in v1.25+"),
            ("glusterfs", volume.glusterfs.is_some(), "deprecated in v1.25, non-functional in v1.26+"),
            ("cephfs", volume.cephfs.is_some(), "deprecated in v1.28, non-functional in v1.31+"),
            ("rbd", volume.rbd.is_some(), "deprecated in v1.28, non-functional in v1.31+"),
        ] {
            if used {
                texts.push(format!("{path}.{field}: {why}"));
            }
        }
    }
    for (index, secret) in spec.image_pull_secrets.iter().flatten().enumerate() {
        if secret.name.is_empty() {
            let text = format!("{path}.imagePullSecrets[{index}].name: invalid empty name {:?}", secret.name);
            texts.push(text);
        } else if spec.image_pull_secrets.iter().flatten().take(index).any(|before| before.name == secret.name) {
            texts.push(format!("{path}.imagePullSecrets[{index}].name: duplicate name {:?}", secret.name));
        }
    }
    let inits = spec.init_containers.iter().flatten().enumerate().map(|(index, c)| ("initContainers", index, c));
    let plain = spec.containers.iter().enumerate().map(|(index, c)| ("containers", index, c));
    for (list, index, container) in inits.chain(plain) {
        self::container(container, &format!("{path}.{list}[{index}]"), &mut texts);
    }
    port_names(spec, path, &mut texts);
    if let Some(seconds) = spec.termination_grace_period_seconds
        && seconds < 0
    {
        let why = "must be >= 0; negative values are invalid and will be treated as 1";
        texts.push(format!("{path}.terminationGracePeriodSeconds: {why}"));
    }
    texts
}

fn container(container: &Container, path: &str, texts: &mut Vec<String>) {
    let mut names = HashSet::new();
    for (index, variable) in container.env.iter().flatten().enumerate() {
        if !names.insert(variable.name.as_str()) {
            // Those that lead to an earlier one by `$(NAME)` are meant so.
            let refers = variable.value.as_ref().is_some_and(|value| value.contains(&format!("$({})", variable.name)));
            if !refers {
                let earlier = container.env.iter().flatten().position(|before| before.name == variable.name);
                let why =
                    format!("hides previous definition of {:?}, which may be dropped when using apply", variable.name);
                texts.extend(earlier.map(|_| format!("{path}.env[{index}]: {why}")));
            }
        }
    }
    let resources = container.resources.clone().unwrap_or_default();
    for (field, map) in [("limits", resources.limits), ("requests", resources.requests)] {
        for name in ["memory", "ephemeral-storage"] {
            let amount = map.as_ref().and_then(|map| map.get(name));
            if let Some(text) = amount
                && Quantity::of(text).is_ok_and(|amount| amount.millis() % 1000 != 0)
            {
                texts.push(format!(
                    "{path}.resources.{field}[{name}]: fractional byte value {:?} is invalid, must be an integer",
                    text.0
                ));
            }
        }
    }
    let mut ports = HashSet::new();
    for (index, port) in container.ports.iter().flatten().enumerate() {
        let protocol = port.protocol.as_deref().unwrap_or_default();
        let key =
            (port.container_port, protocol, port.host_port.unwrap_or(0), port.host_ip.as_deref().unwrap_or_default());
        if !ports.insert(key) {
            let before = container.ports.iter().flatten().position(|other| {
                other.container_port == port.container_port && other.protocol.as_deref() == Some(protocol)
            });
            let first = format!("{}.ports[{}]", path, before.unwrap_or(0));
            let what = "duplicate port definition with";
            texts.push(format!("{path}.ports[{index}]: {what} {first}"));
        }
    }
}

/// Names of ports that several containers use: a service that names one reaches only one of them.
fn port_names(spec: &PodSpec, path: &str, texts: &mut Vec<String>) {
    let mut seen: Vec<(&str, String)> = Vec::new();
    for (index, container) in spec.containers.iter().enumerate() {
        for (at, port) in container.ports.iter().flatten().enumerate() {
            let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) else { continue };
            let place = format!("{path}.containers[{index}].ports[{at}].name");
            match seen.iter().find(|(other, _)| *other == name) {
                Some((_, first)) => {
                    let what = "services and probes that select ports by name will use";
                    texts.push(format!("{place}: duplicate port name {name:?} with {first}, {what} {first}"));
                }
                None => seen.push((name, place)),
            }
        }
    }
}
