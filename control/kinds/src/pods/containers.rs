//! Containers of every sort, and what is mounted into them.
//!
//! Wording: pkg/apis/core/validation of Kubernetes v1.36.

use std::collections::{BTreeMap, HashSet};

use corten_api::api::core::v1::{Container, ContainerPort, PodSpec, Volume, VolumeDevice, VolumeMount};
use corten_api::field::{FieldErrors, Problem};

use super::{defaults, env, paths, probes, resources, security};
use crate::meta::label_problems;
use crate::net;

const EPHEMERAL: &str = "cannot be set for an Ephemeral Container";
const NO_SIDECAR: &str = "may not be set for init containers without restartPolicy=Always";

/// What containers may refer to in their pod.
pub(super) struct Pod<'a> {
    pub(super) spec: &'a PodSpec,
    pub(super) volumes: &'a BTreeMap<&'a str, &'a Volume>,
    pub(super) claims: &'a HashSet<&'a str>,
}

pub(super) fn validate(pod: &Pod<'_>, path: &str, errs: &mut FieldErrors) {
    let mut names = HashSet::new();
    if pod.spec.containers.is_empty() {
        errs.required(format!("{path}.containers"), "");
    }
    let mut host_ports = HashSet::new();
    for (index, container) in pod.spec.containers.iter().enumerate() {
        let path = format!("{path}.containers[{index}]");
        common(container, pod, &path, errs);
        name_once(&container.name, &mut names, &path, errs);
        restart(container, &["Always", "Never", "OnFailure"], &path, errs);
        if let Some(lifecycle) = &container.lifecycle {
            hooks(lifecycle, pod, &path, errs);
        }
        probes::container(container, &path, errs);
        unique_host_ports(container, &mut host_ports, &path, errs);
    }
    let mut init_ports = host_ports.clone();
    for (index, container) in pod.spec.init_containers.iter().flatten().enumerate() {
        let path = format!("{path}.initContainers[{index}]");
        common(container, pod, &path, errs);
        name_once(&container.name, &mut names, &path, errs);
        restart(container, &["Always", "Never", "OnFailure"], &path, errs);
        if container.restart_policy.as_deref() == Some("Always") {
            if let Some(lifecycle) = &container.lifecycle {
                hooks(lifecycle, pod, &path, errs);
            }
            probes::container(container, &path, errs);
            unique_host_ports(container, &mut init_ports, &path, errs);
            continue;
        }
        for (field, present) in [
            ("lifecycle", container.lifecycle.is_some()),
            ("livenessProbe", container.liveness_probe.is_some()),
            ("readinessProbe", container.readiness_probe.is_some()),
            ("startupProbe", container.startup_probe.is_some()),
        ] {
            if present {
                errs.forbidden(format!("{path}.{field}"), NO_SIDECAR);
            }
        }
    }
    ephemeral(pod, &mut names, path, errs);
}

fn hooks(lifecycle: &corten_api::api::core::v1::Lifecycle, pod: &Pod<'_>, path: &str, errs: &mut FieldErrors) {
    let os = pod.spec.os.as_ref().map(|os| os.name.as_str());
    probes::lifecycle(lifecycle, pod.spec.termination_grace_period_seconds, os, &format!("{path}.lifecycle"), errs);
}

fn name_once<'a>(name: &'a str, names: &mut HashSet<&'a str>, path: &str, errs: &mut FieldErrors) {
    if !name.is_empty() && !names.insert(name) {
        errs.duplicate(format!("{path}.name"), name);
    }
}

/// The containers for looking into a running pod.
fn ephemeral<'a>(pod: &Pod<'a>, names: &mut HashSet<&'a str>, path: &str, errs: &mut FieldErrors) {
    let targets: HashSet<&str> = {
        let inits = pod.spec.init_containers.iter().flatten();
        pod.spec.containers.iter().chain(inits).map(|container| container.name.as_str()).collect()
    };
    for (index, ephemeral) in pod.spec.ephemeral_containers.iter().flatten().enumerate() {
        let path = format!("{path}.ephemeralContainers[{index}]");
        common(&defaults::as_container(ephemeral), pod, &path, errs);
        name_once(&ephemeral.name, names, &path, errs);
        if let Some(target) = ephemeral.target_container_name.as_deref().filter(|target| !target.is_empty())
            && !targets.contains(target)
        {
            errs.not_found(format!("{path}.targetContainerName"), target);
        }
        let filled = |resources: &corten_api::api::core::v1::ResourceRequirements| *resources != Default::default();
        for (field, present) in [
            ("ports", ephemeral.ports.as_ref().is_some_and(|ports| !ports.is_empty())),
            ("resizePolicy", ephemeral.resize_policy.as_ref().is_some_and(|policies| !policies.is_empty())),
            ("lifecycle", ephemeral.lifecycle.is_some()),
            ("livenessProbe", ephemeral.liveness_probe.is_some()),
            ("readinessProbe", ephemeral.readiness_probe.is_some()),
            ("startupProbe", ephemeral.startup_probe.is_some()),
            ("resources", ephemeral.resources.as_ref().is_some_and(filled)),
            ("restartPolicy", ephemeral.restart_policy.is_some()),
        ] {
            if present {
                errs.forbidden(format!("{path}.{field}"), EPHEMERAL);
            }
        }
        for (at, mount) in ephemeral.volume_mounts.iter().flatten().enumerate() {
            for (field, value) in [("subPath", &mount.sub_path), ("subPathExpr", &mount.sub_path_expr)] {
                if value.as_ref().is_some_and(|value| !value.is_empty()) {
                    errs.forbidden(format!("{path}.volumeMounts[{at}].{field}"), EPHEMERAL);
                }
            }
        }
    }
}

fn common(container: &Container, pod: &Pod<'_>, path: &str, errs: &mut FieldErrors) {
    let at = |field: &str| format!("{path}.{field}");
    if container.name.is_empty() {
        errs.required(at("name"), "");
    } else {
        label_problems(&container.name).into_iter().for_each(|why| errs.invalid(at("name"), &container.name, why));
    }
    match container.image.as_deref() {
        None | Some("") => errs.required(at("image"), ""),
        Some(image) if image != image.trim() => {
            errs.invalid(at("image"), image, "must not have leading or trailing whitespace");
        }
        Some(_) => {}
    }
    one_of(
        container.termination_message_policy.as_deref(),
        &["File", "FallbackToLogsOnError"],
        &at("terminationMessagePolicy"),
        errs,
    );
    ports(container.ports.as_deref().unwrap_or_default(), &at("ports"), errs);
    let file_volume = |name: &str| pod.volumes.contains_key(name);
    env::variables(container.env.as_deref().unwrap_or_default(), &file_volume, &at("env"), errs);
    env::sources(container.env_from.as_deref().unwrap_or_default(), &at("envFrom"), errs);
    let mounts = container.volume_mounts.as_deref().unwrap_or_default();
    let devices = container.volume_devices.as_deref().unwrap_or_default();
    let privileged = container.security_context.as_ref().and_then(|context| context.privileged) == Some(true);
    self::mounts(mounts, devices, privileged, pod, path, errs);
    self::devices(devices, mounts, pod, path, errs);
    one_of(container.image_pull_policy.as_deref(), &["Always", "IfNotPresent", "Never"], &at("imagePullPolicy"), errs);
    if let Some(resources) = &container.resources {
        resources::container(resources, pod.claims, &at("resources"), errs);
    }
    let policies = container.resize_policy.as_deref().unwrap_or_default();
    resources::resize_policies(policies, pod.spec.restart_policy.as_deref(), &at("resizePolicy"), errs);
    if let Some(context) = &container.security_context {
        security::container(context, pod.spec.host_users, &at("securityContext"), errs);
    }
}

/// A word that must be there, and known.
pub(super) fn one_of(value: Option<&str>, supported: &[&str], path: &str, errs: &mut FieldErrors) {
    match value {
        None | Some("") => errs.required(path, ""),
        Some(value) if !supported.contains(&value) => errs.not_supported(path, value, supported),
        Some(_) => {}
    }
}

fn restart(container: &Container, known: &[&str], path: &str, errs: &mut FieldErrors) {
    if let Some(policy) = container.restart_policy.as_deref().filter(|policy| !known.contains(policy)) {
        errs.not_supported(format!("{path}.restartPolicy"), policy, known);
    }
    let rules = container.restart_policy_rules.as_deref().unwrap_or_default();
    let path_of_rules = format!("{path}.restartPolicyRules");
    if !rules.is_empty() && container.restart_policy.is_none() {
        errs.required(format!("{path}.restartPolicy"), "must specify restartPolicy when restart rules are used");
    }
    if rules.len() > 20 {
        errs.push(&path_of_rules, Problem::TooMany(rules.len(), 20));
    }
    for (index, rule) in rules.iter().enumerate() {
        let path = format!("{path_of_rules}[{index}]");
        one_of(Some(&rule.action), &["Restart"], &format!("{path}.action"), errs);
        let Some(codes) = &rule.exit_codes else {
            errs.required(format!("{path}.exitCodes"), "must be specified");
            continue;
        };
        one_of(Some(&codes.operator), &["In", "NotIn"], &format!("{path}.exitCodes.operator"), errs);
        match codes.values.as_ref().map_or(0, Vec::len) {
            0 => errs.required(format!("{path}.exitCodes.values"), "must specify at least one value"),
            count if count > 255 => errs.push(format!("{path}.exitCodes.values"), Problem::TooMany(count, 255)),
            _ => {}
        }
    }
}

fn ports(ports: &[ContainerPort], path: &str, errs: &mut FieldErrors) {
    let mut names = HashSet::new();
    for (index, port) in ports.iter().enumerate() {
        let path = format!("{path}[{index}]");
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            let problems = net::port_name_problems(name);
            if problems.is_empty() && !names.insert(name) {
                errs.duplicate(format!("{path}.name"), name);
            }
            problems.into_iter().for_each(|why| errs.invalid(format!("{path}.name"), name, why));
        }
        match port.container_port {
            0 => errs.required(format!("{path}.containerPort"), ""),
            number => net::port(number, &format!("{path}.containerPort"), errs),
        }
        if let Some(number) = port.host_port.filter(|number| *number != 0) {
            net::port(number, &format!("{path}.hostPort"), errs);
        }
        one_of(port.protocol.as_deref(), net::PROTOCOLS, &format!("{path}.protocol"), errs);
        if let Some(ip) = port.host_ip.as_deref().filter(|ip| !ip.is_empty()) {
            net::address(ip, &format!("{path}.hostIP"), errs);
        }
    }
}

fn unique_host_ports(container: &Container, seen: &mut HashSet<String>, path: &str, errs: &mut FieldErrors) {
    for (index, port) in container.ports.iter().flatten().enumerate() {
        let Some(number) = port.host_port.filter(|number| *number != 0) else { continue };
        let (protocol, ip) =
            (port.protocol.as_deref().unwrap_or_default(), port.host_ip.as_deref().unwrap_or_default());
        let text = format!("{protocol}/{ip}/{number}");
        if seen.contains(&text) {
            errs.duplicate(format!("{path}.ports[{index}].hostPort"), &text);
        }
        seen.insert(text);
    }
}

fn mounts(
    mounts: &[VolumeMount],
    devices: &[VolumeDevice],
    privileged: bool,
    pod: &Pod<'_>,
    path: &str,
    errs: &mut FieldErrors,
) {
    let mut targets = HashSet::new();
    for (index, mount) in mounts.iter().enumerate() {
        let path = format!("{path}.volumeMounts[{index}]");
        if mount.name.is_empty() {
            errs.required(format!("{path}.name"), "");
        }
        if !pod.volumes.contains_key(mount.name.as_str()) {
            errs.not_found(format!("{path}.name"), &mount.name);
        }
        if mount.mount_path.is_empty() {
            errs.required(format!("{path}.mountPath"), "");
        } else if !targets.insert(&mount.mount_path) {
            errs.invalid(format!("{path}.mountPath"), &mount.mount_path, "must be unique");
        }
        if devices.iter().any(|device| device.name == mount.name) {
            errs.invalid(format!("{path}.name"), &mount.name, "must not already exist in volumeDevices");
        }
        if devices.iter().any(|device| device.device_path == mount.mount_path) {
            let why = "must not already exist as a path in volumeDevices";
            errs.invalid(format!("{path}.mountPath"), &mount.mount_path, why);
        }
        paths::mount(mount, &path, errs);
        let propagation = mount.mount_propagation.as_deref();
        if let Some(mode) = propagation {
            let known = ["Bidirectional", "HostToContainer", "None"];
            if !known.contains(&mode) {
                errs.not_supported(format!("{path}.mountPropagation"), mode, &known);
            } else if mode == "Bidirectional" && !privileged {
                let why = "Bidirectional mount propagation is available only to privileged containers";
                errs.forbidden(format!("{path}.mountPropagation"), why);
            }
        }
        let path = format!("{path}.recursiveReadOnly");
        match mount.recursive_read_only.as_deref() {
            None | Some("Disabled") => {}
            Some("Enabled" | "IfPossible") => {
                if mount.read_only != Some(true) {
                    errs.forbidden(&path, "may only be specified when readOnly is true");
                }
                if !matches!(propagation, None | Some("None")) {
                    errs.forbidden(path, "may only be specified when mountPropagation is None or not specified");
                }
            }
            Some(other) => errs.not_supported(path, other, &["Disabled", "Enabled", "IfPossible"]),
        }
    }
}

fn devices(devices: &[VolumeDevice], mounts: &[VolumeMount], pod: &Pod<'_>, path: &str, errs: &mut FieldErrors) {
    for (index, device) in devices.iter().enumerate() {
        let path = format!("{path}.volumeDevices[{index}]");
        let (name, target) = (device.name.as_str(), device.device_path.as_str());
        if name.is_empty() {
            errs.required(format!("{path}.name"), "");
        }
        if devices[..index].iter().any(|before| before.name == name) {
            errs.invalid(format!("{path}.name"), name, "must be unique");
        }
        match pod.volumes.get(name) {
            None => errs.not_found(format!("{path}.name"), name),
            Some(volume) if volume.persistent_volume_claim.is_none() && volume.ephemeral.is_none() => {
                let why = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errs.invalid(format!("{path}.name"), name, why);
            }
            Some(_) => {}
        }
        if target.is_empty() {
            errs.required(format!("{path}.devicePath"), "");
        }
        if devices[..index].iter().any(|before| before.device_path == target) {
            errs.invalid(format!("{path}.devicePath"), target, "must be unique");
        }
        if target.split('/').any(|part| part == "..") {
            errs.invalid(format!("{path}.devicePath"), target, "can not contain backsteps ('..')");
        }
        if mounts.iter().any(|mount| mount.mount_path == target) {
            errs.invalid(format!("{path}.devicePath"), target, "must not already exist as a path in volumeMounts");
        }
        if mounts.iter().any(|mount| mount.name == name) {
            errs.invalid(format!("{path}.name"), name, "must not already exist in volumeMounts");
        }
    }
}
