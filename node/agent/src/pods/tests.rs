//! Tables of what a worker decides and says.

use std::fmt::Write;

use corten_api::api::core::v1::Pod;
use corten_base::Timestamp;
use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::model::{ImageState, Observed, Sandbox, Slot, Stop, Stopping};
use super::plan::{Action, Plan, plan};
use super::status::status;
use crate::ports::{ContainerState, Exit};

/// Seconds after the start of time.
fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).expect("a time")
}

fn pod(spec: Value) -> Pod {
    let metadata = json!({"name": "web", "namespace": "demo", "uid": "u", "generation": 1});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).expect("a pod")
}

fn one() -> Pod {
    pod(json!({"containers": [{"name": "c", "image": "web:1"}], "terminationGracePeriodSeconds": 30}))
}

fn present() -> ImageState {
    ImageState::Present(Box::default())
}

fn running(attempt: u32) -> Slot {
    let state = ContainerState {
        id: format!("id{attempt}"),
        name: "c".to_owned(),
        attempt,
        image: "sha256:1".to_owned(),
        pid: Some(7),
        started_at: at(100),
        exit: None,
    };
    Slot { newest: Some(state), image: present(), started: true, ready: true, ..Slot::default() }
}

fn ended(attempt: u32, code: i32, delay: u64) -> Slot {
    let mut slot = running(attempt);
    slot.ended(Exit { code, signal: 0, oom_killed: false, at: at(110) });
    slot.delay = Some(std::time::Duration::from_secs(delay));
    slot
}

fn with(slots: impl IntoIterator<Item = (&'static str, Slot)>) -> Observed {
    let slots = slots.into_iter().map(|(name, slot)| (name.to_owned(), slot)).collect();
    Observed { sandbox: Sandbox::Ready, slots, seen_at: Some(at(100)), ..Observed::default() }
}

fn stopping(observed: Observed, grace: u64) -> Observed {
    let grace = std::time::Duration::from_secs(grace);
    Observed { stop: Some(Stop { since: at(120), grace }), ..observed }
}

fn check(pod: &Pod, observed: &Observed, expected: Expect) {
    let plan = plan(pod, observed, at(120));
    let mut text = String::new();
    for action in &plan.actions {
        let _ = writeln!(text, "{action:?}");
    }
    if let Some(wake) = plan.wake {
        let _ = writeln!(text, "wake at {}", wake.as_second());
    }
    expected.assert_eq(&text);
}

#[test]
fn a_new_pod_gets_its_sandbox_then_its_image_then_its_container() {
    check(
        &one(),
        &Observed::default(),
        expect![[r#"
        CreateSandbox
    "#]],
    );
    check(
        &one(),
        &with([]),
        expect![[r#"
        FetchImage("c")
    "#]],
    );
    check(&one(), &with([("c", Slot { image: ImageState::Pulling, ..Slot::default() })]), expect![""]);
    check(
        &one(),
        &with([("c", Slot { image: present(), ..Slot::default() })]),
        expect![[r#"
        Start("c")
    "#]],
    );
    check(&one(), &with([("c", running(0))]), expect![""]);
}

#[test]
fn what_failed_is_tried_again_in_time() {
    let failed = |until| Observed { sandbox: Sandbox::Failed { until: at(until) }, ..Observed::default() };
    check(
        &one(),
        &failed(121),
        expect![[r#"
        wake at 121
    "#]],
    );
    check(
        &one(),
        &failed(120),
        expect![[r#"
        CreateSandbox
    "#]],
    );
    let image = |until| {
        let (message, until) = (String::new(), at(until));
        let image = ImageState::Failed { reason: "ErrImagePull", message, until, look: until, backing_off: false };
        with([("c", Slot { image, ..Slot::default() })])
    };
    check(
        &one(),
        &image(130),
        expect![[r#"
        wake at 130
    "#]],
    );
    check(
        &one(),
        &image(119),
        expect![[r#"
        FetchImage("c")
    "#]],
    );
}

#[test]
fn ended_containers_are_started_again_as_the_policy_says() {
    check(
        &one(),
        &with([("c", ended(0, 1, 0))]),
        expect![[r#"
        Start("c")
    "#]],
    );
    check(
        &one(),
        &with([("c", ended(1, 0, 20))]),
        expect![[r#"
        wake at 130
    "#]],
    );
    let policy = |policy: &str| pod(json!({"restartPolicy": policy, "containers": [{"name": "c"}]}));
    check(
        &policy("OnFailure"),
        &with([("c", ended(0, 1, 0))]),
        expect![[r#"
        Start("c")
    "#]],
    );
    // What is done is kept until the API server knows.
    check(&policy("OnFailure"), &with([("c", ended(0, 0, 0))]), expect![""]);
    check(&policy("Never"), &with([("c", ended(0, 1, 0))]), expect![""]);
    let told = Observed { final_phase: Some("Failed".to_owned()), ..with([("c", ended(0, 1, 0))]) };
    check(
        &policy("Never"),
        &told,
        expect![[r#"
        RemoveSandbox
    "#]],
    );
    let done = Observed { sandbox: Sandbox::Absent, ..with([("c", ended(0, 1, 0))]) };
    check(&policy("Never"), &done, expect![""]);
}

#[test]
fn a_deleted_pod_stops_within_its_grace_and_then_goes() {
    check(
        &one(),
        &stopping(with([("c", running(0))]), 5),
        expect![[r#"
        Stop { container: "c", until: 1970-01-01T00:02:05Z, why: "Stopping container c" }
    "#]],
    );
    let asked = |deadline, killed: bool| {
        let mut slot = running(0);
        slot.stopping = Some(Stopping { kill_at: (!killed).then(|| at(deadline)), ..Stopping::until(at(deadline)) });
        stopping(with([("c", slot)]), 5)
    };
    check(
        &one(),
        &asked(125, false),
        expect![[r#"
        wake at 125
    "#]],
    );
    check(
        &one(),
        &asked(150, false),
        expect![[r#"
        Stop { container: "c", until: 1970-01-01T00:02:05Z, why: "Stopping container c" }
        wake at 150
    "#]],
    );
    check(
        &one(),
        &asked(120, false),
        expect![[r#"
        Kill("c")
    "#]],
    );
    check(&one(), &asked(119, true), expect![""]);
    check(
        &one(),
        &stopping(with([("c", ended(0, 0, 0))]), 5),
        expect![[r#"
        RemoveSandbox
    "#]],
    );
    let gone = Observed { sandbox: Sandbox::Absent, ..with([("c", ended(0, 0, 0))]) };
    check(
        &one(),
        &stopping(gone, 5),
        expect![[r#"
        Finish
    "#]],
    );
}

#[test]
fn init_containers_run_one_by_one_and_sidecars_stay() {
    let pod = pod(json!({
        "initContainers": [{"name": "side", "restartPolicy": "Always"}, {"name": "init"}],
        "containers": [{"name": "c"}],
    }));
    let ready = || Slot { image: present(), ..Slot::default() };
    check(
        &pod,
        &with([("side", ready()), ("init", ready()), ("c", ready())]),
        expect![[r#"
        Start("side")
    "#]],
    );
    check(
        &pod,
        &with([("side", running(0)), ("init", ready()), ("c", ready())]),
        expect![[r#"
        Start("init")
    "#]],
    );
    check(
        &pod,
        &with([("side", running(0)), ("init", ended(0, 0, 0)), ("c", ready())]),
        expect![[r#"
        Start("c")
    "#]],
    );
    check(
        &pod,
        &with([("side", ended(0, 0, 0)), ("init", ended(0, 0, 0)), ("c", running(0))]),
        expect![[r#"
        Start("side")
    "#]],
    );
    let both = with([("side", running(0)), ("init", ended(0, 0, 0)), ("c", running(0))]);
    check(
        &pod,
        &stopping(both, 9),
        expect![[r#"
        Stop { container: "c", until: 1970-01-01T00:02:09Z, why: "Stopping container c" }
    "#]],
    );
    let last = with([("side", running(0)), ("init", ended(0, 0, 0)), ("c", ended(0, 0, 0))]);
    check(
        &pod,
        &stopping(last, 9),
        expect![[r#"
        Stop { container: "side", until: 1970-01-01T00:02:09Z, why: "Stopping container side" }
    "#]],
    );
}

#[test]
fn asking_again_does_not_put_off_the_end() {
    let observed = stopping(with([("c", running(0))]), 5);
    let Some(Action::Stop { until, .. }) = plan(&one(), &observed, at(121)).actions.pop() else {
        panic!("it is not stopped");
    };
    let mut slot = running(0);
    slot.stopping = Some(Stopping::until(until));
    let again = plan(&one(), &stopping(with([("c", slot)]), 5), at(122));
    assert_eq!(again, Plan { actions: vec![], wake: Some(at(125)) });
}

/// The status as one line per subject.
fn describe(pod: &Pod, observed: &Observed) -> String {
    let status = status(pod, observed, None, [192, 0, 2, 1].into(), at(120));
    let mut text = format!("{}\n", status.phase.unwrap_or_default());
    for own in status.init_container_statuses.iter().chain(&status.container_statuses).flatten() {
        let show = |state: &Option<corten_api::api::core::v1::ContainerState>| {
            let state = state.clone().unwrap_or_default();
            match (state.waiting, state.running, state.terminated) {
                (Some(waiting), ..) => {
                    format!("{} {}", waiting.reason.unwrap_or_default(), waiting.message.unwrap_or_default())
                }
                (_, Some(_), _) => "running".to_owned(),
                (.., Some(ended)) => format!("{} {}", ended.reason.unwrap_or_default(), ended.exit_code),
                _ => "-".to_owned(),
            }
        };
        let (ready, count) = (own.ready, own.restart_count);
        let (state, last) = (show(&own.state), show(&own.last_state));
        let _ = writeln!(text, "{} ready={ready} restarts={count} {} / {}", own.name, state.trim_end(), last);
    }
    for own in status.conditions.iter().flatten() {
        let why = [own.reason.as_deref(), own.message.as_deref()].into_iter().flatten().collect::<Vec<_>>().join(": ");
        let _ = writeln!(text, "{}={} {why}", own.type_, own.status);
    }
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[test]
fn a_status_tells_what_users_know() {
    expect![[r#"
        Pending
        c ready=false restarts=0 ContainerCreating / -
        PodReadyToStartContainers=False
        Initialized=True
        Ready=False ContainersNotReady: containers with unready status: [c]
        ContainersReady=False ContainersNotReady: containers with unready status: [c]
        PodScheduled=True
    "#]]
    .assert_eq(&describe(&one(), &Observed { seen_at: Some(at(100)), ..Observed::default() }));
    expect![[r#"
        Running
        c ready=true restarts=0 running / -
        PodReadyToStartContainers=True
        Initialized=True
        Ready=True
        ContainersReady=True
        PodScheduled=True
    "#]]
    .assert_eq(&describe(&one(), &with([("c", running(0))])));
    expect![[r#"
        Running
        c ready=false restarts=2 CrashLoopBackOff back-off 20s restarting failed container=c pod=web_demo(u) / Error 1
        PodReadyToStartContainers=True
        Initialized=True
        Ready=False ContainersNotReady: containers with unready status: [c]
        ContainersReady=False ContainersNotReady: containers with unready status: [c]
        PodScheduled=True
    "#]]
    .assert_eq(&describe(&one(), &with([("c", ended(2, 1, 20))])));
    let failed = ImageState::Failed {
        reason: "ImagePullBackOff",
        message: "Back-off pulling image \"web:1\"".to_owned(),
        until: at(130),
        look: at(130),
        backing_off: true,
    };
    expect![[r#"
        Pending
        c ready=false restarts=0 ImagePullBackOff Back-off pulling image "web:1" / -
        PodReadyToStartContainers=True
        Initialized=True
        Ready=False ContainersNotReady: containers with unready status: [c]
        ContainersReady=False ContainersNotReady: containers with unready status: [c]
        PodScheduled=True
    "#]]
    .assert_eq(&describe(&one(), &with([("c", Slot { image: failed, ..Slot::default() })])));
    let never = pod(json!({"restartPolicy": "Never", "containers": [{"name": "c"}]}));
    expect![[r#"
        Succeeded
        c ready=false restarts=0 Completed 0 / -
        PodReadyToStartContainers=True
        Initialized=True
        Ready=False PodCompleted
        ContainersReady=False PodCompleted
        PodScheduled=True
    "#]]
    .assert_eq(&describe(&never, &with([("c", ended(0, 0, 0))])));
    expect![[r#"
        Failed
        c ready=false restarts=0 Error 3 / -
        PodReadyToStartContainers=True
        Initialized=True
        Ready=False PodFailed
        ContainersReady=False PodFailed
        PodScheduled=True
    "#]]
    .assert_eq(&describe(&never, &with([("c", ended(0, 3, 0))])));
}
