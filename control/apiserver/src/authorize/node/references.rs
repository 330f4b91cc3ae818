//! What a pod uses of its namespace.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde_json::Value;

/// The annotation of pods that a node made known and runs anyway. Such a pod gives its node no rights.
pub(crate) const MIRROR: &str = "kubernetes.io/config.mirror";

/// Names of what a pod uses.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct References<'a> {
    /// The service account that it runs as.
    pub(crate) account: Option<&'a str>,
    pub(crate) secrets: BTreeSet<&'a str>,
    pub(crate) config_maps: BTreeSet<&'a str>,
    /// Claims of volumes.
    pub(crate) claims: BTreeSet<Cow<'a, str>>,
    /// Claims of devices.
    pub(crate) devices: BTreeSet<&'a str>,
    /// Whether it mounts bundles of certificates that belong to the cluster.
    pub(crate) bundles: bool,
}

/// Sources of volumes that name a secret by `secretRef`, and inline CSI volumes.
const SECRET_REFS: [&str; 2] = ["secretRef", "nodePublishSecretRef"];
/// References to secrets in a CSI volume that the node sees; others are the driver's own.
const CSI_SECRET_REFS: [&str; 3] = ["nodePublishSecretRef", "nodeStageSecretRef", "nodeExpandSecretRef"];

fn items<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value[field].as_array().into_iter().flatten()
}

fn text(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| !text.is_empty())
}

impl<'a> References<'a> {
    /// What a stored pod uses.
    pub(crate) fn of(pod: &'a Value) -> Self {
        if pod["metadata"]["annotations"].get(MIRROR).is_some() { Self::default() } else { Self::named_by(pod) }
    }

    /// What a pod names, whether or not it has a right to it.
    pub(crate) fn named_by(pod: &'a Value) -> Self {
        let spec = &pod["spec"];
        let mut own = Self { account: text(&spec["serviceAccountName"]), ..Self::default() };
        own.secrets.extend(items(spec, "imagePullSecrets").filter_map(|secret| text(&secret["name"])));
        for list in ["initContainers", "containers", "ephemeralContainers"] {
            items(spec, list).for_each(|container| own.environment(container));
        }
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        items(spec, "volumes").for_each(|volume| own.volume(name, volume));
        let direct = items(spec, "resourceClaims").filter_map(|claim| text(&claim["resourceClaimName"]));
        let made = items(&pod["status"], "resourceClaimStatuses").filter_map(|claim| text(&claim["resourceClaimName"]));
        own.devices.extend(direct.chain(made));
        own
    }

    fn environment(&mut self, container: &'a Value) {
        for set in items(container, "envFrom") {
            self.config_maps.extend(text(&set["configMapRef"]["name"]));
            self.secrets.extend(text(&set["secretRef"]["name"]));
        }
        for variable in items(container, "env") {
            self.config_maps.extend(text(&variable["valueFrom"]["configMapKeyRef"]["name"]));
            self.secrets.extend(text(&variable["valueFrom"]["secretKeyRef"]["name"]));
        }
    }

    fn volume(&mut self, pod: &str, volume: &'a Value) {
        self.secrets.extend(text(&volume["secret"]["secretName"]));
        self.secrets.extend(text(&volume["azureFile"]["secretName"]));
        let sources = volume.as_object().into_iter().flat_map(|volume| volume.values());
        for source in sources {
            self.secrets.extend(SECRET_REFS.iter().filter_map(|field| text(&source[*field]["name"])));
        }
        self.config_maps.extend(text(&volume["configMap"]["name"]));
        self.claims.extend(text(&volume["persistentVolumeClaim"]["claimName"]).map(Cow::Borrowed));
        if volume["ephemeral"].is_object() {
            let own = volume["name"].as_str().unwrap_or_default();
            self.claims.insert(format!("{pod}-{own}").into());
        }
        for part in items(&volume["projected"], "sources") {
            self.secrets.extend(text(&part["secret"]["name"]));
            self.config_maps.extend(text(&part["configMap"]["name"]));
            self.bundles |= part["clusterTrustBundle"].is_object();
        }
    }
}

/// Whether a persistent volume names this secret for the node that mounts it.
pub(super) fn volume_uses_secret(volume: &Value, namespace: &str, name: &str) -> bool {
    let spec = &volume["spec"];
    // Without a namespace it is one of the claim's.
    let of_claim = spec["claimRef"]["namespace"].as_str().unwrap_or_default();
    let is_named = |own: &Value, of: &Value| text(own) == Some(name) && text(of).unwrap_or(of_claim) == namespace;
    let azure = &spec["azureFile"];
    let csi = CSI_SECRET_REFS.iter().map(|field| &spec["csi"][*field]);
    let sources = spec.as_object().into_iter().flat_map(|spec| spec.values());
    let mut references = csi.chain(sources.map(|source| &source["secretRef"]));
    is_named(&azure["secretName"], &azure["secretNamespace"])
        || references.any(|reference| is_named(&reference["name"], &reference["namespace"]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn whatever_a_pod_names_is_found() {
        let mut pod = json!({
            "metadata": {"name": "p"},
            "spec": {
                "serviceAccountName": "robot",
                "imagePullSecrets": [{"name": "pull"}],
                "initContainers": [{"envFrom": [{"configMapRef": {"name": "from"}}, {"secretRef": {"name": "env-from"}}]}],
                "containers": [{"env": [
                    {"name": "A", "valueFrom": {"secretKeyRef": {"name": "env", "key": "a"}}},
                    {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "key", "key": "a"}}},
                    {"name": "C", "value": "plain"},
                ]}],
                "ephemeralContainers": [{"envFrom": [{"secretRef": {"name": "debug"}}]}],
                "volumes": [
                    {"name": "a", "secret": {"secretName": "file"}},
                    {"name": "b", "configMap": {"name": "files"}},
                    {"name": "c", "projected": {"sources": [
                        {"secret": {"name": "part"}}, {"configMap": {"name": "parts"}}, {"clusterTrustBundle": {"name": "x"}},
                    ]}},
                    {"name": "d", "persistentVolumeClaim": {"claimName": "claim"}},
                    {"name": "e", "ephemeral": {"volumeClaimTemplate": {}}},
                    {"name": "f", "csi": {"driver": "x", "nodePublishSecretRef": {"name": "inline"}}},
                    {"name": "g", "cephfs": {"secretRef": {"name": "ceph"}}},
                    {"name": "h", "azureFile": {"secretName": "azure"}},
                    {"name": "i", "emptyDir": {}},
                ],
                "resourceClaims": [{"name": "x", "resourceClaimName": "gpu"}, {"name": "y", "resourceClaimTemplateName": "t"}],
            },
            "status": {"resourceClaimStatuses": [{"name": "y", "resourceClaimName": "p-y-7"}]},
        });
        let all = References {
            account: Some("robot"),
            secrets: ["azure", "ceph", "debug", "env", "env-from", "file", "inline", "part", "pull"].into(),
            config_maps: ["files", "from", "key", "parts"].into(),
            claims: ["claim", "p-e"].map(Cow::Borrowed).into(),
            devices: ["gpu", "p-y-7"].into(),
            bundles: true,
        };
        assert_eq!(References::of(&pod), all);
        pod["metadata"]["annotations"][MIRROR] = "x".into();
        assert_eq!(References::of(&pod), References::default());
    }

    #[test]
    fn a_volume_names_secrets_of_its_claims_namespace_or_of_another() {
        let volume = json!({"spec": {"claimRef": {"namespace": "a", "name": "c"}, "csi": {
            "nodeStageSecretRef": {"name": "stage", "namespace": "b"},
            "controllerPublishSecretRef": {"name": "driver", "namespace": "b"},
        }, "azureFile": {"secretName": "azure"}, "flexVolume": {"secretRef": {"name": "flex"}}}});
        for (namespace, name, used) in [
            ("b", "stage", true),
            ("a", "stage", false),
            ("b", "driver", false),
            ("a", "azure", true),
            ("a", "flex", true),
            ("b", "flex", false),
            ("a", "", false),
        ] {
            assert_eq!(volume_uses_secret(&volume, namespace, name), used, "{namespace}/{name}");
        }
    }
}
