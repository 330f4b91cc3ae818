// Running pods: logs, exec, attach, files and ports, as the client's own helpers ask for them.

import assert from "node:assert/strict";
import { mkdtemp, readFile, writeFile } from "node:fs/promises";
import { createConnection, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { after, before, suite, test } from "node:test";

import { Kept, config, core, eventually, k8s, namespaced, pod, ready } from "./common.mjs";

suite("pods", () => {
    let namespace, end;
    before(async () => {
        [namespace, end] = await namespaced("pods");
        await core.createNamespacedPod({ namespace, body: pod("web") });
        await ready(namespace, "web");
    });
    after(() => end());

    /** Runs a command: its status and what it wrote. */
    async function exec(command, input) {
        const [out, err] = [new Kept(), new Kept()];
        const stdin = input === undefined ? null : Readable.from([input]);
        const status = await new Promise((resolve, reject) => {
            new k8s.Exec(config).exec(namespace, "web", "main", command, out, err, stdin, false, resolve).catch(reject);
        });
        return [status, out.text, err.text];
    }

    test("a pod's log, whole and as it grows", async () => {
        await core.createNamespacedPod({ namespace, body: pod("writer", ["log", "3", "4"]) });
        const text = await eventually(async () => {
            const text = await core.readNamespacedPodLog({ name: "writer", namespace });
            assert.equal(text, "0000\n0001\n0002\n");
            return text;
        });
        assert.equal(await core.readNamespacedPodLog({ name: "writer", namespace, tailLines: 1 }), text.slice(-5));
        const followed = new Kept();
        await new k8s.Log(config).log(namespace, "writer", "main", followed, { follow: true, tailLines: 2 });
        await eventually(() => assert.equal(followed.text, "0001\n0002\n"));
    });

    test("commands say how they ended", async () => {
        const [well, out] = await exec(["/testbox", "echo", "hello"]);
        assert.deepEqual([well.status, out], ["Success", "hello\n"]);
        const [badly, , err] = await exec(["/testbox", "cat", "/none"]);
        assert.equal(badly.status, "Failure");
        assert.deepEqual([badly.reason, badly.details.causes[0]], ["NonZeroExitCode", { reason: "ExitCode", message: "1" }]);
        assert.match(err, /\/none/);
    });

    test("files go in and out", async () => {
        const folder = await mkdtemp(join(tmpdir(), "js-"));
        await writeFile(join(folder, "note"), "from outside\n".repeat(1000));
        const copy = new k8s.Cp(config);
        await copy.cpToPod(namespace, "web", "main", "note", "/tmp", folder);
        const there = await eventually(async () => {
            const [, text] = await exec(["/testbox", "cat", "/tmp/note"]);
            assert.equal(text.length, 13_000);
            return text;
        });
        await exec(["/testbox", "write", "/tmp/back", "from inside"]);
        await copy.cpFromPod(namespace, "web", "main", "back", folder, "/tmp");
        const back = await eventually(async () => {
            const text = await readFile(join(folder, "back"), "utf8");
            assert.notEqual(text, "");
            return text;
        });
        assert.deepEqual([there.slice(0, 12), back], ["from outside", "from inside"]);
    });

    test("a port of a pod is forwarded", async () => {
        const forward = new k8s.PortForward(config);
        const server = createServer((socket) => void forward.portForward(namespace, "web", [8080], socket, null, socket));
        await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
        const answer = await new Promise((resolve, reject) => {
            const socket = createConnection(server.address().port, "127.0.0.1");
            let text = "";
            socket.on("data", (data) => {
                text += data;
                if (text.includes("GET /there")) resolve(text);
            });
            socket.on("error", reject);
            socket.write("GET /there HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n");
        });
        assert.match(answer, /^HTTP\/1.1 200/);
        server.close();
        server.closeAllConnections?.();
    });
});
