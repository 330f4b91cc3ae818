// What all suites share: the client, a namespace that ends with its tests, and patience.
//
// The client lives where `cargo xtask test` put it ($CORTEN_NODE), not beside these files.

import assert from "node:assert/strict";
import { join } from "node:path";
import { Writable } from "node:stream";
import { pathToFileURL } from "node:url";

const client = join(process.env.CORTEN_NODE, "node_modules/@kubernetes/client-node/dist/index.js");
export const k8s = await import(pathToFileURL(client));

export const IMAGE = "localhost/testbox:v1";
export const config = new k8s.KubeConfig();
config.loadFromFile(process.env.KUBECONFIG);
export const core = config.makeApiClient(k8s.CoreV1Api);
export const apps = config.makeApiClient(k8s.AppsV1Api);

/** Tries until `attempt` throws no more; what it returned. */
export async function eventually(attempt, seconds = 20) {
    const deadline = Date.now() + seconds * 1000;
    for (;;) {
        try {
            return await attempt();
        } catch (error) {
            if (Date.now() > deadline) throw error;
            await new Promise((resolve) => setTimeout(resolve, 50));
        }
    }
}

/** A new namespace in which pods can be made; call the second to end it. */
export async function namespaced(name) {
    const namespace = `${name}-${Math.random().toString(36).slice(2, 8)}`;
    await core.createNamespace({ body: { metadata: { name: namespace } } });
    await eventually(() => core.readNamespacedServiceAccount({ name: "default", namespace }));
    return [namespace, () => core.deleteNamespace({ name: namespace })];
}

/** The API's Status of a call that must be refused with this code and reason. */
export async function refused(code, reason, call) {
    const error = await call().then(
        () => assert.fail(`it was not refused with ${code} ${reason}`),
        (error) => error,
    );
    const status = typeof error.body === "string" ? JSON.parse(error.body) : error.body;
    assert.deepEqual([error.code, status.reason], [code, reason], JSON.stringify(status));
    return status;
}

/** Sends a patch of this kind. */
export const as = (strategy) => k8s.setHeaderOptions("Content-Type", strategy);

export const configMap = (name, data) => ({ apiVersion: "v1", kind: "ConfigMap", metadata: { name }, data });

export const pod = (name, args = ["serve"]) => ({
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, labels: { name } },
    spec: { containers: [{ name: "main", image: IMAGE, args }], terminationGracePeriodSeconds: 1 },
});

/** Returns once a pod is ready. */
export const ready = (namespace, name) =>
    eventually(async () => {
        const { status } = await core.readNamespacedPod({ name, namespace });
        const isReady = (status.conditions ?? []).some((own) => own.type === "Ready" && own.status === "True");
        assert.ok(isReady, `${name} is not ready: ${JSON.stringify(status)}`);
    });

/** A stream that keeps what is written to it. */
export class Kept extends Writable {
    text = "";
    _write(chunk, _encoding, done) {
        this.text += chunk;
        done();
    }
}
