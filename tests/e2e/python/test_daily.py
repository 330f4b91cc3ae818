"""What programs written with the typed client do every day."""

import base64
import unittest

from common import IMAGE, Namespaced, config_map, deployment
from kubernetes import client, watch
from kubernetes.stream import portforward, stream


class Lists(Namespaced):
    """Lists in pages, by selectors, and watches that go on from them."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for number in range(7):
            body = config_map(f"m-{number}", n=str(number))
            body["metadata"]["labels"] = {"suite": "lists", "even": str(number % 2 == 0)}
            cls.core.create_namespaced_config_map(cls.namespace, body)

    def names(self, **words):
        return [one.metadata.name for one in self.core.list_namespaced_config_map(
            self.namespace, label_selector=words.pop("label_selector", "suite=lists"), **words).items]

    def test_pages_are_of_one_revision(self):
        page = self.core.list_namespaced_config_map(self.namespace, label_selector="suite", limit=3)
        self.assertEqual([one.metadata.name for one in page.items], ["m-0", "m-1", "m-2"])
        body = config_map("m-3a")
        body["metadata"]["labels"] = {"suite": "lists"}
        self.core.create_namespaced_config_map(self.namespace, body)
        self.addCleanup(self.core.delete_namespaced_config_map, "m-3a", self.namespace)
        rest, token = [], page.metadata._continue
        while token:
            following = self.core.list_namespaced_config_map(
                self.namespace, label_selector="suite", limit=3, _continue=token)
            self.assertEqual(following.metadata.resource_version, page.metadata.resource_version)
            rest += [one.metadata.name for one in following.items]
            token = following.metadata._continue
        self.assertEqual(rest, ["m-3", "m-4", "m-5", "m-6"])

    def test_remaining_items_are_counted(self):
        page = self.core.list_config_map_for_all_namespaces(limit=1)
        self.assertGreaterEqual(page.metadata.remaining_item_count, 6)

    def test_selectors(self):
        self.assertEqual(self.names(label_selector="suite=lists,even!=True"), ["m-1", "m-3", "m-5"])
        self.assertEqual(self.names(label_selector="even notin (True, other),suite"), ["m-1", "m-3", "m-5"])
        self.assertEqual(self.names(field_selector="metadata.name=m-2"), ["m-2"])
        self.refused(400, "BadRequest", self.names, field_selector="data.n=1")
        self.refused(400, "BadRequest", self.names, label_selector="a in")

    def test_a_watch_goes_on_where_a_list_ended(self):
        version = self.core.list_namespaced_config_map(self.namespace).metadata.resource_version
        name = "watched"
        self.core.create_namespaced_config_map(self.namespace, config_map(name, a="1"))
        self.core.patch_namespaced_config_map(name, self.namespace, {"data": {"a": "2"}})
        self.core.delete_namespaced_config_map(name, self.namespace)
        seen = []
        for event in watch.Watch().stream(self.core.list_namespaced_config_map, self.namespace,
                                          resource_version=version, timeout_seconds=10):
            seen.append((event["type"], event["object"].metadata.name, event["object"].data["a"]))
            if event["type"] == "DELETED":
                break
        self.assertEqual(seen, [("ADDED", name, "1"), ("MODIFIED", name, "2"), ("DELETED", name, "2")])

    def test_a_watch_ends_in_its_time(self):
        stream = watch.Watch().stream(self.core.list_namespaced_config_map, self.namespace,
                                      label_selector="suite=none", timeout_seconds=1)
        self.assertEqual(list(stream), [])

    def test_initial_events_end_with_a_bookmark(self):
        types = []
        for event in watch.Watch().stream(self.core.list_namespaced_config_map, self.namespace,
                                          label_selector="suite=lists,even=True", send_initial_events=True,
                                          resource_version_match="NotOlderThan", allow_watch_bookmarks=True,
                                          timeout_seconds=10):
            types.append(event["type"])
            if event["type"] == "BOOKMARK":
                notes = event["raw_object"]["metadata"]["annotations"]
                self.assertEqual(notes, {"k8s.io/initial-events-end": "true"})
                break
        self.assertEqual(types, ["ADDED"] * 4 + ["BOOKMARK"])

    def test_a_collection_is_deleted_by_selector(self):
        for name in ("gone-1", "gone-2"):
            body = config_map(name)
            body["metadata"]["labels"] = {"gone": "yes"}
            self.core.create_namespaced_config_map(self.namespace, body)
        self.core.delete_collection_namespaced_config_map(self.namespace, label_selector="gone=yes")
        self.assertEqual(self.names(label_selector="gone=yes"), [])


class Patches(Namespaced):
    """The three patch types."""

    def test_a_body_chooses_its_type(self):
        # The client sends a list as JSON patch and a dict as strategic merge patch.
        self.apps.create_namespaced_deployment(self.namespace, deployment("patched", replicas=0))
        patch = self.apps.patch_namespaced_deployment
        patch("patched", self.namespace, [{"op": "add", "path": "/spec/paused", "value": True}])
        sidecar = {"name": "sidecar", "image": IMAGE}
        merged = patch("patched", self.namespace, {"spec": {"template": {"spec": {"containers": [sidecar]}}}})
        self.assertTrue(merged.spec.paused)
        self.assertEqual(sorted(one.name for one in merged.spec.template.spec.containers), ["c", "sidecar"])
        gone = {"name": "sidecar", "$patch": "delete"}
        merged = patch("patched", self.namespace, {"spec": {"template": {"spec": {"containers": [gone]}}}})
        self.assertEqual([one.name for one in merged.spec.template.spec.containers], ["c"])

    def test_a_failed_test_changes_nothing(self):
        self.core.create_namespaced_config_map(self.namespace, config_map("tested", a="1"))
        patch = [{"op": "test", "path": "/data/a", "value": "2"}, {"op": "remove", "path": "/data/a"}]
        self.refused(422, "Invalid", self.core.patch_namespaced_config_map, "tested", self.namespace, patch)
        self.assertEqual(self.core.read_namespaced_config_map("tested", self.namespace).data, {"a": "1"})

    def test_a_status_is_not_created(self):
        for version, kind, spec, status in (
                ("apps/v1", "Deployment", deployment("x", replicas=0)["spec"], {"replicas": 7}),
                ("v1", "Service", {"ports": [{"port": 80}]}, {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}})):
            api = self.dynamic.resources.get(api_version=version, kind=kind)
            body = {"apiVersion": version, "kind": kind, "metadata": {"name": "status"}, "spec": spec, "status": status}
            made = api.create(body=body, namespace=self.namespace).to_dict()
            self.assertNotEqual({**made.get("status", {}), **status}, made.get("status"), kind)

    def test_dry_runs_change_nothing(self):
        self.core.create_namespaced_config_map(self.namespace, config_map("dry", a="1"))
        tried = self.core.patch_namespaced_config_map("dry", self.namespace, {"data": {"a": "2"}}, dry_run="All")
        self.assertEqual(tried.data, {"a": "2"})
        self.core.delete_namespaced_config_map("dry", self.namespace, dry_run="All")
        self.assertEqual(self.core.read_namespaced_config_map("dry", self.namespace).data, {"a": "1"})
        self.core.create_namespaced_config_map(self.namespace, config_map("never"), dry_run="All")
        self.refused(404, "NotFound", self.core.read_namespaced_config_map, "never", self.namespace)

    def test_preconditions_hold(self):
        made = self.core.create_namespaced_config_map(self.namespace, config_map("guarded"))
        wrong = client.V1DeleteOptions(preconditions=client.V1Preconditions(uid="00000000-0000-0000-0000-000000000000"))
        self.refused(409, "Conflict", self.core.delete_namespaced_config_map, "guarded", self.namespace, body=wrong)
        right = client.V1DeleteOptions(preconditions=client.V1Preconditions(
            uid=made.metadata.uid, resource_version=made.metadata.resource_version))
        self.core.delete_namespaced_config_map("guarded", self.namespace, body=right)

    def test_unknown_fields_are_told(self):
        body = {**config_map("strict"), "datum": {}}
        path = f"/api/v1/namespaces/{self.namespace}/configmaps"

        def create(validation):
            return self.dynamic.request("POST", path, body=body, query_params=[("fieldValidation", validation)],
                                        serialize=False)

        status = self.refused(400, "BadRequest", create, "Strict")
        self.assertIn('unknown field "datum"', status["message"])
        self.assertIn('unknown field \\"datum\\"', create("Warn").headers["Warning"])
        body["metadata"]["name"] = "ignored"
        self.assertNotIn("Warning", create("Ignore").headers)

    def test_invalid_objects_name_their_fields(self):
        body = deployment("invalid")
        body["spec"]["template"]["spec"]["containers"][0]["image"] = ""
        status = self.refused(422, "Invalid", self.apps.create_namespaced_deployment, self.namespace, body)
        cause = {"reason": "FieldValueRequired", "message": "Required value",
                 "field": "spec.template.spec.containers[0].image"}
        self.assertEqual(status["details"]["causes"], [cause])
        self.assertEqual(status["details"]["name"], "invalid")

    def test_scale_is_a_view(self):
        self.apps.create_namespaced_deployment(self.namespace, deployment("scaled", replicas=0))
        scale = self.apps.read_namespaced_deployment_scale("scaled", self.namespace)
        self.assertEqual((scale.kind, scale.spec.replicas, scale.status.selector), ("Scale", None, "app=scaled"))
        self.assertEqual(self.eventually(lambda: self.scaled(1)).spec.replicas, 1)
        self.assertEqual(self.apps.read_namespaced_deployment("scaled", self.namespace).metadata.generation, 2)

    def scaled(self, replicas):
        scale = self.apps.read_namespaced_deployment_scale("scaled", self.namespace)
        scale.spec.replicas = replicas
        # The controller writes too: then it is a conflict.
        return self.apps.replace_namespaced_deployment_scale("scaled", self.namespace, scale)


class Pods(Namespaced):
    """A running pod: exec, logs, port-forward, tokens."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        spec = {"terminationGracePeriodSeconds": 1, "containers": [{"name": "c", "image": IMAGE}]}
        cls.core.create_namespaced_pod(cls.namespace, {"metadata": {"name": "pod"}, "spec": spec})
        for event in watch.Watch().stream(cls.core.list_namespaced_pod, cls.namespace, timeout_seconds=20):
            conditions = event["object"].status.conditions or []
            if any(one.type == "Ready" and one.status == "True" for one in conditions):
                return
        raise AssertionError("the pod is not ready")

    def exec(self, *command, **words):
        return stream(self.core.connect_get_namespaced_pod_exec, "pod", self.namespace, command=list(command),
                      stderr=True, stdout=True, stdin=words.pop("stdin", False), tty=False, **words)

    def test_exec_prints(self):
        self.assertEqual(self.exec("/testbox", "echo", "hello").strip(), "hello")

    def test_exec_tells_the_exit_code(self):
        session = self.exec("/testbox", "exit", "7", _preload_content=False)
        session.run_forever(timeout=10)
        self.assertEqual(session.returncode, 7)

    def test_exec_takes_input(self):
        session = self.exec("/testbox", "cat-stdin", stdin=True, _preload_content=False)
        session.write_stdin("typed\n")
        self.assertEqual(session.readline_stdout(timeout=10), "typed")
        session.close()

    def test_exec_of_nothing_is_refused(self):
        session = self.exec("/nothing", _preload_content=False)
        session.run_forever(timeout=10)
        # The client takes every failure for an exit code, and this one has none.
        with self.assertRaisesRegex(ValueError, "/nothing"):
            _ = session.returncode

    def test_logs(self):
        text = self.core.read_namespaced_pod_log("pod", self.namespace)
        self.assertIn("testbox v1", text)
        self.assertEqual(len(self.core.read_namespaced_pod_log("pod", self.namespace, tail_lines=1).splitlines()), 1)
        status = self.refused(400, "BadRequest", self.core.read_namespaced_pod_log, "pod", self.namespace,
                              container="none")
        self.assertIn("none", status["message"])

    def test_port_forward(self):
        forward = portforward(self.core.connect_get_namespaced_pod_portforward, "pod", self.namespace, ports="8080")
        socket = forward.socket(8080)
        socket.settimeout(10)
        socket.sendall(b"GET /forwarded HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        text = b""
        while piece := socket.recv(4096):
            text += piece
        self.assertIn(b"GET /forwarded", text)
        self.assertIsNone(forward.error(8080))

    def test_http_through_the_api_server(self):
        text = self.core.connect_get_namespaced_pod_proxy_with_path("pod:8080", self.namespace, "through")
        self.assertIn("GET /through", text)

    def test_eviction(self):
        spec = {"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": IMAGE}]}
        self.core.create_namespaced_pod(self.namespace, {"metadata": {"name": "evicted"}, "spec": spec})
        self.core.create_namespaced_pod_eviction("evicted", self.namespace, {"metadata": {"name": "evicted"}})
        self.eventually(lambda: self.refused(404, "NotFound", self.core.read_namespaced_pod, "evicted", self.namespace))


class Identity(Namespaced):
    """Tokens, reviews and roles."""

    def token(self, account, **spec):
        self.core.create_namespaced_service_account(self.namespace, {"metadata": {"name": account}})
        request = client.AuthenticationV1TokenRequest(spec=client.V1TokenRequestSpec(
            audiences=spec.pop("audiences", []), **spec))
        return self.core.create_namespaced_service_account_token(account, self.namespace, request).status

    def test_a_token_is_who_it_was_made_for(self):
        status = self.token("tokened", expiration_seconds=600)
        payload = status.token.split(".")[1]
        claims = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)).decode()
        self.assertIn(f"system:serviceaccount:{self.namespace}:tokened", claims)

    def test_a_token_is_reviewed(self):
        token = self.token("reviewed", expiration_seconds=600).token
        review = client.AuthenticationV1Api().create_token_review({"spec": {"token": token}})
        self.assertTrue(review.status.authenticated)
        self.assertEqual(review.status.user.username, f"system:serviceaccount:{self.namespace}:reviewed")

    def test_rules_decide(self):
        rbac, authorization = client.RbacAuthorizationV1Api(), client.AuthorizationV1Api()
        user = f"system:serviceaccount:{self.namespace}:ruled"
        rule = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}
        rbac.create_namespaced_role(self.namespace, {"metadata": {"name": "r"}, "rules": [rule]})
        rbac.create_namespaced_role_binding(self.namespace, {
            "metadata": {"name": "r"}, "subjects": [{"kind": "ServiceAccount", "name": "ruled", "namespace": self.namespace}],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}})

        def allowed(verb):
            attributes = {"namespace": self.namespace, "verb": verb, "resource": "configmaps"}
            review = {"spec": {"user": user, "resourceAttributes": attributes}}
            return authorization.create_subject_access_review(review).status.allowed

        self.assertEqual((allowed("get"), allowed("delete")), (True, False))

    def test_every_namespace_has_the_ca(self):
        def there():
            data = self.core.read_namespaced_config_map("kube-root-ca.crt", self.namespace).data
            self.assertIn("BEGIN CERTIFICATE", data["ca.crt"])

        self.eventually(there)


if __name__ == "__main__":
    unittest.main()
