//! What the caches of all objects of a kind keep: what plans read, and no more.
//!
//! A typed pod costs several times its text; most of that text is what only its node reads. Who needs whole objects
//! (the agent, its own pods) asks for them by a filter.

use std::any::Any;

use corten_api::api::core::v1::{Container, ContainerStatus, Pod, Volume};
use kube::Resource;

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The object without its managers: nobody here reads them, and they are often the larger half. Who writes such an
/// object back loses none, since the server keeps what it is not told about.
pub(crate) fn without_managers<K: Resource>(object: &mut K) {
    object.meta_mut().managed_fields = None;
}

/// Drops what no plan reads.
pub(crate) fn trim<K: Resource + Any>(object: &mut K) {
    without_managers(object);
    if let Some(pod) = (object as &mut dyn Any).downcast_mut::<Pod>() {
        trim_pod(pod);
    }
}

fn trim_pod(pod: &mut Pod) {
    if let Some(annotations) = &mut pod.metadata.annotations {
        annotations.remove(LAST_APPLIED);
    }
    if let Some(spec) = &mut pod.spec {
        spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()).for_each(trim_container);
        shrink(&mut spec.containers);
        spec.ephemeral_containers = None;
        spec.dns_config = None;
        spec.host_aliases = None;
        spec.security_context = None;
        spec.image_pull_secrets = None;
        if let Some(volumes) = &mut spec.volumes {
            volumes.retain(decides);
            shrink(volumes);
        }
        spec.volumes.take_if(|volumes| volumes.is_empty());
    }
    if let Some(status) = &mut pod.status {
        let all = [&mut status.container_statuses, &mut status.init_container_statuses];
        all.into_iter().flatten().flatten().for_each(trim_status);
        status.ephemeral_container_statuses = None;
    }
}

/// A container as those see it who place, count and replace pods: its name, image, ports and resources.
fn trim_container(container: &mut Container) {
    let whole = std::mem::take(container);
    *container = Container {
        name: whole.name,
        image: whole.image,
        ports: whole.ports,
        resources: whole.resources,
        resize_policy: whole.resize_policy,
        restart_policy: whole.restart_policy,
        restart_policy_rules: whole.restart_policy_rules,
        ..Container::default()
    };
}

/// Whether a volume has a say in where its pod runs and in what may be deleted.
fn decides(volume: &Volume) -> bool {
    volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some() || volume.csi.is_some()
}

fn trim_status(status: &mut ContainerStatus) {
    status.image_id = String::new();
    status.container_id = None;
    status.volume_mounts = None;
    status.user = None;
    status.allocated_resources_status = None;
}

fn shrink<T>(list: &mut Vec<T>) {
    list.shrink_to_fit();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cached_pod_has_what_plans_read() {
        let mut pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "web", "annotations": {LAST_APPLIED: "{}", "kept": "yes"}, "managedFields": [{}]},
            "spec": {
                "nodeName": "a", "tolerations": [{"operator": "Exists"}],
                "containers": [{
                    "name": "c", "image": "i", "command": ["x"], "env": [{"name": "A", "value": "b"}],
                    "ports": [{"containerPort": 80, "hostPort": 80}], "resources": {"requests": {"cpu": "1"}},
                    "livenessProbe": {"tcpSocket": {"port": 80}}, "volumeMounts": [{"name": "v", "mountPath": "/v"}],
                }],
                "volumes": [{"name": "v", "emptyDir": {}}, {"name": "w", "persistentVolumeClaim": {"claimName": "w"}}],
            },
            "status": {"phase": "Running", "containerStatuses": [{
                "name": "c", "image": "i", "imageID": "sha256:1", "containerID": "corten://1", "ready": true,
                "restartCount": 2, "state": {"terminated": {"exitCode": 3}},
            }]},
        }))
        .expect("a pod");
        trim(&mut pod);
        let wanted = serde_json::json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "web", "annotations": {"kept": "yes"}},
            "spec": {
                "nodeName": "a", "tolerations": [{"operator": "Exists"}],
                "containers": [{
                    "name": "c", "image": "i", "ports": [{"containerPort": 80, "hostPort": 80}],
                    "resources": {"requests": {"cpu": "1"}},
                }],
                "volumes": [{"name": "w", "persistentVolumeClaim": {"claimName": "w"}}],
            },
            "status": {"phase": "Running", "containerStatuses": [{
                "name": "c", "image": "i", "imageID": "", "ready": true, "restartCount": 2,
                "state": {"terminated": {"exitCode": 3}},
            }]},
        });
        assert_eq!(serde_json::to_value(&pod).expect("encode"), wanted);
    }
}
