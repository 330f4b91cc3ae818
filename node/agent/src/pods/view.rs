//! A pod as logs, exec, attach and port-forward see it: pure.

use std::sync::Arc;

use corten_api::api::core::v1::Pod;
use kube::ResourceExt;

use super::model::{Observed, containers};
use crate::config::Config;
use crate::lookup::{ContainerView, PodView};

/// The view of a pod.
pub(crate) fn view(pod: &Arc<Pod>, observed: &Observed, config: &Config) -> PodView {
    let uid = pod.uid().unwrap_or_default();
    let logs = config.pod_log_dir(&pod.namespace().unwrap_or_default(), &pod.name_any(), &uid);
    let waiting = |name: &str| {
        let slot = observed.slots.get(name);
        let reason = match slot {
            Some(slot) if slot.is_running() => return None,
            Some(slot) if slot.trouble.is_some() => slot.trouble.as_ref().map(|trouble| trouble.reason.clone()),
            Some(slot) => match &slot.image {
                super::model::ImageState::Failed { reason, .. } => Some((*reason).to_owned()),
                _ => None,
            },
            None => None,
        };
        Some(reason.unwrap_or_else(|| "ContainerCreating".to_owned()))
    };
    let container = |(kind, container): super::model::Listed<'_>| {
        let newest = observed.slots.get(&container.name).and_then(|slot| slot.newest.as_ref());
        ContainerView {
            name: container.name.clone(),
            kind,
            id: newest.map(|newest| newest.id.clone()),
            attempt: newest.map_or(0, |newest| newest.attempt),
            running: newest.is_some_and(|newest| newest.exit.is_none()),
            started_at: newest.map(|newest| newest.started_at),
            tty: container.tty.unwrap_or(false),
            stdin: container.stdin.unwrap_or(false),
            stdin_once: container.stdin_once.unwrap_or(false),
            log_dir: logs.join(&container.name),
            waiting: waiting(&container.name),
        }
    };
    PodView {
        containers: pod.spec.iter().flat_map(containers).map(container).collect(),
        pod: Arc::clone(pod),
        ips: observed.ips.clone(),
        uid,
    }
}
