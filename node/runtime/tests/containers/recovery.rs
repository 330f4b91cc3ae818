//! What is left when somebody dies in the middle, and who clears it away.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use corten_runtime::Engine;

use crate::place::{Place, ended};

fn processes_in(cgroup: &str) -> usize {
    let entries = std::fs::read_dir("/proc").expect("processes").flatten();
    let texts = entries.map(|entry| std::fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default());
    texts.filter(|text| text.lines().any(|line| line.contains(cgroup) && !line.ends_with("(deleted)"))).count()
}

fn count(dir: &Path) -> usize {
    std::fs::read_dir(dir).into_iter().flatten().count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_that_was_cut_short_is_finished() {
    let Some(place) = Place::new() else { return };
    let root = place.config.cgroup_root.display().to_string();
    let first = place.engine().await;
    first.create_pod(Place::pod("u")).await.expect("a pod");
    first.start_container(place.container("long", &["testbox", "sleep"])).await.expect("starts");
    let dir = place.config.run_dir.join("pods/u");
    std::fs::rename(dir.join("pod.json"), dir.join("removing.json")).expect("as if it had begun");
    drop(first);
    let second = place.engine().await;
    assert!(second.list().await.expect("lists").is_empty());
    assert!(!dir.exists());
    assert_eq!(count(&place.config.data_dir.join("containers")), 0);
    assert_eq!(processes_in(&root), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_was_not_made_to_the_end_is_made_anew() {
    let Some(place) = Place::new() else { return };
    let first = place.engine().await;
    let state = first.create_pod(Place::pod("u")).await.expect("a pod");
    let netns = state.netns.expect("a network namespace");
    let shim: i32 = netns.components().nth(2).and_then(|part| part.as_os_str().to_str()?.parse().ok()).expect("a pid");
    first.start_container(place.container("long", &["testbox", "sleep"])).await.expect("starts");
    let mut events = first.events();
    rustix::process::kill_process(rustix::process::Pid::from_raw(shim).expect("a pid"), rustix::process::Signal::KILL)
        .expect("killed");
    let event = tokio::time::timeout(Duration::from_secs(5), events.recv()).await.expect("told");
    assert_eq!(event, Some(corten_runtime::Event::PodLost { pod_uid: "u".to_owned() }));
    let listed = first.list().await.expect("lists");
    assert!(listed[0].broken);
    drop(first);
    // Also what a machine that was switched off leaves.
    std::fs::create_dir_all(place.config.data_dir.join("containers/lost/upper")).expect("made");
    std::fs::create_dir_all(place.config.run_dir.join("pods/half")).expect("made");
    let second = place.engine().await;
    assert!(!place.config.data_dir.join("containers/lost").exists());
    assert!(!place.config.run_dir.join("pods/half").exists());
    let again = second.create_pod(Place::pod("u")).await.expect("a pod");
    assert!(!again.broken && again.containers.is_empty());
    let mut events = second.events();
    second.start_container(place.container("long", &["testbox", "exit", "4"])).await.expect("the same id is free");
    assert_eq!(ended(&mut events, "long").await.code, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_at_once_leaves_nothing() {
    let Some(place) = Place::new() else { return };
    let root = place.config.cgroup_root.display().to_string();
    let engine = place.engine().await;
    let mut tasks = Vec::new();
    for number in 0..24 {
        let engine: Arc<Engine> = Arc::clone(&engine);
        let mut spec = place.container(&format!("c{number}"), &["testbox", "sleep"]);
        let uid = format!("u{}", number % 2);
        spec.pod_uid.clone_from(&uid);
        tasks.push(tokio::spawn(async move {
            match number % 4 {
                0 | 1 => drop(engine.create_pod(Place::pod(&uid)).await),
                2 => drop(engine.remove_pod(&uid).await),
                _ => {}
            }
            let id = spec.id.clone();
            let _ = engine.start_container(spec).await;
            let _ = engine.kill(&uid, &id).await;
            let _ = engine.remove_container(&uid, &id).await;
        }));
    }
    for task in tasks {
        tokio::time::timeout(Duration::from_secs(60), task).await.expect("in time").expect("no panic");
    }
    for uid in ["u0", "u1"] {
        engine.remove_pod(uid).await.expect("removed");
    }
    assert_eq!(count(&place.config.data_dir.join("containers")), 0);
    assert_eq!(count(&place.config.run_dir.join("pods")), 0);
    assert_eq!(processes_in(&format!("{root}/pods/burstable/pod")), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_pid_namespace_children_end_with_their_container() {
    let Some(place) = Place::new() else { return };
    let engine = place.engine().await;
    let mut events = engine.events();
    let mut pod = Place::pod("u");
    pod.host_pid = true;
    engine.create_pod(pod).await.expect("a pod");
    engine.start_container(place.container("main", &["testbox", "sleep"])).await.expect("starts");
    let command = ["testbox", "sleep"].map(str::to_owned).to_vec();
    let spec = corten_runtime::ExecSpec { args: command, tty: false, stdin: false };
    let session = engine.exec("u", "main", spec).await.expect("runs");
    engine.signal("u", "main", 9).await.expect("signalled");
    assert_eq!(ended(&mut events, "main").await.code, 137);
    let code = tokio::time::timeout(Duration::from_secs(5), session.exit).await.expect("it ends as well");
    assert_eq!(code, Ok(137));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shim_is_written_anew_if_it_is_not_ours() {
    let Some(place) = Place::new() else { return };
    drop(place.engine().await);
    let dir = place.config.run_dir.join("shim");
    let shim = std::fs::read_dir(&dir).expect("read").flatten().next().expect("a shim").path();
    std::fs::remove_file(&shim).expect("removed");
    std::fs::write(&shim, "#!/bin/false\n").expect("written");
    place.engine().await.create_pod(Place::pod("u")).await.expect("a pod");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_purged_may_end_by_itself_first() {
    let Some(place) = Place::new() else { return };
    let engine = place.engine().await;
    let grace = Duration::from_secs(30);
    for (uid, id, grace, program) in [
        ("u", "well-behaved", grace, "serve"),
        ("v", "stubborn", Duration::from_secs(1), "stubborn"),
        ("w", "hasty", Duration::ZERO, "stubborn"),
    ] {
        engine.create_pod(corten_runtime::PodSpec { grace, ..Place::pod(uid) }).await.expect("a pod");
        let mut spec = place.container(id, &["testbox", program]);
        spec.pod_uid = uid.to_owned();
        engine.start_container(spec).await.expect("starts");
    }
    let listening = async {
        while !place.said("well-behaved").contains("serves") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), listening).await.expect("it is up");
    drop(engine);
    assert_eq!(corten_runtime::running_pods(&place.config).await, 3);
    let start = std::time::Instant::now();
    corten_runtime::purge(&place.config).await.expect("purged");
    let took = start.elapsed().as_secs_f64();
    assert!(place.said("well-behaved").contains("got SIGTERM"), "{}", place.said("well-behaved"));
    assert!(place.said("stubborn").contains("ignored SIGTERM"), "{}", place.said("stubborn"));
    assert!((1.0..6.0).contains(&took), "all at once, and no longer than their pods allow: {took} s");
    assert_eq!(corten_runtime::running_pods(&place.config).await, 0);
    assert_eq!(processes_in(&place.config.cgroup_root.display().to_string()), 0);
}
