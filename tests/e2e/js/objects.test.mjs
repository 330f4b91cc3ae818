// Objects through the typed client and through the generic one: what programs write, read and change every day.

import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";

import { apps, as, config, configMap, core, k8s, namespaced, refused } from "./common.mjs";

const { JsonPatch, MergePatch, ServerSideApply, StrategicMergePatch } = k8s.PatchStrategy;

suite("objects", () => {
    let namespace, end;
    before(async () => ([namespace, end] = await namespaced("objects")));
    after(() => end());

    test("what is created is read and listed, page by page", async () => {
        for (const number of [0, 1, 2, 3, 4]) {
            const body = configMap(`m-${number}`, { number: `${number}` });
            body.metadata.labels = { suite: "pages", even: `${number % 2 === 0}` };
            const made = await core.createNamespacedConfigMap({ namespace, body });
            assert.ok(made.metadata.uid && made.metadata.creationTimestamp instanceof Date);
        }
        const one = await core.readNamespacedConfigMap({ name: "m-3", namespace });
        assert.deepEqual(one.data, { number: "3" });
        const names = [];
        let _continue, version;
        do {
            const query = { namespace, labelSelector: "suite=pages", limit: 2, _continue };
            const page = await core.listNamespacedConfigMap(query);
            names.push(...page.items.map((own) => own.metadata.name));
            version ??= page.metadata.resourceVersion;
            assert.equal(page.metadata.resourceVersion, version, "all pages are of one revision");
            _continue = page.metadata._continue;
        } while (_continue);
        assert.deepEqual(names, ["m-0", "m-1", "m-2", "m-3", "m-4"]);
        const selected = await core.listNamespacedConfigMap({
            namespace, labelSelector: "suite=pages,even!=true", fieldSelector: "metadata.name!=m-1",
        });
        assert.deepEqual(selected.items.map((own) => own.metadata.name), ["m-3"]);
    });

    test("errors say what is wrong", async () => {
        const missing = await refused(404, "NotFound", () => core.readNamespacedSecret({ name: "none", namespace }));
        assert.equal(missing.message, 'secrets "none" not found');
        await core.createNamespacedConfigMap({ namespace, body: configMap("twice", {}) });
        await refused(409, "AlreadyExists", () =>
            core.createNamespacedConfigMap({ namespace, body: configMap("twice", {}) }));
        const status = await refused(422, "Invalid", () =>
            core.createNamespacedConfigMap({ namespace, body: configMap("Wrong_name", {}) }));
        assert.equal(status.details.causes[0].field, "metadata.name");
        await refused(400, "BadRequest", () =>
            core.createNamespacedConfigMap({
                namespace, body: { ...configMap("strict", {}), wrong: 1 }, fieldValidation: "Strict", pretty: "true",
            }).then((made) => {
                // The typed client leaves out what it does not know.
                assert.equal(made.wrong, undefined);
                return k8s.KubernetesObjectApi.makeApiClient(config).create(
                    { ...configMap("strict2", {}), metadata: { name: "strict2", namespace }, wrong: 1 },
                    undefined, undefined, undefined,
                ).then(() => core.listNamespacedConfigMap({ namespace, labelSelector: "a in" }));
            }));
    });

    test("an update that comes too late is a conflict", async () => {
        const made = await core.createNamespacedConfigMap({ namespace, body: configMap("raced", { a: "1" }) });
        made.data = { a: "2" };
        const written = await core.replaceNamespacedConfigMap({ name: "raced", namespace, body: made });
        assert.notEqual(written.metadata.resourceVersion, made.metadata.resourceVersion);
        await refused(409, "Conflict", () =>
            core.replaceNamespacedConfigMap({ name: "raced", namespace, body: made }));
    });

    test("every kind of patch", async () => {
        const deployment = {
            metadata: { name: "patched" },
            spec: {
                replicas: 0, selector: { matchLabels: { a: "b" } },
                template: {
                    metadata: { labels: { a: "b" } },
                    spec: { containers: [{ name: "c", image: "i:1" }, { name: "d", image: "i:1" }] },
                },
            },
        };
        await apps.createNamespacedDeployment({ namespace, body: deployment });
        const patch = (strategy, body, more = {}) =>
            apps.patchNamespacedDeployment({ name: "patched", namespace, body, ...more }, as(strategy));
        const images = (own) => own.spec.template.spec.containers.map((one) => `${one.name}=${one.image}`);
        const json = await patch(JsonPatch, [
            { op: "test", path: "/spec/replicas", value: 0 },
            { op: "replace", path: "/spec/template/spec/containers/0/image", value: "i:2" },
        ]);
        assert.deepEqual(images(json), ["c=i:2", "d=i:1"]);
        const strategic = await patch(StrategicMergePatch, {
            spec: { template: { spec: { containers: [{ name: "d", image: "i:3" }] } } },
        });
        assert.deepEqual(images(strategic), ["c=i:2", "d=i:3"]);
        const merged = await patch(MergePatch, { metadata: { labels: { x: "y" } }, spec: { paused: true } });
        assert.deepEqual([merged.metadata.labels.x, merged.spec.paused], ["y", true]);
        const scale = await apps.readNamespacedDeploymentScale({ name: "patched", namespace });
        assert.equal(scale.spec.replicas ?? 0, 0);
        const config = { apiVersion: "apps/v1", kind: "Deployment", metadata: { name: "patched", labels: { x: "z" } } };
        const apply = (more) => patch(ServerSideApply, config, { fieldManager: "js", ...more });
        const conflict = await refused(409, "Conflict", () => apply({}));
        assert.match(conflict.message, /conflict with .*metadata.labels.x/s);
        const forced = await apply({ force: true });
        assert.equal(forced.metadata.labels.x, "z");
        assert.ok(forced.metadata.managedFields.some((own) => own.manager === "js" && own.operation === "Apply"));
    });

    test("objects of any kind without a type", async () => {
        const client = k8s.KubernetesObjectApi.makeApiClient(config);
        const object = { ...configMap("generic", { a: "1" }), metadata: { name: "generic", namespace } };
        const made = await client.create(object);
        assert.equal(made.kind, "ConfigMap");
        const patched = await client.patch(
            { ...object, data: { b: "2" } }, undefined, undefined, undefined, undefined, MergePatch);
        assert.deepEqual(patched.data, { a: "1", b: "2" });
        const read = await client.read({ apiVersion: "v1", kind: "ConfigMap", metadata: object.metadata });
        assert.deepEqual(read.data, { a: "1", b: "2" });
        const listed = await client.list("v1", "ConfigMap", namespace, undefined, undefined, undefined,
            "metadata.name=generic");
        assert.equal(listed.items.length, 1);
        await client.delete(object);
        await refused(404, "NotFound", () => client.read(object));
    });

    test("deletion says what becomes of an object", async () => {
        await core.createNamespacedConfigMap({ namespace, body: configMap("gone", {}) });
        const answer = await core.deleteNamespacedConfigMap({ name: "gone", namespace });
        assert.equal(answer.status, "Success");
        const dry = await core.createNamespacedConfigMap({ namespace, body: configMap("dry", {}), dryRun: "All" });
        assert.equal(dry.metadata.name, "dry");
        await refused(404, "NotFound", () => core.readNamespacedConfigMap({ name: "dry", namespace }));
    });
});

suite("surroundings", () => {
    test("versions and groups", async () => {
        const version = await config.makeApiClient(k8s.VersionApi).getCode();
        assert.equal(`${version.major}.${version.minor}`, "1.36");
        const groups = await config.makeApiClient(k8s.ApisApi).getAPIVersions();
        assert.ok(groups.groups.some((own) => own.name === "apps" && own.preferredVersion.version === "v1"));
        const resources = await config.makeApiClient(k8s.CoreV1Api).getAPIResources();
        assert.ok(resources.resources.some((own) => own.name === "pods/exec"));
    });

    test("who may do what", async () => {
        const authorization = config.makeApiClient(k8s.AuthorizationV1Api);
        const body = { spec: { resourceAttributes: { verb: "delete", resource: "nodes" } } };
        const review = await authorization.createSelfSubjectAccessReview({ body });
        assert.equal(review.status.allowed, true);
        const token = await core.createNamespacedServiceAccountToken({
            name: "default", namespace: "kube-system",
            body: { spec: { audiences: [], expirationSeconds: 600 } },
        });
        const nobody = new k8s.KubeConfig();
        nobody.loadFromClusterAndUser(config.getCurrentCluster(), { name: "robot", token: token.status.token });
        await refused(403, "Forbidden", () => nobody.makeApiClient(k8s.CoreV1Api).listNode());
    });
});
