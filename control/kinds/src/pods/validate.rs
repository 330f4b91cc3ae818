//! What may be wrong with a pod's spec.
//!
//! Wording and order: pkg/apis/core/validation/validation.go of Kubernetes v1.36.

use std::collections::HashSet;

use corten_api::IntOrString;
use corten_api::api::core::v1::{Container, ContainerPort, EnvVar, HTTPGetAction, PodSpec, Probe, Toleration, Volume};
use corten_api::field::FieldErrors;
use corten_api::label;
use corten_api::quantity::Quantity;

use super::paths;
use crate::meta::label_problems;

pub(super) fn pod_spec(spec: &PodSpec, path: &str, errs: &mut FieldErrors) {
    let volumes = volumes(spec.volumes.as_deref().unwrap_or_default(), path, errs);
    let mut names = HashSet::new();
    if spec.containers.is_empty() {
        errs.required(format!("{path}.containers"), "");
    }
    for (index, container) in spec.containers.iter().enumerate() {
        self::container(container, &format!("{path}.containers[{index}]"), &volumes, &mut names, errs);
        if container.restart_policy.is_some() && container.restart_policy.as_deref() == Some("") {
            errs.not_supported(
                format!("{path}.containers[{index}].restartPolicy"),
                "",
                &["Always", "Never", "OnFailure"],
            );
        }
    }
    for (index, container) in spec.init_containers.iter().flatten().enumerate() {
        let path = format!("{path}.initContainers[{index}]");
        self::container(container, &path, &volumes, &mut names, errs);
        if container.restart_policy.as_deref() == Some("Always") {
            continue;
        }
        for (field, present) in [
            ("livenessProbe", container.liveness_probe.is_some()),
            ("readinessProbe", container.readiness_probe.is_some()),
            ("startupProbe", container.startup_probe.is_some()),
        ] {
            if present {
                errs.forbidden(
                    format!("{path}.{field}"),
                    "may not be set for init containers without restartPolicy=Always",
                );
            }
        }
    }
    one_of(spec.restart_policy.as_deref(), &["Always", "OnFailure", "Never"], &format!("{path}.restartPolicy"), errs);
    let dns = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    one_of(spec.dns_policy.as_deref(), &dns, &format!("{path}.dnsPolicy"), errs);
    if let Some(seconds) = spec.active_deadline_seconds.filter(|seconds| !(1..=i64::from(i32::MAX)).contains(seconds)) {
        errs.invalid(format!("{path}.activeDeadlineSeconds"), seconds, "must be between 1 and 2147483647, inclusive");
    }
    if let Some(seconds) = spec.termination_grace_period_seconds.filter(|seconds| *seconds < 0) {
        errs.invalid(format!("{path}.terminationGracePeriodSeconds"), seconds, "must be greater than or equal to 0");
    }
    for (field, value) in [
        ("nodeName", &spec.node_name),
        ("serviceAccountName", &spec.service_account_name),
        ("schedulerName", &spec.scheduler_name),
    ] {
        for why in value.iter().filter(|value| !value.is_empty()).flat_map(|value| label::subdomain_problems(value)) {
            errs.invalid(format!("{path}.{field}"), value.as_deref().unwrap_or_default(), why);
        }
    }
    for (field, value) in [("hostname", &spec.hostname), ("subdomain", &spec.subdomain)] {
        for why in value.iter().filter(|value| !value.is_empty()).flat_map(|value| label_problems(value)) {
            errs.invalid(format!("{path}.{field}"), value.as_deref().unwrap_or_default(), why);
        }
    }
    crate::meta::labels(spec.node_selector.iter().flatten(), &format!("{path}.nodeSelector"), errs);
    for (index, toleration) in spec.tolerations.iter().flatten().enumerate() {
        self::toleration(toleration, &format!("{path}.tolerations[{index}]"), errs);
    }
}

fn one_of(value: Option<&str>, supported: &[&str], path: &str, errs: &mut FieldErrors) {
    match value {
        None | Some("") => errs.required(path, ""),
        Some(value) if !supported.contains(&value) => errs.not_supported(path, value, supported),
        Some(_) => {}
    }
}

/// Names of the volumes that are well-formed enough to be mounted.
fn volumes<'a>(volumes: &'a [Volume], path: &str, errs: &mut FieldErrors) -> HashSet<&'a str> {
    let mut names = HashSet::new();
    for (index, volume) in volumes.iter().enumerate() {
        let path = format!("{path}.volumes[{index}]");
        if volume.name.is_empty() {
            errs.required(format!("{path}.name"), "");
        }
        for why in Some(&volume.name).filter(|name| !name.is_empty()).map_or_else(Vec::new, |name| label_problems(name))
        {
            errs.invalid(format!("{path}.name"), &volume.name, why);
        }
        if !names.insert(volume.name.as_str()) {
            errs.duplicate(format!("{path}.name"), &volume.name);
        }
        let sources = serde_json::to_value(volume).map_or(0, |value| value.as_object().map_or(0, |map| map.len() - 1));
        if sources > 1 {
            errs.forbidden(path.clone(), "may not specify more than 1 volume type");
        }
        if let Some(source) = &volume.host_path
            && source.path.is_empty()
        {
            errs.required(format!("{path}.hostPath.path"), "");
        }
        if let Some(source) = &volume.host_path
            && source.path.split('/').any(|part| part == "..")
        {
            errs.invalid(format!("{path}.hostPath.path"), &source.path, "must not contain '..'");
        }
        if let Some(source) = &volume.config_map
            && source.name.is_empty()
        {
            errs.required(format!("{path}.configMap.name"), "");
        }
        if let Some(source) = &volume.secret
            && source.secret_name.as_deref().is_none_or(str::is_empty)
        {
            errs.required(format!("{path}.secret.secretName"), "");
        }
        paths::volume(volume, &path, errs);
    }
    names
}

fn container<'a>(
    container: &'a Container,
    path: &str,
    volumes: &HashSet<&str>,
    names: &mut HashSet<&'a str>,
    errs: &mut FieldErrors,
) {
    if container.name.is_empty() {
        errs.required(format!("{path}.name"), "");
    } else {
        for why in label_problems(&container.name) {
            errs.invalid(format!("{path}.name"), &container.name, why);
        }
        if !names.insert(&container.name) {
            errs.duplicate(format!("{path}.name"), &container.name);
        }
    }
    match container.image.as_deref() {
        None | Some("") => errs.required(format!("{path}.image"), ""),
        Some(image) if image != image.trim() => {
            errs.invalid(format!("{path}.image"), image, "must not have leading or trailing whitespace");
        }
        Some(_) => {}
    }
    ports(container.ports.as_deref().unwrap_or_default(), path, errs);
    env(container.env.as_deref().unwrap_or_default(), path, errs);
    let mut targets = HashSet::new();
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let path = format!("{path}.volumeMounts[{index}]");
        if mount.name.is_empty() {
            errs.required(format!("{path}.name"), "");
        }
        if !volumes.contains(mount.name.as_str()) {
            errs.not_found(format!("{path}.name"), &mount.name);
        }
        if mount.mount_path.is_empty() {
            errs.required(format!("{path}.mountPath"), "");
        } else if !targets.insert(&mount.mount_path) {
            errs.invalid(format!("{path}.mountPath"), &mount.mount_path, "must be unique");
        }
        paths::mount(mount, &path, errs);
    }
    for (field, probe) in [
        ("livenessProbe", &container.liveness_probe),
        ("readinessProbe", &container.readiness_probe),
        ("startupProbe", &container.startup_probe),
    ] {
        let path = format!("{path}.{field}");
        if let Some(probe) = probe {
            self::probe(probe, &path, errs);
            let must_be_one = field != "readinessProbe" && probe.success_threshold.is_some_and(|count| count != 1);
            if must_be_one {
                errs.invalid(format!("{path}.successThreshold"), probe.success_threshold.unwrap_or(0), "must be 1");
            }
        }
    }
    one_of(
        container.image_pull_policy.as_deref(),
        &["Always", "IfNotPresent", "Never"],
        &format!("{path}.imagePullPolicy"),
        errs,
    );
    let policies = ["File", "FallbackToLogsOnError"];
    one_of(
        container.termination_message_policy.as_deref(),
        &policies,
        &format!("{path}.terminationMessagePolicy"),
        errs,
    );
    resources(container, path, errs);
}

fn ports(ports: &[ContainerPort], path: &str, errs: &mut FieldErrors) {
    let mut names = HashSet::new();
    for (index, port) in ports.iter().enumerate() {
        let path = format!("{path}.ports[{index}]");
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            if name.len() > 15 {
                errs.invalid(format!("{path}.name"), name, "must be no more than 15 characters");
            } else if !name.chars().all(letters) || !name.contains(|c: char| c.is_ascii_lowercase()) {
                let why = "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-), and at least one letter (a-z)";
                errs.invalid(format!("{path}.name"), name, why);
            } else if !names.insert(name) {
                errs.duplicate(format!("{path}.name"), name);
            }
        }
        for (field, number) in [("containerPort", Some(port.container_port)), ("hostPort", port.host_port)] {
            match number {
                Some(0) if field == "containerPort" => errs.required(format!("{path}.{field}"), ""),
                Some(number) if number != 0 && !(1..=65_535).contains(&number) => {
                    errs.invalid(format!("{path}.{field}"), number, "must be between 1 and 65535, inclusive");
                }
                _ => {}
            }
        }
        one_of(port.protocol.as_deref(), &["SCTP", "TCP", "UDP"], &format!("{path}.protocol"), errs);
    }
}

fn env(variables: &[EnvVar], path: &str, errs: &mut FieldErrors) {
    for (index, variable) in variables.iter().enumerate() {
        let path = format!("{path}.env[{index}]");
        if variable.name.is_empty() {
            errs.required(format!("{path}.name"), "");
        } else if variable.name.contains('=') || !variable.name.chars().all(|c| c.is_ascii() && !c.is_ascii_control()) {
            let why =
                "a valid environment variable name must consist only of printable ASCII characters other than '='";
            errs.invalid(format!("{path}.name"), &variable.name, why);
        }
        let Some(from) = &variable.value_from else { continue };
        if variable.value.as_ref().is_some_and(|value| !value.is_empty()) {
            errs.invalid(format!("{path}.valueFrom"), "", "may not be specified when `value` is not empty");
        }
        let count = [
            from.field_ref.is_some(),
            from.resource_field_ref.is_some(),
            from.config_map_key_ref.is_some(),
            from.secret_key_ref.is_some(),
        ]
        .into_iter()
        .filter(|is| *is)
        .count();
        if count == 0 {
            let why = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`";
            errs.invalid(format!("{path}.valueFrom"), "", why);
        } else if count > 1 {
            errs.invalid(format!("{path}.valueFrom"), "", "may not have more than one field specified at a time");
        }
    }
}

fn probe(probe: &Probe, path: &str, errs: &mut FieldErrors) {
    let handlers = [probe.exec.is_some(), probe.http_get.is_some(), probe.tcp_socket.is_some(), probe.grpc.is_some()];
    match handlers.into_iter().filter(|is| *is).count() {
        0 => errs.required(path, "must specify a handler type"),
        1 => {}
        _ => errs.forbidden(path, "may not specify more than 1 handler type"),
    }
    for (field, value) in [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ] {
        if let Some(value) = value.filter(|value| *value < 0) {
            errs.invalid(format!("{path}.{field}"), value, "must be greater than or equal to 0");
        }
    }
    if let Some(HTTPGetAction { port, path: target, .. }) = &probe.http_get {
        if target.as_deref().is_none_or(str::is_empty) {
            errs.required(format!("{path}.httpGet.path"), "");
        }
        port_number(port, &format!("{path}.httpGet.port"), errs);
    }
    if let Some(tcp) = &probe.tcp_socket {
        port_number(&tcp.port, &format!("{path}.tcpSocket.port"), errs);
    }
    if probe.exec.as_ref().is_some_and(|exec| exec.command.as_ref().is_none_or(Vec::is_empty)) {
        errs.required(format!("{path}.exec.command"), "");
    }
}

fn port_number(port: &IntOrString, path: &str, errs: &mut FieldErrors) {
    if let IntOrString::Int(number) = port
        && !(1..=65_535).contains(number)
    {
        errs.invalid(path, number, "must be between 1 and 65535, inclusive");
    }
}

fn resources(container: &Container, path: &str, errs: &mut FieldErrors) {
    let Some(resources) = &container.resources else { return };
    let amounts = [("limits", &resources.limits), ("requests", &resources.requests)];
    for (field, map) in amounts {
        for (name, amount) in map.iter().flatten() {
            let path = format!("{path}.resources.{field}[{name}]");
            match Quantity::of(amount) {
                Ok(quantity) if quantity.is_negative() => {
                    errs.invalid(path, &amount.0, "must be greater than or equal to 0");
                }
                Ok(_) => {}
                Err(error) => errs.invalid(path, &amount.0, error.to_string()),
            }
        }
    }
    for (name, request) in resources.requests.iter().flatten() {
        let limit = resources.limits.as_ref().and_then(|limits| limits.get(name));
        if let (Ok(wanted), Some(Ok(most))) = (Quantity::of(request), limit.map(Quantity::of))
            && wanted > most
        {
            let most = limit.map(|limit| limit.0.clone()).unwrap_or_default();
            errs.invalid(
                format!("{path}.resources.requests"),
                &request.0,
                format!("must be less than or equal to {name} limit of {most}"),
            );
        }
    }
}

pub(crate) fn toleration(toleration: &Toleration, path: &str, errs: &mut FieldErrors) {
    let key = toleration.key.as_deref().unwrap_or_default();
    let operator = toleration.operator.as_deref().unwrap_or("Equal");
    for why in Some(key).filter(|key| !key.is_empty()).map_or_else(Vec::new, label::key_problems) {
        errs.invalid(format!("{path}.key"), key, why);
    }
    if key.is_empty() && operator != "Exists" {
        let why = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
        errs.invalid(format!("{path}.operator"), operator, why);
    }
    let effect = toleration.effect.as_deref().unwrap_or_default();
    if toleration.toleration_seconds.is_some() && effect != "NoExecute" {
        errs.invalid(format!("{path}.effect"), effect, "effect must be 'NoExecute' when `tolerationSeconds` is set");
    }
    if !["Equal", "Exists", ""].contains(&operator) {
        errs.not_supported(format!("{path}.operator"), operator, &["Equal", "Exists"]);
    }
}
