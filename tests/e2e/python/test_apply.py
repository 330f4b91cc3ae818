"""Server-side apply between managers: who owns what, and exactly which conflicts there are."""

import contextlib
import unittest

from common import IMAGE, Namespaced, config_map, deployment
from kubernetes import client

MERGE = "application/merge-patch+json"


class Apply(Namespaced):
    """Every test has an object of its own."""

    def setUp(self):
        self.maps = self.dynamic.resources.get(api_version="v1", kind="ConfigMap")
        self.deployments = self.dynamic.resources.get(api_version="apps/v1", kind="Deployment")
        self.name = self._testMethodName.replace("_", "-")

    def apply(self, manager, force=False, api=None, body=None, **data):
        api = api or self.maps
        body = body or config_map(self.name, **data)
        return api.server_side_apply(body=body, name=self.name, namespace=self.namespace, field_manager=manager,
                                     **({"force_conflicts": True} if force else {})).to_dict()

    def conflicts(self, manager, **words):
        """The causes of a refused apply as (message, field)."""
        status = self.refused(409, "Conflict", self.apply, manager, **words)
        causes = status["details"]["causes"]
        self.assertEqual({one["reason"] for one in causes}, {"FieldManagerConflict"})
        self.message = status["message"]
        return sorted((one["message"], one["field"]) for one in causes)

    def entry(self, body, manager, operation="Apply", subresource=None):
        found = [one for one in body["metadata"]["managedFields"]
                 if (one["manager"], one["operation"], one.get("subresource")) == (manager, operation, subresource)]
        self.assertLessEqual(len(found), 1)
        return found[0] if found else None

    def fields(self, body, manager, **words):
        entry = self.entry(body, manager, **words)
        return entry and entry["fieldsV1"]

    def get(self, api=None):
        return (api or self.maps).get(name=self.name, namespace=self.namespace).to_dict()

    def release(self):
        """Lets an object go that a test gave finalizers."""
        with contextlib.suppress(client.ApiException):
            self.maps.patch(name=self.name, namespace=self.namespace, content_type=MERGE,
                            body={"metadata": {"finalizers": None}})

    def test_who_applies_owns(self):
        made = self.apply("one", a="1", b="2")
        self.assertEqual(self.fields(made, "one"), {"f:data": {"f:a": {}, "f:b": {}}})
        entry = self.entry(made, "one")
        self.assertEqual((entry["apiVersion"], entry["fieldsType"]), ("v1", "FieldsV1"))
        self.assertTrue(entry["time"])

    def test_the_same_again_writes_nothing(self):
        made = self.apply("one", a="1")
        self.assertEqual(self.apply("one", a="1"), made)

    def test_another_value_is_a_conflict(self):
        self.apply("one", a="1")
        self.assertEqual(self.conflicts("two", a="2"), [('conflict with "one"', ".data.a")])
        self.assertEqual(self.message, 'Apply failed with 1 conflict: conflict with "one": .data.a')
        self.assertEqual(self.get()["data"], {"a": "1"})

    def test_every_conflict_is_named(self):
        self.apply("one", a="1", b="1")
        self.assertEqual(self.conflicts("two", a="2", b="2"),
                         [('conflict with "one"', ".data.a"), ('conflict with "one"', ".data.b")])
        self.assertEqual(self.message, 'Apply failed with 2 conflicts: conflicts with "one":\n- .data.a\n- .data.b')

    def test_the_same_value_is_shared(self):
        self.apply("one", a="1")
        both = self.apply("two", a="1")
        for manager in ("one", "two"):
            self.assertEqual(self.fields(both, manager), {"f:data": {"f:a": {}}})
        self.assertEqual(self.conflicts("three", a="3"),
                         [('conflict with "one"', ".data.a"), ('conflict with "two"', ".data.a")])

    def test_force_takes_ownership(self):
        self.apply("one", a="1", b="1")
        taken = self.apply("two", force=True, a="2")
        self.assertEqual(taken["data"], {"a": "2", "b": "1"})
        self.assertEqual(self.fields(taken, "one"), {"f:data": {"f:b": {}}})
        self.assertEqual(self.fields(taken, "two"), {"f:data": {"f:a": {}}})

    def test_a_manager_that_loses_all_is_forgotten(self):
        self.apply("one", a="1")
        taken = self.apply("two", force=True, a="2")
        self.assertIsNone(self.entry(taken, "one"))

    def test_what_is_left_out_is_removed(self):
        self.apply("one", a="1", b="1")
        self.assertEqual(self.apply("one", a="1")["data"], {"a": "1"})

    def test_what_another_holds_too_stays(self):
        self.apply("one", a="1", b="1")
        self.apply("two", b="1")
        left = self.apply("one", a="1")
        self.assertEqual(left["data"], {"a": "1", "b": "1"})
        self.assertEqual(self.fields(left, "one"), {"f:data": {"f:a": {}}})

    def test_ownership_is_handed_over(self):
        self.apply("one", a="1")
        self.apply("two", a="1")
        self.apply("one", body={"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": self.name}})
        alone = self.apply("two", a="2")  # no conflict: one has let go
        self.assertEqual(alone["data"], {"a": "2"})

    def test_updates_own_too(self):
        self.maps.create(body=config_map(self.name, a="1"), namespace=self.namespace, field_manager="creator")
        self.assertEqual(self.conflicts("one", a="2"), [('conflict with "creator" using v1', ".data.a")])
        made = self.get()
        self.assertEqual(self.fields(made, "creator", operation="Update"), {"f:data": {".": {}, "f:a": {}}})

    def test_an_update_takes_what_it_changes(self):
        self.apply("one", a="1", b="1")
        self.maps.patch(name=self.name, namespace=self.namespace, body={"data": {"a": "9"}}, content_type=MERGE,
                        field_manager="editor")
        changed = self.get()
        self.assertEqual(self.fields(changed, "one"), {"f:data": {"f:b": {}}})
        self.assertEqual(self.fields(changed, "editor", operation="Update"), {"f:data": {"f:a": {}}})

    def test_lists_merge_by_key(self):
        body = deployment(self.name, replicas=0)
        self.apply("one", api=self.deployments, body=body)
        other = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": self.name}, "spec": {"template": {
            "spec": {"containers": [{"name": "sidecar", "image": IMAGE}]}}}}
        both = self.apply("two", api=self.deployments, body=other)
        names = [one["name"] for one in both["spec"]["template"]["spec"]["containers"]]
        self.assertEqual(names, ["c", "sidecar"])
        owned = self.fields(both, "two")
        self.assertEqual(owned, {"f:spec": {"f:template": {"f:spec": {"f:containers": {
            'k:{"name":"sidecar"}': {".": {}, "f:image": {}, "f:name": {}}}}}}})
        again = self.apply("one", api=self.deployments, body=body)
        self.assertEqual(len(again["spec"]["template"]["spec"]["containers"]), 2)
        other["spec"]["template"]["spec"]["containers"] = [{"name": "c", "image": "other:1"}]
        field = '.spec.template.spec.containers[name="c"].image'
        self.assertEqual(self.conflicts("two", api=self.deployments, body=other), [('conflict with "one"', field)])

    def test_ports_merge_by_port_and_protocol(self):
        def with_ports(*ports):
            body = deployment(self.name, replicas=0)
            body["spec"]["template"]["spec"]["containers"][0]["ports"] = list(ports)
            return body

        one, two = {"containerPort": 80}, {"containerPort": 80, "protocol": "UDP"}
        self.apply("one", api=self.deployments, body=with_ports(one, two))
        made = self.get(self.deployments)
        container = self.fields(made, "one")["f:spec"]["f:template"]["f:spec"]["f:containers"]['k:{"name":"c"}']
        self.assertEqual(sorted(container["f:ports"]), ['k:{"containerPort":80,"protocol":"TCP"}',
                                                        'k:{"containerPort":80,"protocol":"UDP"}'])

    def test_sets_merge_by_value(self):
        def with_finalizers(*values):
            body = config_map(self.name)
            body["metadata"]["finalizers"] = list(values)
            return body

        self.addCleanup(self.release)
        self.apply("one", body=with_finalizers("example.com/a"))
        both = self.apply("two", body=with_finalizers("example.com/b"))
        self.assertEqual(both["metadata"]["finalizers"], ["example.com/a", "example.com/b"])
        left = self.apply("one", body=config_map(self.name))
        self.assertEqual(left["metadata"]["finalizers"], ["example.com/b"])

    def test_atomic_values_are_taken_whole(self):
        services = self.dynamic.resources.get(api_version="v1", kind="Service")

        def service(**selector):
            spec = {"selector": selector, "ports": [{"port": 80}]}
            return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": self.name}, "spec": spec}

        self.apply("one", api=services, body=service(app="a"))
        self.assertEqual(self.conflicts("two", api=services, body=service(app="a", tier="b")),
                         [('conflict with "one"', ".spec.selector")])
        taken = self.apply("two", api=services, body=service(tier="b"), force=True)
        self.assertEqual(taken["spec"]["selector"], {"tier": "b"})

    def test_scale_has_owners(self):
        self.apply("one", api=self.deployments, body=deployment(self.name, replicas=0))
        scale = {"spec": {"replicas": 1}}
        client.AppsV1Api().patch_namespaced_deployment_scale(self.name, self.namespace, scale, field_manager="scaler")
        scaled = self.get(self.deployments)
        owned = self.fields(scaled, "scaler", operation="Update", subresource="scale")
        self.assertEqual(owned, {"f:spec": {"f:replicas": {}}})
        conflict = ('conflict with "scaler" with subresource "scale" using apps/v1', ".spec.replicas")
        body = deployment(self.name, replicas=0)
        self.assertEqual(self.conflicts("one", api=self.deployments, body=body), [conflict])
        body = deployment(self.name)
        del body["spec"]["replicas"]
        self.assertEqual(self.apply("one", api=self.deployments, body=body)["spec"]["replicas"], 1)

    def test_status_is_applied_apart(self):
        services = self.dynamic.resources.get(api_version="v1", kind="Service")  # no controller writes its status
        condition = {"type": "Tested", "status": "True", "reason": "Tested", "message": "",
                     "lastTransitionTime": "2026-01-01T00:00:00Z"}
        head = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": self.name}}
        status = {"conditions": [condition]}
        self.apply("one", api=services, body={**head, "spec": {"ports": [{"port": 80}]}})
        self.apply("two", api=services.status, body={**head, "spec": {"ports": [{"port": 81}]}, "status": status})
        there = self.get(services)
        self.assertEqual((there["status"]["conditions"], there["spec"]["ports"][0]["port"]), ([condition], 80))
        self.assertEqual(list(self.fields(there, "two", subresource="status")), ["f:status"])
        self.assertNotIn("f:status", self.fields(there, "one"))

    def test_what_apply_cannot_do_is_refused(self):
        self.refused(422, "Invalid", self.apply, "x" * 129, a="1")
        body = config_map(self.name, a="1")
        body["metadata"]["managedFields"] = []
        self.refused(400, "BadRequest", self.apply, "one", body=body)
        body = {**config_map(self.name), "datum": {}}
        with self.assertRaises(client.ApiException):
            self.apply("one", body=body)

    def test_managers_need_a_name(self):
        path = f"/api/v1/namespaces/{self.namespace}/configmaps/{self.name}"
        status = self.refused(422, "Invalid", self.dynamic.request, "PATCH", path, body=config_map(self.name),
                              content_type="application/apply-patch+yaml")
        self.assertIn("fieldManager", status["message"])

    def test_clearing_managed_fields(self):
        self.apply("one", a="1")
        body = {"metadata": {"managedFields": [{}]}}
        self.maps.patch(name=self.name, namespace=self.namespace, body=body, content_type=MERGE, field_manager="x")
        self.assertFalse(self.get()["metadata"].get("managedFields"))
        # What nobody is known to own was there before the first apply.
        self.assertEqual(self.conflicts("two", a="2"), [('conflict with "before-first-apply" using v1', ".data.a")])


if __name__ == "__main__":
    unittest.main()
