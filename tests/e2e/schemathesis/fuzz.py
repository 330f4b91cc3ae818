"""Sends every operation of the server's own OpenAPI document what schemathesis makes of it, right and wrong: whatever
the client sends, the answer is no 5xx and comes in time.

usage: KUBECONFIG=… fuzz.py SECONDS [SEED]

Kubernetes' schemas are too deep to be generated whole in reasonable time, so every round works on a thinned copy of
the document: of each object the required properties and a few others, to a limited depth, chosen by the seed. Rounds
go on, each with the next seed, until the time is over.
"""

import os
import random
import sys
import time
import warnings

import hypothesis
import requests
import schemathesis
from kubernetes import client, config
from schemathesis.generation import GenerationMode

PROPERTIES = 4
DEPTH = 6
# Of an operation in a round; the first one is always the simplest.
EXAMPLES = 3
# Streams, whose answers are not HTTP's alone, and a collection whose end would be the cluster's.
LEFT_OUT = ("/exec", "/attach", "/portforward", "/proxy", "/log")
KEPT = (
    "/api/v1/nodes",
    "/api/v1/namespaces",
)

warnings.simplefilter("ignore")


class Thin:
    """A document of which little is left."""

    def __init__(self, document, seed):
        self.definitions = document["definitions"]
        self.random = random.Random(seed)

    def schema(self, schema, depth=0):
        if "$ref" in schema:
            return self.schema(self.definitions[schema["$ref"].rsplit("/", 1)[1]], depth + 1)
        schema = {key: value for key, value in schema.items() if key in
                  ("type", "format", "properties", "required", "items", "additionalProperties")}
        if schema.get("format") in ("int-or-string", "date-time", "byte"):
            del schema["format"]
        if depth > DEPTH:
            return {"type": schema.get("type", "object")}
        if "properties" in schema:
            required = [name for name in schema.get("required", []) if name in schema["properties"]]
            others = [name for name in schema["properties"] if name not in required]
            kept = required + self.random.sample(others, min(PROPERTIES, len(others)))
            schema["properties"] = {name: self.schema(schema["properties"][name], depth + 1) for name in kept}
            schema["required"] = required
        if isinstance(schema.get("items"), dict):
            schema["items"] = self.schema(schema["items"], depth + 1)
        if isinstance(schema.get("additionalProperties"), dict):
            schema["additionalProperties"] = self.schema(schema["additionalProperties"], depth + 1)
        return schema


NAMESPACE = "fuzz"
# Few names, so that objects meet.
NAME = {"type": "string", "pattern": "^[abc]$"}
OPERATIONS = {"type": "array", "maxItems": 3, "items": {"type": "object", "required": ["op", "path"], "properties": {
    "op": {"type": "string", "enum": ["add", "remove", "replace", "move", "copy", "test"]},
    "path": {"type": "string", "pattern": "^(/(metadata|labels|annotations|spec|data|status|0|-|a~1b)){0,4}$"},
    "from": {"type": "string", "pattern": "^(/(metadata|labels|spec|0)){0,3}$"},
    "value": {},
}}}


def thinned(document, seed):
    thin, paths = Thin(document, seed), {}
    kinds = {}
    for name, definition in document["definitions"].items():
        for kind in definition.get("x-kubernetes-group-version-kind", []):
            kinds[kind["group"], kind["version"], kind["kind"]] = {"$ref": f"#/definitions/{name}"}
    for path, item in document["paths"].items():
        if any(word in path for word in LEFT_OUT):
            continue
        paths[path] = new = {}
        for method, operation in item.items():
            if method == "parameters":
                new[method] = [fixed(resolved(document, parameter)) for parameter in operation]
            elif not (method == "delete" and path in KEPT):
                new[method] = thinned_operation(thin, document, kinds, method, operation)
    return {"swagger": "2.0", "info": {"title": "x", "version": "1"}, "paths": paths, "definitions": {}}


def thinned_operation(thin, document, kinds, method, operation):
    kind = operation.get("x-kubernetes-group-version-kind", {})
    known = kinds.get(tuple(kind.get(part) for part in ("group", "version", "kind")))
    parameters = [resolved(document, parameter) for parameter in operation.get("parameters", [])]
    query = [fixed(parameter) for parameter in parameters if parameter["in"] != "body"]
    consumes = ["application/json"]
    body = next((parameter["schema"] for parameter in parameters if parameter["in"] == "body"), None)
    if method == "patch":
        consumes = [thin.random.choice([kind for kind in operation["consumes"] if "cbor" not in kind])]
    if consumes == ["application/json-patch+json"]:
        body = OPERATIONS
    elif method in ("post", "put", "patch") and known:
        body = typed(thin.schema(known), kind)
    elif body is not None:
        body = thin.schema(body)
    if body is not None:
        query.append({"name": "body", "in": "body", "required": method != "delete", "schema": body})
    return {"parameters": query, "consumes": consumes, "responses": {"200": {"description": "OK"}}}


def resolved(document, parameter):
    if "$ref" in parameter:
        return document["parameters"][parameter["$ref"].rsplit("/", 1)[1]]
    return parameter


def fixed(parameter):
    """A parameter of a path that leads somewhere."""
    if parameter["in"] == "path":
        place = {"type": "string", "enum": [NAMESPACE]} if parameter["name"] == "namespace" else NAME
        return {"name": parameter["name"], "in": "path", "required": True, **place}
    return {key: value for key, value in parameter.items() if key in ("name", "in", "type", "required")}


def typed(schema, kind):
    """A body that says what it is, so that most of it is looked at."""
    version = "/".join(filter(None, (kind["group"], kind["version"])))
    texts = {"type": "object", "additionalProperties": {"type": "string"}}
    metadata = {"name": NAME, "labels": texts, "annotations": texts}
    properties = {**schema.get("properties", {}), "apiVersion": {"type": "string", "enum": [version]},
                  "kind": {"type": "string", "enum": [kind["kind"]]},
                  "metadata": {"type": "object", "properties": metadata, "required": ["name"]}}
    required = sorted({*schema.get("required", []), "apiVersion", "kind", "metadata"})
    return {"type": "object", "properties": properties, "required": required}


class Fuzzer:
    def __init__(self):
        config.load_kube_config(os.environ["KUBECONFIG"])
        own = client.Configuration.get_default_copy()
        self.server = own.host
        self.session = requests.Session()
        self.session.trust_env = False  # else $REQUESTS_CA_BUNDLE counts more than what follows
        self.session.verify, self.session.cert = own.ssl_ca_cert, (own.cert_file, own.key_file)
        self.document = self.session.get(f"{self.server}/openapi/v2", timeout=30).json()
        namespaces = f"{self.server}/api/v1/namespaces"
        self.session.post(namespaces, json={"metadata": {"name": NAMESPACE}}, timeout=30)
        self.codes, self.failures, self.operations, self.refused = {}, [], set(), set()

    def round(self, seed, deadline):
        """Every operation in each mode, until the time is over."""
        schema = schemathesis.openapi.from_dict(thinned(self.document, seed))
        operations = [result.ok() for result in schema.get_all_operations()]
        random.Random(seed).shuffle(operations)
        for operation in operations:
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                if time.monotonic() > deadline:
                    return
                self.few(operation, mode, seed)

    def few(self, operation, mode, seed):
        @hypothesis.seed(seed)
        @hypothesis.settings(max_examples=EXAMPLES, deadline=None, database=None, phases=[hypothesis.Phase.generate],
                             suppress_health_check=list(hypothesis.HealthCheck), print_blob=False)
        @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
        def send(case):
            self.send(operation, case)

        try:
            send()
            self.operations.add(operation.label)
        except hypothesis.errors.Unsatisfiable:
            pass  # nothing wrong can be made of an operation that takes nothing
        except Exception as error:  # schemathesis itself could not make a case
            if "negat" not in str(error).lower() and type(error).__name__ not in ("Unsatisfiable", "SkipTest"):
                raise

    def send(self, operation, case):
        request = case.as_transport_kwargs(base_url=self.server)
        request.pop("cookies", None)
        query = request.get("params") or {}
        if isinstance(query, dict) and "watch" in query:
            request["params"] = {**query, "timeoutSeconds": "1"}
        try:
            answer = self.session.request(**request, timeout=10, stream=True, allow_redirects=False)
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidHeader, UnicodeError):
            return  # not to be sent at all
        except requests.exceptions.RequestException as error:
            self.failures.append(f"{operation.label}: no answer: {error!r}\n{shown(request)}")
            return
        code = answer.status_code
        self.codes[code] = self.codes.get(code, 0) + 1
        if code >= 500 and (operation.label, code) not in self.refused:
            self.refused.add((operation.label, code))
            text = answer.raw.read(2000, decode_content=True).decode("utf-8", "replace")
            self.failures.append(f"{operation.label}: {code}: {text}\n{shown(request)}")
        answer.close()


def shown(request):
    return str({key: request[key] for key in ("method", "url", "params", "json", "data") if key in request})[:1500]


def main():
    seconds = float(sys.argv[1])
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 32)
    fuzzer = Fuzzer()
    began = time.monotonic()
    first = seed
    while time.monotonic() < began + seconds and not fuzzer.failures:
        fuzzer.round(seed, began + seconds)
        seed += 1
    print(f"seed {first}, {seed - first} rounds, {len(fuzzer.operations)} operations, "
          f"{sum(fuzzer.codes.values())} requests in {time.monotonic() - began:.0f} s, answers: {fuzzer.codes}")
    for failure in fuzzer.failures[:20]:
        print(failure)
    sys.exit(1 if fuzzer.failures else 0)


if __name__ == "__main__":
    main()
