//! What containers are for.

use std::path::PathBuf;

use corten_runtime::{ExecSpec, Mount, User, purge};

use crate::place::{Place, ended, read};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_runs_says_something_and_ends() {
    let Some(place) = Place::new() else { return };
    let engine = place.engine().await;
    let mut events = engine.events();
    engine.create_pod(Place::pod("u")).await.expect("a pod");
    engine.create_pod(Place::pod("u")).await.expect("again: the same");
    let state = engine.start_container(place.container("one", &["testbox", "env"])).await.expect("starts");
    assert!(state.pid.is_some());
    assert_eq!(ended(&mut events, "one").await.code, 0);
    assert!(place.said("one").contains("COLOR=rust"), "{}", place.said("one"));
    engine.start_container(place.container("two", &["/testbox", "exit", "3"])).await.expect("starts");
    assert_eq!(ended(&mut events, "two").await.code, 3);
    let error = engine.start_container(place.container("three", &["nothing"])).await.expect_err("no such program");
    assert_eq!(
        (error.reason.as_str(), error.message.as_str()),
        ("StartError", "exec: \"nothing\": executable file not found in $PATH")
    );
    let listed = engine.list().await.expect("lists");
    assert_eq!(listed[0].containers.len(), 2);
    engine.remove_container("u", "one").await.expect("removed");
    assert_eq!(engine.list().await.expect("lists")[0].containers.len(), 1);
    engine.remove_pod("u").await.expect("removed");
    engine.remove_pod("u").await.expect("again: nothing");
    assert!(engine.list().await.expect("lists").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_list_of_processes_names_the_pod() {
    let Some(place) = Place::new() else { return };
    let engine = place.engine().await;
    let netns = engine.create_pod(Place::pod("u")).await.expect("a pod").netns.expect("a network namespace");
    let command = netns.ancestors().nth(2).expect("its process").join("cmdline");
    assert_eq!(std::fs::read_to_string(command).expect("readable"), "corten-shim\0a/p\0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_is_confined() {
    let Some(place) = Place::new() else { return };
    let engine = place.engine().await;
    let mut events = engine.events();
    engine.create_pod(Place::pod("u")).await.expect("a pod");
    let mut spec = place.container("id", &["testbox", "id"]);
    spec.user = User { name: "app".to_owned(), ..User::default() };
    engine.start_container(spec).await.expect("starts");
    ended(&mut events, "id").await;
    let said = place.said("id");
    assert!(said.contains("1000"), "{said}");
    let mut spec = place.container("ro", &["testbox", "write", "/file", "x"]);
    spec.read_only_root = true;
    engine.start_container(spec).await.expect("starts");
    assert_ne!(ended(&mut events, "ro").await.code, 0, "the root is read-only");
    engine
        .start_container(place.container("proc", &["testbox", "write", "/proc/sys/kernel/panic", "0"]))
        .await
        .expect("starts");
    assert_ne!(ended(&mut events, "proc").await.code, 0, "kernel settings are read-only");
    engine.start_container(place.container("ls", &["testbox", "ls", "/proc"])).await.expect("starts");
    ended(&mut events, "ls").await;
    let processes = place.said("ls").split_whitespace().filter(|name| name.parse::<u32>().is_ok()).count();
    assert_eq!(processes, 1, "it sees itself alone");
    let volume = place.folder.path().join("volume");
    std::fs::create_dir_all(&volume).expect("made");
    std::fs::write(volume.join("greeting"), "hello").expect("written");
    let mut spec = place.container("mount", &["testbox", "cat", "/deep/down/greeting"]);
    spec.mounts = vec![Mount { source: volume, target: PathBuf::from("/deep/down"), read_only: true }];
    engine.start_container(spec).await.expect("starts");
    ended(&mut events, "mount").await;
    assert_eq!(place.said("mount"), "hello");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_much_memory_is_an_oom_kill() {
    let Some(place) = Place::new() else { return };
    let engine = place.engine().await;
    let mut events = engine.events();
    engine.create_pod(Place::pod("u")).await.expect("a pod");
    engine.start_container(place.container("hungry", &["testbox", "memory", "200"])).await.expect("starts");
    let exit = ended(&mut events, "hungry").await;
    assert_eq!((exit.code, exit.oom_killed), (137, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_run_inside_and_streams_are_attached() {
    let Some(place) = Place::new() else { return };
    let engine = place.engine().await;
    engine.create_pod(Place::pod("u")).await.expect("a pod");
    let mut spec = place.container("main", &["testbox", "cat-stdin"]);
    spec.stdin = true;
    engine.start_container(spec).await.expect("starts");
    let run =
        |args: &[&str], tty| ExecSpec { args: args.iter().map(|&arg| arg.to_owned()).collect(), tty, stdin: false };
    let session = engine.exec("u", "main", run(&["testbox", "echo", "hi"], false)).await.expect("runs");
    assert_eq!(read(session.stdout.expect("stdout")).await, "hi\n");
    assert_eq!(session.exit.await, Ok(0));
    let session = engine.exec("u", "main", run(&["testbox", "exit", "7"], true)).await.expect("runs");
    assert_eq!(session.exit.await, Ok(7));
    assert!(engine.exec("u", "main", run(&["nothing"], false)).await.is_err());
    let attached = engine.attach("u", "main").await.expect("attaches");
    let stdin = attached.stdin.expect("stdin");
    rustix::io::write(&stdin, b"echoed\n").expect("written");
    let mut buffer = [0; 7];
    let stdout = attached.stdout.expect("stdout");
    let count =
        tokio::task::spawn_blocking(move || rustix::io::read(&stdout, &mut buffer).map(|count| (count, buffer)));
    let (count, bytes) = count.await.expect("read").expect("read");
    assert_eq!(&bytes[..count], b"echoed\n");
    engine.kill("u", "main").await.expect("killed");
    assert_eq!(attached.exit.await, Ok(137));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_outlive_the_engine_and_leave_nothing_behind() {
    let Some(place) = Place::new() else { return };
    let first = place.engine().await;
    first.create_pod(Place::pod("u")).await.expect("a pod");
    let pid = first.start_container(place.container("long", &["testbox", "sleep"])).await.expect("starts").pid;
    drop(first);
    let second = place.engine().await;
    second.adopt().await.expect("adopts");
    let mut events = second.events();
    let pods = second.list().await.expect("lists");
    assert_eq!((pods.len(), pods[0].containers[0].pid), (1, pid), "the same process");
    second.signal("u", "long", 9).await.expect("signalled");
    assert_eq!(ended(&mut events, "long").await.code, 137);
    second.start_container(place.container("other", &["testbox", "sleep"])).await.expect("starts");
    purge(&place.config).await.expect("purged");
    let root = place.config.cgroup_root.display().to_string();
    for entry in std::fs::read_dir("/proc").expect("processes").flatten() {
        let cgroup = std::fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        // A shim that has just ended may still wait to be reaped; its cgroup is gone.
        let left = cgroup.lines().any(|line| line.contains(&root) && !line.ends_with("(deleted)"));
        assert!(!left, "{} is left", entry.path().display());
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    assert!(!mounts.contains(&place.folder.path().display().to_string()), "a mount is left");
}
