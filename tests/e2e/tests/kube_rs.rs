//! A program written with kube-rs, as its users write them: over TLS to a cluster with real containers.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use corten_api::api::core::v1::{ConfigMap, Pod, Secret};
use corten_testkit::Sandbox;
use futures::{StreamExt, TryStreamExt};
use kube::api::{AttachParams, DeleteParams, ListParams, LogParams, Patch, PatchParams, PostParams, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{PartialObjectMeta, WatchEvent};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Api, Client, Config, Resource, ResourceExt};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// As long as anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_program_written_with_kube_rs() {
    let Some(sandbox) = Sandbox::new() else { return };
    let prepared = sandbox.import("v1").and_then(|_| sandbox.start());
    if let Err(error) = prepared.and_then(|()| sandbox.enter(|| on_this_thread(everything(&sandbox)))) {
        panic!("{error:?}");
    }
}

/// On this thread alone, since other threads are not in the sandbox's network namespace.
fn on_this_thread(work: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(work)
}

async fn in_time<T>(what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(PATIENCE, work).await.with_context(|| format!("{what}: not in time"))?.context(what.to_owned())
}

async fn everything(sandbox: &Sandbox) -> Result<()> {
    let kubeconfig = Kubeconfig::read_from(sandbox.kubeconfig())?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    let client = Client::try_from(config)?;
    in_time("objects", objects(client.clone())).await?;
    in_time("watches", watches(client.clone())).await?;
    in_time("a reflector", reflected(client.clone())).await?;
    in_time("a controller", controlled(client.clone())).await?;
    in_time("a pod", Box::pin(pod(client))).await
}

fn map(name: &str, value: &str) -> Result<ConfigMap> {
    let metadata = json!({"name": name, "labels": {"suite": "kube-rs"}});
    Ok(serde_json::from_value(json!({"metadata": metadata, "data": {"a": value}}))?)
}

fn refusal(error: &kube::Error) -> (u16, &str) {
    match error {
        kube::Error::Api(status) => (status.code, status.reason.as_str()),
        _ => (0, ""),
    }
}

async fn objects(client: Client) -> Result<()> {
    let version = client.apiserver_version().await?;
    ensure!(version.major == "1" && version.minor == "36", "{version:?}");
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    let made = maps.create(&PostParams::default(), &map("objects", "1")?).await?;
    let twice = maps.create(&PostParams::default(), &map("objects", "1")?).await;
    ensure!(twice.as_ref().is_err_and(|error| refusal(error) == (409, "AlreadyExists")), "{twice:?}");
    let mut old = made.clone();
    let patch = Patch::Merge(json!({"data": {"a": "2"}}));
    let patched = maps.patch("objects", &PatchParams::default(), &patch).await?;
    ensure!(patched.data.context("no data")?["a"] == "2");
    old.labels_mut().insert("late".to_owned(), "yes".to_owned());
    let late = maps.replace("objects", &PostParams::default(), &old).await;
    ensure!(late.as_ref().is_err_and(|error| refusal(error) == (409, "Conflict")), "{late:?}");
    ensure!(maps.get_opt("nothing").await?.is_none());
    let metadata: PartialObjectMeta<ConfigMap> = maps.get_metadata("objects").await?;
    ensure!(metadata.meta().uid == made.meta().uid);
    let listed = maps.list_metadata(&ListParams::default().labels("suite=kube-rs")).await?;
    ensure!(listed.items.len() == 1, "{listed:?}");

    let apply = |value: &str| {
        Patch::Apply(json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"a": value},
        }))
    };
    maps.patch("applied", &PatchParams::apply("one"), &apply("1")).await?;
    let conflict = maps.patch("applied", &PatchParams::apply("two"), &apply("2")).await;
    ensure!(conflict.as_ref().is_err_and(|error| refusal(error) == (409, "Conflict")), "{conflict:?}");
    let forced = maps.patch("applied", &PatchParams::apply("two").force(), &apply("2")).await?;
    let owners: Vec<_> = forced.managed_fields().iter().filter_map(|entry| entry.manager.as_deref()).collect();
    ensure!(owners == ["two"], "{owners:?}");
    maps.delete_collection(&DeleteParams::default(), &ListParams::default().labels("suite=kube-rs")).await?;
    ensure!(maps.get_opt("objects").await?.is_none());
    Ok(())
}

async fn watches(client: Client) -> Result<()> {
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    maps.create(&PostParams::default(), &map("watched", "1")?).await?;
    let config = watcher::Config::default().labels("suite=kube-rs");
    for config in [config.clone(), config.streaming_lists()] {
        let mut events = Box::pin(watcher(maps.clone(), config));
        let mut first = Vec::new();
        while first.last() != Some(&"done".to_owned()) {
            first.push(match events.try_next().await?.context("the watch ended")? {
                watcher::Event::Init => "init".to_owned(),
                watcher::Event::InitApply(map) => map.name_any(),
                watcher::Event::InitDone => "done".to_owned(),
                other => format!("{other:?}"),
            });
        }
        ensure!(first == ["init", "watched", "done"], "{first:?}");
        let patch = Patch::Merge(json!({"data": {"b": "2"}}));
        maps.patch("watched", &PatchParams::default(), &patch).await?;
        let event = events.try_next().await?.context("the watch ended")?;
        ensure!(matches!(&event, watcher::Event::Apply(map) if map.name_any() == "watched"), "{event:?}");
        maps.patch("watched", &PatchParams::default(), &Patch::Merge(json!({"data": {"b": null}}))).await?;
    }
    let expired = maps.watch(&WatchParams::default(), "1").await?.boxed().try_next().await?;
    let gone = |event: &WatchEvent<ConfigMap>| matches!(event, WatchEvent::Error(status) if status.code == 410);
    // A young cluster may still know its first revision.
    ensure!(expired.as_ref().is_none_or(|event| gone(event) || matches!(event, WatchEvent::Added(_))), "{expired:?}");
    maps.delete("watched", &DeleteParams::default()).await?;
    Ok(())
}

async fn reflected(client: Client) -> Result<()> {
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    let (reader, writer) = reflector::store();
    let config = watcher::Config::default().labels("suite=kube-rs").page_size(2);
    let stream = watcher(maps.clone(), config).default_backoff().reflect(writer).applied_objects();
    let task = tokio::spawn(stream.for_each(|_| async {}));
    reader.wait_until_ready().await?;
    for number in 0..5 {
        maps.create(&PostParams::default(), &map(&format!("reflected-{number}"), "1")?).await?;
    }
    while reader.state().len() != 5 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let labels = ListParams::default().labels("suite=kube-rs");
    maps.delete_collection(&DeleteParams::default(), &labels).await?;
    while !reader.state().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    task.abort();
    Ok(())
}

/// A controller that keeps a Secret for every ConfigMap of the suite, by server-side apply.
async fn controlled(client: Client) -> Result<()> {
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let secrets: Api<Secret> = Api::default_namespaced(client);
    let own = watcher::Config::default().labels("suite=kube-rs");
    let reconcile = |map: Arc<ConfigMap>, secrets: Arc<Api<Secret>>| async move {
        let owner = map.controller_owner_ref(&());
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": map.name_any(), "ownerReferences": [owner]},
            "stringData": map.data,
        });
        secrets.patch(&map.name_any(), &PatchParams::apply("keeper").force(), &Patch::Apply(secret)).await?;
        Ok::<_, kube::Error>(Action::await_change())
    };
    let controller = Controller::new(maps.clone(), own).owns(secrets.clone(), watcher::Config::default()).run(
        reconcile,
        |_, _, _| Action::requeue(Duration::from_secs(1)),
        Arc::new(secrets.clone()),
    );
    let task = tokio::spawn(controller.for_each(|_| async {}));
    maps.create(&PostParams::default(), &map("kept", "1")?).await?;
    let there = |secret: Option<&Secret>| secret.is_some();
    await_condition(secrets.clone(), "kept", there).await?;
    secrets.delete("kept", &DeleteParams::default()).await?;
    await_condition(secrets.clone(), "kept", there).await?;
    task.abort();
    let uid = secrets.get("kept").await?.uid().context("no uid")?;
    // Its owner gone, the garbage collector takes it.
    maps.delete("kept", &DeleteParams::default()).await?;
    await_condition(secrets, "kept", conditions::is_deleted(&uid)).await?;
    Ok(())
}

async fn pod(client: Client) -> Result<()> {
    let pods: Api<Pod> = Api::default_namespaced(client);
    let spec =
        json!({"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "localhost/testbox:v1"}]});
    let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "pod"}, "spec": spec}))?;
    let made = pods.create(&PostParams::default(), &pod).await?;
    await_condition(pods.clone(), "pod", conditions::is_pod_running()).await?;

    let mut attached = pods.exec("pod", ["/testbox", "cat-stdin"], &AttachParams::default().stdin(true)).await?;
    let mut stdin = attached.stdin().context("no stdin")?;
    stdin.write_all(b"typed").await?;
    stdin.shutdown().await?;
    drop(stdin);
    let mut said = String::new();
    attached.stdout().context("no stdout")?.read_to_string(&mut said).await?;
    ensure!(said == "typed", "{said:?}");
    let status = attached.take_status().context("no status")?.await.context("no status came")?;
    ensure!(status.status.as_deref() == Some("Success"), "{status:?}");
    let failed = pods.exec("pod", ["/testbox", "exit", "3"], &AttachParams::default()).await?;
    let status = { failed }.take_status().context("no status")?.await.context("no status came")?;
    ensure!(status.reason.as_deref() == Some("NonZeroExitCode"), "{status:?}");

    let log = pods.logs("pod", &LogParams::default()).await?;
    ensure!(log.contains("testbox v1 on pod"), "{log}");

    let mut forward = pods.portforward("pod", &[8080]).await?;
    let mut stream = forward.take_stream(8080).context("no stream")?;
    stream.write_all(b"GET /forwarded HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await?;
    let mut said = String::new();
    stream.read_to_string(&mut said).await?;
    ensure!(said.contains("GET /forwarded"), "{said}");

    pods.delete("pod", &DeleteParams::default()).await?;
    await_condition(pods, "pod", conditions::is_deleted(&made.uid().context("no uid")?)).await?;
    Ok(())
}
