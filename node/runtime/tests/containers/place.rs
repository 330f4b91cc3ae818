//! Folders and cgroups of a test's own, and what most tests do with them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use corten_runtime::{ContainerSpec, Engine, EngineConfig, Event, PodSpec, Resources, User, purge};
use tokio::sync::mpsc::UnboundedReceiver;

static COUNT: AtomicU32 = AtomicU32::new(0);

pub(crate) struct Place {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) config: EngineConfig,
    pub(crate) layer: PathBuf,
}

impl Place {
    /// `None` where containers cannot be made.
    pub(crate) fn new() -> Option<Self> {
        let testbox =
            std::env::var_os("CORTEN_TESTBOX").map(|dir| Path::new(&dir).join("testbox")).filter(|path| path.exists());
        let (true, Some(testbox)) = (rustix::process::geteuid().is_root(), testbox) else {
            // Under `cargo xtask test` a machine that cannot make containers leaves this test out.
            assert!(std::env::var_os("CORTEN_MUST_RUN").is_none(), "cannot make containers here");
            eprintln!("skipped: needs root and $CORTEN_TESTBOX (cargo xtask test sets it)");
            return None;
        };
        let folder = tempfile::Builder::new().prefix("corten-runtime-").tempdir().expect("a folder");
        let layer = folder.path().join("layer");
        std::fs::create_dir_all(layer.join("etc")).expect("made");
        std::fs::copy(testbox, layer.join("testbox")).expect("copied");
        std::fs::write(layer.join("etc/passwd"), "root:x:0:0:root:/:/testbox\napp:x:1000:1000:app:/:/testbox\n")
            .expect("written");
        let root = format!("/corten-test-runtime-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let config = EngineConfig {
            data_dir: folder.path().join("data"),
            run_dir: folder.path().join("run"),
            cgroup_root: PathBuf::from(root),
        };
        Some(Self { folder, config, layer })
    }

    pub(crate) async fn engine(&self) -> Arc<Engine> {
        Engine::open(self.config.clone()).await.expect("an engine")
    }

    pub(crate) fn pod(uid: &str) -> PodSpec {
        PodSpec {
            uid: uid.to_owned(),
            namespace: "a".to_owned(),
            name: "p".to_owned(),
            hostname: "host-of-p".to_owned(),
            host_network: false,
            host_pid: false,
            host_ipc: false,
            resources: Resources::default(),
            qos: "Burstable".to_owned(),
            grace: Duration::ZERO,
        }
    }

    pub(crate) fn container(&self, id: &str, args: &[&str]) -> ContainerSpec {
        ContainerSpec {
            id: id.to_owned(),
            pod_uid: "u".to_owned(),
            name: "c".to_owned(),
            attempt: 0,
            image: "sha256:0".to_owned(),
            layers: vec![self.layer.clone()],
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            env: vec!["PATH=/".to_owned(), "COLOR=rust".to_owned()],
            cwd: PathBuf::from("/"),
            mounts: Vec::new(),
            user: User::default(),
            cap_add: Vec::new(),
            cap_drop: Vec::new(),
            privileged: false,
            read_only_root: false,
            no_new_privileges: true,
            seccomp: true,
            resources: Resources { memory_limit: Some(64 << 20), ..Resources::default() },
            log_path: self.log(id),
            tty: false,
            stdin: false,
            stdin_once: false,
            oom_score_adj: 0,
        }
    }

    pub(crate) fn log(&self, id: &str) -> PathBuf {
        self.folder.path().join(format!("{id}.log"))
    }

    /// What a container said, without times.
    pub(crate) fn said(&self, id: &str) -> String {
        let text = std::fs::read_to_string(self.log(id)).unwrap_or_default();
        text.lines().filter_map(|line| line.splitn(4, ' ').nth(3)).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let config = self.config.clone();
        let purged = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(purge(&config))
        });
        if let Ok(Err(error)) = purged.join() {
            eprintln!("cannot clean up: {error}");
        }
    }
}

pub(crate) async fn ended(events: &mut UnboundedReceiver<Event>, wanted: &str) -> corten_runtime::Exit {
    let wait = async {
        loop {
            if let Some(Event::Exited { id, exit, .. }) = events.recv().await
                && id == wanted
            {
                return exit;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait).await.expect("it ends in time")
}

pub(crate) async fn read(fd: std::os::fd::OwnedFd) -> String {
    tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        let _ = std::io::Read::read_to_string(&mut std::fs::File::from(fd), &mut text);
        text
    })
    .await
    .expect("read")
}

/// Runs a container to its end: its exit code and what it said.
pub(crate) async fn run(
    place: &Place,
    engine: &Engine,
    events: &mut UnboundedReceiver<Event>,
    spec: ContainerSpec,
) -> (i32, String) {
    let id = spec.id.clone();
    engine.start_container(spec).await.unwrap_or_else(|error| panic!("{id} does not start: {error}"));
    let exit = ended(events, &id).await;
    (exit.code, place.said(&id))
}
