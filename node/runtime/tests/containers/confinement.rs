//! What a container must not see, reach or become.

use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use corten_runtime::{Mount, User};

use crate::place::{Place, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_the_machine_leaks_in() {
    let Some(place) = Place::new() else { return };
    let engine = place.engine().await;
    let mut events = engine.events();
    engine.create_pod(Place::pod("u")).await.expect("a pod");
    let (_, said) = run(&place, &engine, &mut events, place.container("fd", &["testbox", "ls", "/proc/self/fd"])).await;
    assert_eq!(said, "0\n1\n2\n3", "three streams, and the one that lists them");
    let spec = place.container("mounts", &["testbox", "cat", "/proc/self/mountinfo"]);
    let (_, said) = run(&place, &engine, &mut events, spec).await;
    for line in said.lines() {
        let kind = line.split(" - ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or_default();
        let known = ["overlay", "proc", "tmpfs", "devpts", "mqueue", "sysfs", "cgroup", "cgroup2"];
        assert!(known.contains(&kind), "{line}");
        assert!(!line.contains(&place.folder.path().display().to_string()), "{line}");
    }
    assert!(said.lines().any(|line| line.contains(" / / rw") && line.contains("overlay")), "{said}");
    let (_, said) = run(&place, &engine, &mut events, place.container("id", &["testbox", "id"])).await;
    assert!(said.contains("Seccomp:\t2") && said.contains("NoNewPrivs:\t1"), "{said}");
    assert!(said.contains("CapEff:\t00000000a80425fb") && said.contains("CapBnd:\t00000000a80425fb"), "{said}");
    let (_, said) =
        run(&place, &engine, &mut events, place.container("cg", &["testbox", "cat", "/proc/self/cgroup"])).await;
    assert!(said.lines().all(|line| line.ends_with(":/")), "a namespace of its own: {said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_those_that_ask_for_it_can_gain_no_privileges() {
    let Some(place) = Place::new() else { return };
    let engine = place.engine().await;
    let mut events = engine.events();
    engine.create_pod(Place::pod("u")).await.expect("a pod");
    for (name, user) in [("root", ""), ("user", "app")] {
        let mut spec = place.container(name, &["testbox", "id"]);
        spec.no_new_privileges = false;
        spec.user.name = user.to_owned();
        let (_, said) = run(&place, &engine, &mut events, spec).await;
        assert!(said.contains("NoNewPrivs:\t0") && said.contains("Seccomp:\t2"), "{name}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_user_has_no_capabilities_but_its_own_streams() {
    let Some(place) = Place::new() else { return };
    let engine = place.engine().await;
    let mut events = engine.events();
    engine.create_pod(Place::pod("u")).await.expect("a pod");
    let user = User { name: "app".to_owned(), ..User::default() };
    let mut spec = place.container("id", &["testbox", "id"]);
    spec.user = user.clone();
    let (_, said) = run(&place, &engine, &mut events, spec).await;
    assert!(said.contains("CapEff:\t0000000000000000"), "{said}");
    let mut spec = place.container("out", &["testbox", "write", "/dev/stdout", "said"]);
    spec.user = user;
    assert_eq!(run(&place, &engine, &mut events, spec).await, (0, "said".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_are_nodes_of_its_own_and_only_the_harmless_ones_open() {
    let Some(place) = Place::new() else { return };
    // /dev/net/tun: anybody may open it, if nothing forbids it.
    let number = rustix::fs::makedev(10, 200);
    let mode = rustix::fs::Mode::from_raw_mode(0o666);
    let node = place.layer.join("tun");
    rustix::fs::mknodat(rustix::fs::CWD, &node, rustix::fs::FileType::CharacterDevice, mode, number).expect("made");
    let engine = place.engine().await;
    let mut events = engine.events();
    engine.create_pod(Place::pod("u")).await.expect("a pod");
    let (code, said) = run(&place, &engine, &mut events, place.container("tun", &["testbox", "cat", "/tun"])).await;
    assert_ne!(code, 0);
    assert!(said.contains("Operation not permitted") || said.contains("Permission denied"), "{said}");
    let spec = place.container("null", &["testbox", "write", "/dev/null", "x"]);
    assert_eq!(run(&place, &engine, &mut events, spec).await.0, 0);
    let pid = engine.start_container(place.container("stay", &["testbox", "sleep"])).await.expect("starts").pid;
    let theirs = PathBuf::from(format!("/proc/{}/root/dev/null", pid.expect("it runs")));
    std::fs::set_permissions(&theirs, std::fs::Permissions::from_mode(0o600)).expect("set");
    let ours = std::fs::metadata("/dev/null").expect("there");
    assert!(ours.file_type().is_char_device());
    assert_eq!(ours.permissions().mode() & 0o777, 0o666, "the machine's own is as it was");
    let mut spec = place.container("all", &["testbox", "cat", "/tun"]);
    spec.privileged = true;
    let (_, said) = run(&place, &engine, &mut events, spec).await;
    assert!(!said.contains("not permitted"), "a privileged one may: {said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_in_an_image_lead_nowhere_else() {
    let Some(place) = Place::new() else { return };
    let outside = place.folder.path().join("outside");
    std::fs::create_dir_all(&outside).expect("made");
    let up = format!("../../../../../../../..{}", outside.display());
    symlink(&up, place.layer.join("data")).expect("linked");
    symlink("../run/resolv.conf", place.layer.join("etc/resolv.conf")).expect("linked");
    std::fs::create_dir_all(place.layer.join("real")).expect("made");
    symlink("/real", place.layer.join("alias")).expect("linked");
    symlink("/proc/self/root/real", place.layer.join("magic")).expect("linked");
    let engine = place.engine().await;
    let mut events = engine.events();
    engine.create_pod(Place::pod("u")).await.expect("a pod");
    let volume = place.folder.path().join("volume");
    std::fs::create_dir_all(&volume).expect("made");
    std::fs::write(volume.join("greeting"), "hello").expect("written");
    let mount = |source: &Path, target: &str| Mount {
        source: source.to_owned(),
        target: PathBuf::from(target),
        read_only: true,
    };
    let mut spec =
        place.container("cat", &["testbox", "cat", "/data/in/greeting", "/etc/resolv.conf", "/real/greeting"]);
    spec.mounts =
        vec![mount(&volume, "/data/in"), mount(&volume.join("greeting"), "/etc/resolv.conf"), mount(&volume, "/alias")];
    assert_eq!(run(&place, &engine, &mut events, spec).await, (0, "hellohellohello".to_owned()));
    assert_eq!(std::fs::read_dir(&outside).expect("read").count(), 0, "nothing was made outside");
    let mut spec = place.container("ro", &["testbox", "write", "/alias/file", "x"]);
    spec.mounts = vec![mount(&volume, "/alias")];
    assert_ne!(run(&place, &engine, &mut events, spec).await.0, 0, "it is read-only");
    let mut spec = place.container("magic", &["testbox", "exit", "0"]);
    spec.mounts = vec![mount(&volume, "/magic/in")];
    let error = engine.start_container(spec).await.expect_err("refused");
    assert!(error.message.contains("cannot make the mount point /magic/in"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_cannot_have_its_own_proc_or_dev() {
    let Some(place) = Place::new() else { return };
    let engine = place.engine().await;
    engine.create_pod(Place::pod("u")).await.expect("a pod");
    for name in ["proc", "dev", "sys"] {
        let link = place.layer.join(name);
        let outside = place.folder.path().join(format!("made-{name}"));
        symlink(format!("../../../../../../../..{}", outside.display()), &link).expect("linked");
        let error =
            engine.start_container(place.container(name, &["testbox", "exit", "0"])).await.expect_err("refused");
        assert!(error.message.contains(&format!("/{name} of the image must be an ordinary folder")), "{error}");
        assert!(!outside.exists(), "made on the machine: {}", outside.display());
        std::fs::remove_file(&link).expect("removed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_of_many_layers_mounts() {
    let Some(mut place) = Place::new() else { return };
    place.layer = place.folder.path().join("layer");
    let engine = place.engine().await;
    let mut events = engine.events();
    engine.create_pod(Place::pod("u")).await.expect("a pod");
    let mut spec = place.container("many", &["testbox", "exit", "0"]);
    for number in 0..100 {
        // As long as layers' names are, and with what separates them in mount options.
        let layer = place.folder.path().join(format!("{number:0>64},:"));
        std::fs::create_dir_all(&layer).expect("made");
        spec.layers.insert(0, layer);
    }
    assert_eq!(run(&place, &engine, &mut events, spec).await.0, 0);
}
