//! Whole pods' volumes on temporary folders, over a fake API server.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use corten_api::api::core::v1::Pod;
use corten_base::{Clock, Random};
use corten_client::Informers;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::testing::{self, FakeApi};

struct Bench {
    api: FakeApi,
    volumes: Volumes,
    dir: TempDir,
}

impl Drop for Bench {
    fn drop(&mut self) {
        // Also after a failed test nothing stays mounted.
        let _ = tree::remove(&self.dir.path().join("pods"));
    }
}

fn bench() -> Bench {
    let api = FakeApi::default();
    let dir = tempfile::tempdir().expect("a folder");
    let sources = Sources::new(&Informers::new(api.client(), CancellationToken::new()), "n1");
    let node = Arc::new(testing::node());
    let volumes = Volumes::new(dir.path(), node, sources, Clock::system(), Random::seeded(1));
    Bench { api, volumes, dir }
}

fn pod(volumes: Value, mounts: Value) -> Arc<Pod> {
    Arc::new(testing::pod(json!({
        "metadata": {"name": "web", "namespace": "demo", "uid": "u1", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "main", "volumeMounts": mounts}], "volumes": volumes},
    })))
}

fn ips() -> Vec<IpAddr> {
    vec!["10.42.0.5".parse().expect("an address")]
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path.as_ref()).unwrap_or_else(|error| format!("{}: {error}", path.as_ref().display()))
}

/// Waits until a file says something.
async fn says(path: &Path, text: &str) {
    let wait = async {
        while read(path) != text {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), wait).await.unwrap_or_else(|_| panic!("{}", read(path)));
}

fn mounts(made: &PodVolumes, pod: &Pod) -> Vec<String> {
    let container = &pod.spec.as_ref().expect("a spec").containers[0];
    let mounts = made.mounts(container, &[], 0).expect("mounts");
    let show = |mount: &crate::ports::Mount| {
        let source = mount.source.strip_prefix(&made.dir).unwrap_or(&mount.source);
        format!("{} <- {}{}", mount.target.display(), source.display(), if mount.read_only { " ro" } else { "" })
    };
    mounts.iter().map(show).collect()
}

#[tokio::test]
async fn files_follow_their_objects() {
    let bench = bench();
    bench.api.put("configmaps", "demo", "cfg", json!({"data": {"mode": "fast"}}));
    let volumes = json!([
        {"name": "cfg", "configMap": {"name": "cfg"}},
        {"name": "info", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        {"name": "scratch", "emptyDir": {}},
    ]);
    let pod = pod(
        volumes,
        json!([{"name": "cfg", "mountPath": "/cfg"}, {"name": "scratch", "mountPath": "tmp", "readOnly": true}]),
    );
    let made = bench.volumes.mount(&pod, &ips()).await.expect("mounted");
    let base = made.dir.join("volumes");
    let (file, labels) =
        (base.join("kubernetes.io~configmap/cfg/mode"), base.join("kubernetes.io~downward-api/info/labels"));
    assert_eq!((read(&file), read(&labels)), ("fast".to_owned(), "app=\"web\"".to_owned()));
    assert_eq!(
        mounts(&made, &pod),
        [
            "/cfg <- volumes/kubernetes.io~configmap/cfg ro",
            "/tmp <- volumes/kubernetes.io~empty-dir/scratch ro",
            "/etc/hosts <- etc-hosts",
            "/etc/hostname <- hostname",
            "/etc/resolv.conf <- resolv.conf",
            "/dev/termination-log <- containers/main/0.termination-log",
        ]
    );
    assert!(read(made.dir.join("etc-hosts")).contains("10.42.0.5\tweb\n"));
    bench.api.put("configmaps", "demo", "cfg", json!({"data": {"mode": "slow"}}));
    says(&file, "slow").await;
    let mut renamed = (*pod).clone();
    renamed.metadata.labels = Some([("app".to_owned(), "new".to_owned())].into());
    made.pod_changed(&Arc::new(renamed));
    says(&labels, "app=\"new\"").await;
    // What is gone leaves its last files, as upstream.
    bench.api.delete("configmaps", "demo", "cfg");
    bench.api.put("configmaps", "demo", "cfg", json!({"data": {"mode": "again"}}));
    says(&file, "again").await;
    // A new agent on the same folder changes nothing that is right.
    let scratch = base.join("kubernetes.io~empty-dir/scratch");
    fs::write(scratch.join("kept"), "x").expect("written");
    let target = fs::read_link(file.with_file_name("..data")).expect("a link");
    drop(made);
    let made = bench.volumes.mount(&pod, &ips()).await.expect("mounted");
    assert_eq!(fs::read_link(file.with_file_name("..data")).expect("a link"), target);
    assert!(scratch.join("kept").exists());
    assert_eq!(fs::metadata(&scratch).expect("a folder").mode() & 0o7777, 0o777);
    assert_eq!(bench.volumes.known().await.expect("pods"), ["u1"]);
    drop(made);
    bench.volumes.unmount("u1").await.expect("removed");
    bench.volumes.unmount("u1").await.expect("nothing to do");
    assert!(bench.volumes.known().await.expect("pods").is_empty());
    assert!(bench.volumes.unmount("").await.is_err());
}

#[tokio::test]
async fn tokens_are_renewed() {
    let bench = bench();
    bench.api.put("serviceaccounts", "demo", "default", json!({}));
    bench.api.put("configmaps", "demo", "kube-root-ca.crt", json!({"data": {"ca.crt": "PEM"}}));
    bench.api.token_seconds(2);
    let volumes = json!([{"name": "api", "projected": {"sources": [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}}]}}]);
    let pod = pod(volumes, json!([]));
    let made = bench.volumes.mount(&pod, &ips()).await.expect("mounted");
    let dir = made.dir.join("volumes/kubernetes.io~projected/api");
    assert_eq!(
        (read(dir.join("token")), read(dir.join("ca.crt")), read(dir.join("namespace"))),
        ("token-1".to_owned(), "PEM".to_owned(), "demo".to_owned())
    );
    bench.api.token_seconds(3600);
    says(&dir.join("token"), "token-2").await;
    assert_eq!(bench.api.tokens(), 2);
}

#[tokio::test]
async fn what_cannot_be_made_is_named() {
    let bench = bench();
    for (volume, expected) in [
        (
            json!({"name": "v", "configMap": {"name": "none"}}),
            r#"MountVolume.SetUp failed for volume "v" : configmap "none" not found"#,
        ),
        (
            json!({"name": "v", "secret": {"secretName": "none"}}),
            r#"MountVolume.SetUp failed for volume "v" : secret "none" not found"#,
        ),
        (
            json!({"name": "v", "persistentVolumeClaim": {"claimName": "c"}}),
            r#"Unable to attach or mount volumes: unmounted volumes=[v]: error processing PVC demo/c: persistentvolumeclaim "c" not found"#,
        ),
        (json!({"name": "v", "nfs": {"server": "s", "path": "/"}}), r#"volume "v": nfs volumes are not supported yet"#),
        (
            json!({"name": "v", "hostPath": {"path": "/dev/null", "type": "Directory"}}),
            r#"MountVolume.SetUp failed for volume "v" : hostPath type check failed: /dev/null is not a directory"#,
        ),
        (
            json!({"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}),
            r#"MountVolume.SetUp failed for volume "v" : failed to fetch token: serviceaccounts "default" not found"#,
        ),
    ] {
        let result = bench.volumes.mount(&pod(json!([volume]), json!([])), &ips()).await;
        assert_eq!(result.err().map(|error| error.to_string()).as_deref(), Some(expected));
    }
    let optional = json!([{"name": "v", "configMap": {"name": "none", "optional": true}}]);
    assert!(bench.volumes.mount(&pod(optional, json!([])), &ips()).await.is_ok());
}

#[tokio::test]
async fn a_claim_is_mounted_once_it_is_bound() {
    let bench = bench();
    let folder = local_folder(bench.dir.path()).join("pv");
    let claim = |phase: &str| json!({"spec": {"volumeName": "pv"}, "status": {"phase": phase}});
    bench.api.put("persistentvolumeclaims", "demo", "data", claim("Pending"));
    let annotations = json!({"pv.kubernetes.io/provisioned-by": "corten.dev/local-path"});
    let spec = json!({"local": {"path": folder}, "claimRef": {"name": "data", "namespace": "demo", "uid": "uid-data"}});
    bench.api.put("persistentvolumes", "", "pv", json!({"metadata": {"annotations": annotations}, "spec": spec}));
    let named = json!({"claimName": "data", "readOnly": true});
    let pod = pod(json!([{"name": "v", "persistentVolumeClaim": named}]), json!([{"name": "v", "mountPath": "/data"}]));
    let used = bench.volumes.sources.follow(&pod);
    let failure = bench.volumes.mount(&pod, &ips()).await.err().expect("it is not bound");
    assert!(failure.to_string().ends_with("error processing PVC demo/data: PVC is not bound"), "{failure}");
    let mut changes = used.changes();
    bench.api.put("persistentvolumeclaims", "demo", "data", claim("Bound"));
    // The worker is told, so that it need not wait for its back-off.
    changes.next().await;
    let made = bench.volumes.mount(&pod, &ips()).await.expect("mounted");
    let shown = mounts(&made, &pod);
    assert!(shown.contains(&format!("/data <- {} ro", folder.display())), "{shown:?}");
    fs::write(folder.join("kept"), "x").expect("written");
    drop(made);
    bench.volumes.unmount("u1").await.expect("removed");
    assert_eq!(read(folder.join("kept")), "x");
}

#[tokio::test]
async fn memory_and_sub_paths_are_mounted_and_unmounted() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let bench = bench();
    let precious = bench.dir.path().join("precious");
    fs::create_dir(&precious).expect("made");
    fs::write(precious.join("file"), "x").expect("written");
    bench.api.put("configmaps", "demo", "cfg", json!({"data": {"mode": "fast"}}));
    let volumes = json!([
        {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": "host", "hostPath": {"path": precious}},
        {"name": "cfg", "configMap": {"name": "cfg"}},
    ]);
    let wanted = json!([
        {"name": "memory", "mountPath": "/m", "subPath": "deep/er"},
        {"name": "host", "mountPath": "/h", "subPath": "file"},
        {"name": "cfg", "mountPath": "/etc/app/mode", "subPath": "mode"},
    ]);
    let pod = pod(volumes, wanted);
    let made = bench.volumes.mount(&pod, &ips()).await.expect("mounted");
    let shown = mounts(&made, &pod);
    assert!(shown.contains(&"/m <- volume-subpaths/memory/main/0".to_owned()), "{shown:?}");
    assert!(shown.contains(&"/h <- volume-subpaths/host/main/1".to_owned()), "{shown:?}");
    assert!(
        shown.iter().any(|line| line.starts_with("/etc/app/mode <- volumes/kubernetes.io~configmap/cfg/..2")),
        "{shown:?}"
    );
    let memory = made.dir.join("volumes/kubernetes.io~empty-dir/memory");
    assert_eq!(rustix::fs::statfs(&memory).expect("a file system").f_blocks, 256);
    assert!(memory.join("deep/er").is_dir());
    // A second start of the container, and of the agent.
    mounts(&made, &pod);
    drop(made);
    let made = bench.volumes.mount(&pod, &ips()).await.expect("mounted");
    assert_eq!(tree::mounts_below(&made.dir).expect("mounts").len(), 3);
    drop(made);
    bench.volumes.unmount("u1").await.expect("removed");
    assert_eq!(read(precious.join("file")), "x");
}

#[tokio::test]
async fn a_usual_pod_is_ready_soon() {
    let bench = bench();
    bench.api.put("serviceaccounts", "demo", "default", json!({}));
    bench.api.put("configmaps", "demo", "cfg", json!({"data": {"mode": "fast"}}));
    let volumes = json!([{"name": "cfg", "configMap": {"name": "cfg"}},
        {"name": "api", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}]);
    let mut best = Duration::MAX;
    for _ in 0..20 {
        let start = tokio::time::Instant::now();
        let pod = pod(volumes.clone(), json!([{"name": "cfg", "mountPath": "/cfg"}]));
        let made = bench.volumes.mount(&pod, &ips()).await.expect("mounted");
        mounts(&made, &pod);
        best = best.min(start.elapsed());
        drop(made);
        bench.volumes.unmount("u1").await.expect("removed");
    }
    // The least of several, so that a busy machine does not fail this.
    assert!(best < Duration::from_millis(20), "{best:?}");
    eprintln!("prepared in {best:?}");
}
