//! What becomes of a status that a client sends along with a new object.

use serde_json::{Value, json};

use super::{create, kind};
use crate::{KINDS, Subresource};

/// The least that each kind with a status takes.
fn objects() -> Vec<(&'static str, Value)> {
    let selector = json!({"matchLabels": {"app": "web"}});
    let template = |policy: &str| {
        json!({"metadata": {"labels": {"app": "web"}},
            "spec": {"restartPolicy": policy, "containers": [{"name": "c", "image": "web:1"}]}})
    };
    let (always, never) = (template("Always"), template("Never"));
    let limited = json!({"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}});
    let request = corten_api::k8s_openapi::ByteString(include_bytes!("request.pem").to_vec());
    let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
    let claim = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    vec![
        ("Pod", json!({"containers": [{"name": "c", "image": "web:1"}]})),
        ("Node", json!({})),
        ("Namespace", json!({})),
        ("Service", json!({"ports": [{"port": 80}]})),
        ("ReplicationController", json!({"selector": {"app": "web"}, "template": always})),
        ("ResourceQuota", json!({"hard": {"pods": "1"}})),
        ("PersistentVolumeClaim", claim),
        (
            "PersistentVolume",
            json!({"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/d"}}),
        ),
        ("Deployment", json!({"selector": selector, "template": always})),
        ("ReplicaSet", json!({"selector": selector, "template": always})),
        ("DaemonSet", json!({"selector": selector, "template": always})),
        ("StatefulSet", json!({"selector": selector, "template": always, "serviceName": "web"})),
        ("Job", json!({"template": never})),
        ("CronJob", json!({"schedule": "@daily", "jobTemplate": {"spec": {"template": never}}})),
        (
            "HorizontalPodAutoscaler",
            json!({"maxReplicas": 2, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}),
        ),
        ("PodDisruptionBudget", json!({"selector": selector, "minAvailable": 1})),
        ("Ingress", json!({"defaultBackend": backend})),
        ("ServiceCIDR", json!({"cidrs": ["10.1.0.0/16"]})),
        (
            "CertificateSigningRequest",
            json!({"signerName": "example.com/a", "usages": ["digital signature"], "request": request}),
        ),
        (
            "FlowSchema",
            json!({"matchingPrecedence": 5, "priorityLevelConfiguration": {"name": "l"}, "rules": [{
                "subjects": [{"kind": "User", "user": {"name": "u"}}],
                "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/x"]}],
            }]}),
        ),
        ("PriorityLevelConfiguration", limited),
        (
            "APIService",
            json!({"group": "example.com", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 10,
                "service": {"name": "a", "namespace": "b"}, "insecureSkipTLSVerify": true}),
        ),
        (
            "VolumeAttachment",
            json!({"attacher": "a.example.com", "nodeName": "n", "source": {"persistentVolumeName": "v"}}),
        ),
        ("ResourceClaim", json!({})),
        (
            "ValidatingAdmissionPolicy",
            json!({"matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"],
                "operations": ["CREATE"], "resources": ["pods"]}]}, "validations": [{"expression": "true"}]}),
        ),
    ]
}

#[test]
fn only_a_node_brings_its_status_along() {
    let objects = objects();
    for kind in KINDS.iter().filter(|kind| kind.subresources().contains(&Subresource::Status) && !kind.is_view()) {
        assert!(objects.iter().any(|(name, _)| *name == kind.names().kind), "{} is not in the table", kind.names());
    }
    for (name, spec) in objects {
        let own_name = if name == "APIService" { "v1.example.com" } else { "a" };
        let mut new = json!({"metadata": {"name": own_name, "uid": "u-1"}, "spec": spec});
        if kind(name).scope() == corten_api::names::Scope::Namespaced {
            new["metadata"]["namespace"] = "default".into();
        }
        let alone = create(name, new.clone());
        new["status"] = json!({"observedGeneration": 7, "currentHealthy": 3, "desiredHealthy": 3, "replicas": 4,
            "disruptionsAllowed": 3, "expectedPods": 3, "attached": true, "phase": "Failed",
            "conditions": [{"type": "Sent", "status": "True", "reason": "Sent", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
        let sent = create(name, new);
        assert_eq!(sent["status"] != alone["status"], name == "Node", "{name}: {}", sent["status"]);
    }
}
