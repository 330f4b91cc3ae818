"""What all suites share: a client, a namespace that ends with its tests, and marks for what is still to come."""

import json
import os
import time
import unittest
import uuid

from kubernetes import client, config, dynamic

IMAGE = "localhost/testbox:v1"

config.load_kube_config(os.environ["KUBECONFIG"])


def pending(why):
    """Marks a test that has to fail until a part lands; once it passes, that is a failure, and the mark has to go."""
    assert why
    return unittest.expectedFailure


class Namespaced(unittest.TestCase):
    """Tests in a namespace of their own."""

    @classmethod
    def setUpClass(cls):
        cls.core = client.CoreV1Api()
        cls.apps = client.AppsV1Api()
        cls.dynamic = dynamic.DynamicClient(client.ApiClient())
        cls.namespace = f"{cls.__name__.lower()}-{uuid.uuid4().hex[:6]}"
        cls.core.create_namespace({"metadata": {"name": cls.namespace}})
        # Pods need it; a controller makes it.
        cls.eventually(lambda: cls.core.read_namespaced_service_account("default", cls.namespace))

    @classmethod
    def tearDownClass(cls):
        cls.core.delete_namespace(cls.namespace)

    def refused(self, code, reason, call, *args, **words):
        """The API's Status of a call that must be refused with this code and reason."""
        with self.assertRaises(client.ApiException) as caught:
            call(*args, **words)
        status = json.loads(caught.exception.body)
        self.assertEqual((caught.exception.status, status["reason"]), (code, reason), status)
        return status

    @staticmethod
    def eventually(attempt, seconds=20):
        """Tries until the assertions of `attempt` hold; what it returned."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                return attempt()
            except (AssertionError, client.ApiException):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)


def labels(name):
    return {"app": name}


def template(name="web"):
    return {
        "metadata": {"labels": labels(name)},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "c", "image": IMAGE, "ports": [{"containerPort": 8080}]}],
        },
    }


def deployment(name="web", replicas=1):
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels(name)}, "template": template(name)},
    }


def config_map(name, **data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}
