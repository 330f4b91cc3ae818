//! The story, step by step.

mod begin;
mod end;
mod look;
mod mistakes;
mod repair;
mod restart;
mod update;

use std::time::Instant;

use anyhow::{Context, Result};
use corten_testkit::Sandbox;

/// A step does something, makes sure that it happened, and says in a line what was seen.
pub type Step = fn(&Sandbox) -> Result<String>;

/// A part of the story that makes sense on a cluster that has only seen [`BEGINNING`].
pub type Chapter = &'static [(&'static str, Step)];

/// An empty machine becomes a cluster with an application.
pub const BEGINNING: Chapter = &[
    ("start a cluster in an empty folder", begin::start),
    ("import the application's images", begin::import),
    ("apply one file: namespace, config, secret, deployment, service", begin::apply),
    ("kubectl rollout status", begin::rollout),
    ("apply it again: nothing changes", begin::apply_again),
];
/// Everything that people look at first.
pub const LOOKING: Chapter = &[
    ("kubectl get all -o wide", look::get_all),
    ("kubectl describe", look::describe),
    ("environment and files from ConfigMap and Secret", look::configuration),
    ("the service by name from another pod, spread over all pods", look::service),
    ("kubectl logs -f", look::logs),
    ("kubectl exec -it", look::exec),
    ("kubectl port-forward", look::port_forward),
];
/// Things break and are mended.
pub const REPAIR: Chapter = &[
    ("kill a container's process: it is restarted", repair::kill_container),
    ("delete a pod: it is replaced", repair::delete_pod),
    ("delete a pod that ignores SIGTERM: it is killed when its time is over", repair::delete_stubborn),
    ("fail a readiness probe: the pod leaves the endpoints", repair::fail_readiness),
];
/// The cluster's own process dies.
pub const RESTART: Chapter = &[("kill -9 corten and start it again: no container notices", restart::kill_corten)];
/// A new version, and back.
pub const UPDATE: Chapter = &[
    ("rolling update under load: no request fails", update::roll),
    ("kubectl rollout history and undo", update::undo),
];
/// Bad input and bad luck.
pub const MISTAKES: Chapter = &[
    ("a broken manifest is refused with field paths", mistakes::manifest),
    ("an image that does not exist: ErrImagePull, ImagePullBackOff", mistakes::image),
    ("a probe that never passes: Unhealthy", mistakes::probe),
    ("a container that crashes: CrashLoopBackOff", mistakes::crash),
];
/// Nothing is left.
pub const ENDING: Chapter =
    &[("corten down stops all and keeps the data", end::down), ("corten reset leaves no trace", end::reset)];

/// The whole story.
pub const STORY: [Chapter; 7] = [BEGINNING, LOOKING, REPAIR, RESTART, UPDATE, MISTAKES, ENDING];

/// Runs chapters, one line a step.
pub fn tell(sandbox: &Sandbox, chapters: &[Chapter]) -> Result<()> {
    let start = Instant::now();
    for (name, step) in chapters.iter().copied().flatten() {
        let before = Instant::now();
        let seen = step(sandbox).with_context(|| format!("step failed: {name}"))?;
        println!("{:7.2} s  {name} ({:.2} s)", start.elapsed().as_secs_f64(), before.elapsed().as_secs_f64());
        seen.lines().for_each(|line| println!("             {line}"));
    }
    Ok(())
}
