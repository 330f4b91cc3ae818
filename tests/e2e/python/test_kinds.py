"""Create, get, list, watch, patch, replace and delete objects of many kinds, as the dynamic client finds them."""

import unittest

from common import Namespaced, deployment, labels, pending, template

# apiVersion, kind, the rest of an object, and what has to land before its test can pass.
KINDS = [
    ("v1", "ConfigMap", {"data": {"a": "1"}}, None),
    ("v1", "Secret", {"stringData": {"a": "1"}}, None),
    ("v1", "Service", {"spec": {"selector": labels("x"), "ports": [{"port": 80}]}}, None),
    ("v1", "ServiceAccount", {}, None),
    ("v1", "Endpoints", {"subsets": []}, None),
    ("v1", "Event", {"involvedObject": {"kind": "Pod", "name": "x", "namespace": "NAMESPACE"}, "reason": "Test"}, None),
    ("v1", "Pod", {"spec": {"schedulingGates": [{"name": "example.com/never"}],
                            "containers": [{"name": "c", "image": "none:1"}]}}, None),
    ("v1", "ReplicationController", {"spec": {"replicas": 0, "selector": labels("x"), "template": template("x")}},
     None),
    ("v1", "PodTemplate", {"template": template("x")}, None),
    ("v1", "LimitRange", {"spec": {"limits": []}}, None),
    ("v1", "ResourceQuota", {"spec": {"hard": {"pods": "100"}}}, None),
    ("v1", "PersistentVolumeClaim", {"spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "none",
                                              "resources": {"requests": {"storage": "1Gi"}}}}, None),
    ("v1", "PersistentVolume", {"spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"},
                                         "hostPath": {"path": "/tmp/none"}}}, None),
    ("v1", "Namespace", {}, None),
    ("apps/v1", "Deployment", {"spec": deployment(replicas=0)["spec"]}, None),
    ("apps/v1", "ReplicaSet", {"spec": {"replicas": 0, "selector": {"matchLabels": labels("x")},
                                        "template": template("x")}}, None),
    ("apps/v1", "StatefulSet", {"spec": {"replicas": 0, "serviceName": "x", "selector": {"matchLabels": labels("x")},
                                         "template": template("x")}}, None),
    ("apps/v1", "DaemonSet", {"spec": {"selector": {"matchLabels": labels("x")}, "template": {
        "metadata": {"labels": labels("x")},
        "spec": {"nodeSelector": {"none": "none"}, "containers": [{"name": "c", "image": "none:1"}]}}}}, None),
    ("apps/v1", "ControllerRevision", {"revision": 1, "data": {"a": 1}}, None),
    ("batch/v1", "Job", {"spec": {"suspend": True, "template": {"spec": {
        "restartPolicy": "Never", "containers": [{"name": "c", "image": "none:1"}]}}}}, None),
    ("batch/v1", "CronJob", {"spec": {"schedule": "0 3 * * *", "suspend": True, "jobTemplate": {"spec": {"template": {
        "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "none:1"}]}}}}}}, None),
    ("autoscaling/v1", "HorizontalPodAutoscaler", {"spec": {
        "maxReplicas": 2, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x"}}}, None),
    ("autoscaling/v2", "HorizontalPodAutoscaler", {"spec": {
        "maxReplicas": 2, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x"}}}, None),
    ("policy/v1", "PodDisruptionBudget", {"spec": {"minAvailable": "50%", "selector": {"matchLabels": labels("x")}}},
     None),
    ("networking.k8s.io/v1", "Ingress", {"spec": {"defaultBackend": {"service": {"name": "x", "port": {"number": 80}}}}},
     None),
    ("networking.k8s.io/v1", "IngressClass", {"spec": {"controller": "example.com/none"}}, None),
    ("networking.k8s.io/v1", "NetworkPolicy", {"spec": {"podSelector": {}}}, None),
    ("discovery.k8s.io/v1", "EndpointSlice", {"addressType": "IPv4", "endpoints": []}, None),
    ("coordination.k8s.io/v1", "Lease", {"spec": {"holderIdentity": "x"}}, None),
    ("scheduling.k8s.io/v1", "PriorityClass", {"value": 10}, None),
    ("node.k8s.io/v1", "RuntimeClass", {"handler": "none"}, None),
    ("storage.k8s.io/v1", "StorageClass", {"provisioner": "example.com/none"}, None),
    ("storage.k8s.io/v1", "CSIDriver", {"spec": {"attachRequired": False}}, None),
    ("storage.k8s.io/v1", "VolumeAttachment", {"spec": {"attacher": "example.com", "nodeName": "node-1",
                                                        "source": {"persistentVolumeName": "x"}}}, None),
    ("rbac.authorization.k8s.io/v1", "Role", {"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]},
     None),
    ("rbac.authorization.k8s.io/v1", "RoleBinding", {
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "x"}]}, None),
    ("rbac.authorization.k8s.io/v1", "ClusterRole", {"rules": []}, None),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", {
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}}, None),
    ("flowcontrol.apiserver.k8s.io/v1", "PriorityLevelConfiguration", {"spec": {"type": "Limited", "limited": {
        "nominalConcurrencyShares": 5, "limitResponse": {"type": "Reject"}}}}, None),
    ("resource.k8s.io/v1", "DeviceClass", {"spec": {}}, None),
    ("resource.k8s.io/v1", "ResourceClaim", {"spec": {}}, None),
]


class Kinds(Namespaced):
    """A test per kind, made below."""

    def all_verbs(self, version, kind, rest):
        api = self.dynamic.resources.get(api_version=version, kind=kind)
        place = {"namespace": self.namespace} if api.namespaced else {}
        name = f"{self.namespace}-{kind.lower()}"
        body = {"apiVersion": version, "kind": kind, "metadata": {"name": name, "labels": {"suite": "kinds"}}, **rest}
        if kind == "Event":
            body["involvedObject"] = {**body["involvedObject"], "namespace": self.namespace}
        made = api.create(body=body, **place)
        self.assertEqual((made.kind, made.apiVersion, made.metadata.name), (kind, version, name))
        self.assertTrue(made.metadata.uid and made.metadata.creationTimestamp and made.metadata.resourceVersion)
        self.refused(409, "AlreadyExists", api.create, body=body, **place)
        self.assertEqual(api.get(name=name, **place).metadata.uid, made.metadata.uid)
        listed = api.get(label_selector="suite=kinds", field_selector=f"metadata.name={name}", **place)
        self.assertEqual([one.metadata.name for one in listed.items], [name])
        self.assertEqual(listed.kind, f"{kind}List")
        for event in api.watch(resource_version="0", field_selector=f"metadata.name={name}", timeout=5, **place):
            self.assertEqual((event["type"], event["object"].metadata.name), ("ADDED", name))
            break
        merge = "application/merge-patch+json"
        patched = api.patch(name=name, body={"metadata": {"labels": {"patched": "yes"}}}, content_type=merge, **place)
        self.assertEqual(self.own_labels(patched), {"suite": "kinds", "patched": "yes"})
        body["metadata"] = {"name": name, "labels": {"suite": "replaced"}, "resourceVersion": made.metadata.resourceVersion}
        self.refused(409, "Conflict", api.replace, body=body, **place)
        replaced = self.eventually(lambda: self.relabelled(api, name, place))  # controllers write too
        self.assertEqual(self.own_labels(replaced), {"suite": "replaced"})
        api.delete(name=name, body={"gracePeriodSeconds": 0}, **place)
        if kind != "Namespace":  # it ends in its own time
            self.eventually(lambda: self.refused(404, "NotFound", api.get, name=name, **place))


    @staticmethod
    def own_labels(made):
        return {key: value for key, value in made.metadata.labels.to_dict().items() if "/" not in key}

    @staticmethod
    def relabelled(api, name, place):
        latest = api.get(name=name, **place).to_dict()
        latest["metadata"]["labels"] = {"suite": "replaced"}
        return api.replace(body=latest, **place)


def made(version, kind, rest, why):
    def test(self):
        self.all_verbs(version, kind, rest)

    return pending(why)(test) if why else test


for version, kind, rest, why in KINDS:
    setattr(Kinds, f"test_{kind}_{version.split('/')[-1]}", made(version, kind, rest, why))

if __name__ == "__main__":
    unittest.main()
