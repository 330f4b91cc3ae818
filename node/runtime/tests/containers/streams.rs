//! What goes in and out of containers, to the last byte.

use std::time::Duration;

use corten_runtime::{ExecSpec, Session};

use crate::place::{Place, ended, read, run};

fn command(args: &[&str], tty: bool, stdin: bool) -> ExecSpec {
    ExecSpec { args: args.iter().map(|&arg| arg.to_owned()).collect(), tty, stdin }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_line_is_lost_when_a_container_ends_at_once() {
    let Some(place) = Place::new() else { return };
    let engine = place.engine().await;
    let mut events = engine.events();
    engine.create_pod(Place::pod("u")).await.expect("a pod");
    let spec = place.container("talk", &["testbox", "log", "20000", "100"]);
    let (code, said) = run(&place, &engine, &mut events, spec).await;
    // The end is told when everything is in the log.
    assert_eq!((code, said.lines().count()), (0, 20_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_sees_the_end_of_the_first_attached_input() {
    let Some(place) = Place::new() else { return };
    let engine = place.engine().await;
    let mut events = engine.events();
    engine.create_pod(Place::pod("u")).await.expect("a pod");
    let mut spec = place.container("cat", &["testbox", "cat-stdin"]);
    (spec.stdin, spec.stdin_once) = (true, true);
    engine.start_container(spec).await.expect("starts");
    let Session { stdin, stdout, exit, .. } = engine.attach("u", "cat").await.expect("attaches");
    let stdin = stdin.expect("stdin");
    rustix::io::write(&stdin, b"all there is\n").expect("written");
    drop(stdin);
    let waited = tokio::time::timeout(Duration::from_secs(5), exit).await.expect("it ends with its input");
    assert_eq!(waited, Ok(0));
    assert_eq!(read(stdout.expect("stdout")).await, "all there is\n");
    ended(&mut events, "cat").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_who_is_attached_gets_all_of_it_however_slow() {
    let Some(place) = Place::new() else { return };
    let engine = place.engine().await;
    engine.create_pod(Place::pod("u")).await.expect("a pod");
    let mut spec = place.container("cat", &["testbox", "cat-stdin"]);
    (spec.stdin, spec.stdin_once) = (true, true);
    engine.start_container(spec).await.expect("starts");
    let Session { stdin, stdout, exit, .. } = engine.attach("u", "cat").await.expect("attaches");
    let line = format!("{:0>1023}\n", 7);
    let all = line.repeat(600);
    let writing = tokio::task::spawn_blocking({
        let all = all.clone();
        move || std::io::Write::write_all(&mut std::fs::File::from(stdin.expect("stdin")), all.as_bytes())
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let heard = read(stdout.expect("stdout")).await;
    writing.await.expect("done").expect("written");
    assert!(heard == all, "{} of {} bytes", heard.len(), all.len());
    assert_eq!(exit.await, Ok(0));
    assert_eq!(place.said("cat").lines().count(), 600);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_nobody_waits_for_is_killed() {
    let Some(place) = Place::new() else { return };
    let engine = place.engine().await;
    engine.create_pod(Place::pod("u")).await.expect("a pod");
    engine.start_container(place.container("main", &["testbox", "sleep"])).await.expect("starts");
    let count = async || {
        let session = engine.exec("u", "main", command(&["testbox", "ls", "/proc"], false, false)).await.expect("runs");
        let text = read(session.stdout.expect("stdout")).await;
        text.lines().filter(|name| name.parse::<u32>().is_ok()).count()
    };
    let slow = engine.exec("u", "main", command(&["testbox", "sleep"], false, false)).await.expect("runs");
    assert_eq!(count().await, 3);
    drop(slow);
    for _ in 0..100 {
        if count().await == 2 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it runs on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_has_a_size() {
    let Some(place) = Place::new() else { return };
    let engine = place.engine().await;
    engine.create_pod(Place::pod("u")).await.expect("a pod");
    engine.start_container(place.container("main", &["testbox", "sleep"])).await.expect("starts");
    let session = engine.exec("u", "main", command(&["testbox", "shell"], true, true)).await.expect("runs");
    let (stdin, stdout) = (session.stdin.expect("stdin"), session.stdout.expect("stdout"));
    session.resize.send((97, 31)).await.expect("sent");
    for _ in 0..100 {
        let size = rustix::termios::tcgetwinsize(&stdout).expect("a terminal");
        if (size.ws_col, size.ws_row) == (97, 31) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let size = rustix::termios::tcgetwinsize(&stdout).expect("a terminal");
    assert_eq!((size.ws_col, size.ws_row), (97, 31));
    rustix::io::write(&stdin, b"tty\nexit 5\n").expect("written");
    assert_eq!(session.exit.await, Ok(5));
    assert!(read(stdout).await.contains("a terminal"));
}
