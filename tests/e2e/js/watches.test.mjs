// Watches and informers: what changes is told, in order and once.

import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";

import { as, config, configMap, core, eventually, k8s, namespaced } from "./common.mjs";

suite("watches", () => {
    let namespace, end, path;
    before(async () => {
        [namespace, end] = await namespaced("watches");
        path = `/api/v1/namespaces/${namespace}/configmaps`;
    });
    after(() => end());

    const touch = (name, data) =>
        core.patchNamespacedConfigMap({ name, namespace, body: { data } }, as(k8s.PatchStrategy.MergePatch));

    test("a watch goes on where a list ended", async () => {
        const { metadata } = await core.listNamespacedConfigMap({ namespace });
        const seen = [];
        let finished;
        const done = new Promise((resolve) => (finished = resolve));
        const controller = await new k8s.Watch(config).watch(
            path,
            { resourceVersion: metadata.resourceVersion, labelSelector: "watch=yes" },
            (type, object) => seen.push(`${type} ${object.metadata.name} ${object.data.a}`),
            finished,
        );
        const body = configMap("seen", { a: "1" });
        body.metadata.labels = { watch: "yes" };
        await core.createNamespacedConfigMap({ namespace, body });
        await core.createNamespacedConfigMap({ namespace, body: configMap("unseen", { a: "1" }) });
        await touch("seen", { a: "2" });
        await core.deleteNamespacedConfigMap({ name: "seen", namespace });
        await eventually(() => assert.deepEqual(seen, ["ADDED seen 1", "MODIFIED seen 2", "DELETED seen 2"]));
        controller.abort();
        await done;
    });

    test("a watch ends in its time", async () => {
        let finished;
        const done = new Promise((resolve) => (finished = resolve));
        await new k8s.Watch(config).watch(path, { timeoutSeconds: 1, labelSelector: "none=at-all" }, () => {}, finished);
        await done;
    });

    test("a list in a watch ends with a bookmark", async () => {
        await core.createNamespacedConfigMap({ namespace, body: configMap("there", { a: "1" }) });
        const seen = [];
        const query = {
            sendInitialEvents: true, resourceVersionMatch: "NotOlderThan", allowWatchBookmarks: true,
            fieldSelector: "metadata.name=there",
        };
        const controller = await new k8s.Watch(config).watch(
            path,
            query,
            (type, object) => {
                const ends = (object.metadata.annotations ?? {})["k8s.io/initial-events-end"];
                seen.push(type === "BOOKMARK" ? `${type} ${ends}` : `${type} ${object.metadata.name}`);
            },
            () => {},
        );
        await eventually(() => assert.deepEqual(seen, ["ADDED there", "BOOKMARK true"]));
        controller.abort();
    });

    test("an informer's cache follows", async () => {
        const list = () => core.listNamespacedConfigMap({ namespace, labelSelector: "cached=yes" });
        const informer = k8s.makeInformer(config, path, list, "cached=yes");
        const told = [];
        for (const verb of ["add", "update", "delete"]) {
            informer.on(verb, (object) => told.push(`${verb} ${object.metadata.name}`));
        }
        const errors = [];
        informer.on("error", (error) => errors.push(error));
        const body = configMap("cached-1", { a: "1" });
        body.metadata.labels = { cached: "yes" };
        await core.createNamespacedConfigMap({ namespace, body });
        await informer.start();
        await eventually(() => assert.equal(informer.get("cached-1", namespace)?.data.a, "1"));
        await touch("cached-1", { a: "2" });
        await eventually(() => assert.equal(informer.get("cached-1", namespace)?.data.a, "2"));
        body.metadata.name = "cached-2";
        await core.createNamespacedConfigMap({ namespace, body });
        await eventually(() => assert.equal(informer.list(namespace).length, 2));
        await core.deleteNamespacedConfigMap({ name: "cached-1", namespace });
        await eventually(() => assert.equal(informer.get("cached-1", namespace), undefined));
        await informer.stop();
        assert.deepEqual(told, ["add cached-1", "update cached-1", "add cached-2", "delete cached-1"]);
        assert.deepEqual(errors, []);
    });
});
