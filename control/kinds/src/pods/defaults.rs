//! What a pod's spec is given where the client says nothing.
//!
//! Source: pkg/apis/core/v1/defaults.go of Kubernetes v1.36.

use corten_api::api::core::v1::{
    Container, EphemeralContainer, HTTPGetAction, Lifecycle, LifecycleHandler, ObjectFieldSelector, PodSpec, Probe,
    ResourceRequirements, Volume,
};

/// What the spec of a pod gets that stands in a template as well.
pub(super) fn pod_spec(spec: &mut PodSpec) {
    text(&mut spec.restart_policy, "Always");
    text(&mut spec.dns_policy, "ClusterFirst");
    text(&mut spec.scheduler_name, "default-scheduler");
    spec.termination_grace_period_seconds.get_or_insert(30);
    spec.security_context.get_or_insert_default();
    if spec.service_account.is_none() {
        spec.service_account = spec.service_account_name.clone();
    } else if spec.service_account_name.is_none() {
        spec.service_account_name = spec.service_account.clone();
    }
    spec.init_containers.iter_mut().flatten().chain(&mut spec.containers).for_each(container);
    for ephemeral in spec.ephemeral_containers.iter_mut().flatten() {
        let mut plain = as_container(ephemeral);
        container(&mut plain);
        take_over(ephemeral, plain);
    }
    spec.volumes.iter_mut().flatten().for_each(volume);
}

/// What a pod gets that a template leaves open.
pub(super) fn pod(spec: &mut PodSpec) {
    pod_spec(spec);
    spec.enable_service_links.get_or_insert(true);
    let host_network = spec.host_network == Some(true);
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        if let Some(resources) = &mut container.resources {
            self::resources(resources);
        }
        for port in container.ports.iter_mut().flatten().filter(|_| host_network) {
            port.host_port.get_or_insert(port.container_port);
        }
    }
    pod_resources(spec);
}

fn text(field: &mut Option<String>, default: &str) {
    if field.as_deref().is_none_or(str::is_empty) {
        *field = Some(default.to_owned());
    }
}

fn container(container: &mut Container) {
    let policy = image_pull_policy(container.image.as_deref().unwrap_or_default());
    text(&mut container.image_pull_policy, policy);
    text(&mut container.termination_message_path, "/dev/termination-log");
    text(&mut container.termination_message_policy, "File");
    for port in container.ports.iter_mut().flatten() {
        text(&mut port.protocol, "TCP");
    }
    for from in container.env.iter_mut().flatten().filter_map(|variable| variable.value_from.as_mut()) {
        from.field_ref.iter_mut().for_each(field_ref);
        if let Some(file) = &mut from.file_key_ref {
            file.optional.get_or_insert(false);
        }
    }
    let probes = [&mut container.readiness_probe, &mut container.liveness_probe, &mut container.startup_probe];
    probes.into_iter().flatten().for_each(probe);
    if let Some(Lifecycle { post_start, pre_stop, .. }) = &mut container.lifecycle {
        for LifecycleHandler { http_get, .. } in [post_start, pre_stop].into_iter().flatten() {
            http_get.iter_mut().for_each(self::http_get);
        }
    }
    container.resources.get_or_insert_default();
}

/// An ephemeral container seen as any other.
pub(super) fn as_container(ephemeral: &EphemeralContainer) -> Container {
    let EphemeralContainer { name, image, ports, env, env_from, .. } = ephemeral.clone();
    Container {
        name,
        image,
        ports,
        env,
        env_from,
        image_pull_policy: ephemeral.image_pull_policy.clone(),
        lifecycle: ephemeral.lifecycle.clone(),
        liveness_probe: ephemeral.liveness_probe.clone(),
        readiness_probe: ephemeral.readiness_probe.clone(),
        resize_policy: ephemeral.resize_policy.clone(),
        resources: ephemeral.resources.clone(),
        restart_policy: ephemeral.restart_policy.clone(),
        restart_policy_rules: ephemeral.restart_policy_rules.clone(),
        security_context: ephemeral.security_context.clone(),
        startup_probe: ephemeral.startup_probe.clone(),
        termination_message_path: ephemeral.termination_message_path.clone(),
        termination_message_policy: ephemeral.termination_message_policy.clone(),
        volume_devices: ephemeral.volume_devices.clone(),
        volume_mounts: ephemeral.volume_mounts.clone(),
        ..Container::default()
    }
}

/// Gives an ephemeral container what it got as a container.
fn take_over(ephemeral: &mut EphemeralContainer, plain: Container) {
    ephemeral.image_pull_policy = plain.image_pull_policy;
    ephemeral.termination_message_path = plain.termination_message_path;
    ephemeral.termination_message_policy = plain.termination_message_policy;
    ephemeral.env = plain.env;
    // What such a container may not have is kept as given, so that it can be refused.
    ephemeral.ports = plain.ports;
    ephemeral.resources = plain.resources;
}

/// What is limited and not requested is requested.
fn resources(resources: &mut ResourceRequirements) {
    let Some(limits) = &resources.limits else { return };
    let requests = resources.requests.get_or_insert_default();
    for (name, amount) in limits {
        requests.entry(name.clone()).or_insert_with(|| amount.clone());
    }
}

/// A pod that has resources of its own requests what its containers do, else what it is limited to.
fn pod_resources(spec: &mut PodSpec) {
    let Some(mut own) = spec.resources.take() else { return };
    let named = own.requests.iter().chain(&own.limits).any(|map| !map.is_empty());
    if named {
        let requests = own.requests.get_or_insert_default();
        for (name, amount) in super::resources::aggregate(spec, |resources| resources.requests.as_ref()) {
            if super::resources::is_for_pods(&name) {
                requests.entry(name).or_insert_with(|| amount.into());
            }
        }
        for (name, amount) in own.limits.iter().flatten() {
            requests.entry(name.clone()).or_insert_with(|| amount.clone());
        }
    }
    spec.resources = Some(own);
}

/// `Always` for `latest` and for images without tag, else `IfNotPresent`.
fn image_pull_policy(image: &str) -> &'static str {
    let name = image.rsplit('/').next().unwrap_or_default();
    let (has_digest, name) = name.split_once('@').map_or((false, name), |(name, _)| (true, name));
    match name.split_once(':') {
        None if has_digest => "IfNotPresent",
        None | Some((_, "latest")) => "Always",
        Some(_) => "IfNotPresent",
    }
}

fn probe(probe: &mut Probe) {
    for (field, default) in [
        (&mut probe.timeout_seconds, 1),
        (&mut probe.period_seconds, 10),
        (&mut probe.success_threshold, 1),
        (&mut probe.failure_threshold, 3),
    ] {
        if field.is_none_or(|value| value == 0) {
            *field = Some(default);
        }
    }
    probe.http_get.iter_mut().for_each(http_get);
    if let Some(grpc) = &mut probe.grpc {
        grpc.service.get_or_insert_default();
    }
}

fn http_get(action: &mut HTTPGetAction) {
    text(&mut action.path, "/");
    text(&mut action.scheme, "HTTP");
}

fn field_ref(field: &mut ObjectFieldSelector) {
    text(&mut field.api_version, "v1");
}

fn volume(volume: &mut Volume) {
    const MODE: i32 = 0o644;
    if let Some(source) = &mut volume.config_map {
        source.default_mode.get_or_insert(MODE);
    }
    if let Some(source) = &mut volume.secret {
        source.default_mode.get_or_insert(MODE);
    }
    if let Some(source) = &mut volume.host_path {
        source.type_.get_or_insert_default();
    }
    if let Some(source) = &mut volume.downward_api {
        source.default_mode.get_or_insert(MODE);
        source.items.iter_mut().flatten().filter_map(|item| item.field_ref.as_mut()).for_each(field_ref);
    }
    if let Some(source) = &mut volume.projected {
        source.default_mode.get_or_insert(MODE);
        for part in source.sources.iter_mut().flatten() {
            if let Some(token) = &mut part.service_account_token {
                token.expiration_seconds.get_or_insert(3600);
            }
            if let Some(certificate) = &mut part.pod_certificate {
                certificate.max_expiration_seconds.get_or_insert(86_400);
            }
            if let Some(downward) = &mut part.downward_api {
                downward.items.iter_mut().flatten().filter_map(|item| item.field_ref.as_mut()).for_each(field_ref);
            }
        }
    }
    if let Some(source) = &mut volume.iscsi {
        text(&mut source.iscsi_interface, "default");
    }
    if let Some(source) = &mut volume.rbd {
        text(&mut source.pool, "rbd");
        text(&mut source.user, "admin");
        text(&mut source.keyring, "/etc/ceph/keyring");
    }
    if let Some(source) = &mut volume.azure_disk {
        source.caching_mode.get_or_insert_with(|| "ReadWrite".to_owned());
        source.kind.get_or_insert_with(|| "Shared".to_owned());
        source.fs_type.get_or_insert_with(|| "ext4".to_owned());
        source.read_only.get_or_insert(false);
    }
    if let Some(source) = &mut volume.scale_io {
        text(&mut source.storage_mode, "ThinProvisioned");
        text(&mut source.fs_type, "xfs");
    }
    if let Some(template) = volume.ephemeral.as_mut().and_then(|source| source.volume_claim_template.as_mut()) {
        template.spec.volume_mode.get_or_insert_with(|| "Filesystem".to_owned());
    }
    if let Some(source) = &mut volume.image
        && let Some(reference) = &source.reference
    {
        let policy = image_pull_policy(reference);
        text(&mut source.pull_policy, policy);
    }
    let has_source =
        serde_json::to_value(&*volume).is_ok_and(|value| value.as_object().is_some_and(|map| map.len() > 1));
    if !has_source {
        volume.empty_dir.get_or_insert_default();
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_pull_policy_follows_the_tag() {
        for (image, policy) in [
            ("web", "Always"),
            ("web:latest", "Always"),
            ("web:1", "IfNotPresent"),
            ("localhost:5000/web", "Always"),
            ("localhost:5000/web:v1", "IfNotPresent"),
            ("web@sha256:00", "IfNotPresent"),
        ] {
            assert_eq!(super::image_pull_policy(image), policy, "{image}");
        }
    }
}
