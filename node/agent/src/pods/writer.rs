//! Brings a pod's status to the API server, the newest first, and the pod out of it at the end.

use std::time::Duration;

use corten_api::api::core::v1::{Pod, PodStatus};
use corten_base::{Backoff, chain};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Writes for one pod, from a task of its own: a slow API server must not hold up the pod.
pub(crate) struct Writer {
    wanted: watch::Sender<Option<Wanted>>,
    seen: watch::Sender<Known>,
    task: JoinHandle<()>,
}

#[derive(Clone, PartialEq)]
struct Wanted {
    status: PodStatus,
    /// Then delete the pod.
    delete: bool,
}

/// A status as the API server has it, and the version at which it had it.
#[derive(Clone, Default)]
struct Known {
    version: u64,
    status: PodStatus,
}

impl Known {
    fn of(pod: &Pod) -> Self {
        let version = pod.metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0);
        Self { version, status: pod.status.clone().unwrap_or_default() }
    }
}

impl Writer {
    pub(crate) fn new(client: Client, pod: &Pod) -> Self {
        let (wanted, receiver) = watch::channel(None);
        let api = Api::namespaced(client, &pod.namespace().unwrap_or_default());
        let (seen, known) = watch::channel(Known::of(pod));
        let target = Target { api, name: pod.name_any(), uid: pod.uid().unwrap_or_default() };
        Self { wanted, seen, task: tokio::spawn(run(target, known, receiver)) }
    }

    /// Takes note of the pod at the API server: what somebody else wrote into its status is put right.
    pub(crate) fn saw(&self, pod: &Pod) {
        self.seen.send_replace(Known::of(pod));
    }

    /// Wants this status to be written.
    pub(crate) fn status(&self, status: PodStatus) {
        let wanted = Some(Wanted { status, delete: false });
        self.wanted.send_if_modified(|old| std::mem::replace(old, wanted.clone()) != wanted);
    }

    /// Writes this status, deletes the pod, and returns once it is gone.
    pub(crate) async fn finish(mut self, status: PodStatus) {
        self.wanted.send_replace(Some(Wanted { status, delete: true }));
        let _ = (&mut self.task).await;
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A pod at the API server.
struct Target {
    api: Api<Pod>,
    name: String,
    uid: String,
}

async fn run(target: Target, mut seen: watch::Receiver<Known>, mut wanted: watch::Receiver<Option<Wanted>>) {
    let mut backoff = Backoff::new(Duration::from_millis(20), 2, Duration::from_secs(10));
    let mut written = seen.borrow_and_update().clone();
    loop {
        let now_wanted = wanted.borrow_and_update().clone();
        let now_seen = seen.borrow_and_update().clone();
        if now_seen.version > written.version {
            written = now_seen;
        }
        let Some(Wanted { status, delete }) = now_wanted else {
            if wanted.changed().await.is_err() {
                return;
            }
            continue;
        };
        match target.write(&status, &mut written, delete).await {
            Ok(()) if delete => return,
            Ok(()) => {
                backoff.reset();
                tokio::select! {
                    changed = wanted.changed() => if changed.is_err() { return },
                    changed = seen.changed() => if changed.is_err() { return },
                }
            }
            Err(error) => {
                // Gone, or another pod of that name.
                if target.is_gone(&error).await {
                    return;
                }
                let delay = backoff.next_delay();
                tracing::warn!(pod = target.name, error = chain(&error), ?delay, "cannot tell the pod's status");
                tokio::time::sleep(delay).await;
            }
        }
    }
}

impl Target {
    async fn is_gone(&self, error: &kube::Error) -> bool {
        match error {
            kube::Error::Api(answer) if answer.code == 404 => true,
            // Somebody else was quicker, unless the name belongs to another pod by now. What a node may not write or
            // see is not on it.
            kube::Error::Api(answer) if [403, 409].contains(&answer.code) => match self.api.get_opt(&self.name).await {
                Ok(pod) => pod.is_none_or(|pod| pod.uid().as_deref() != Some(&*self.uid)),
                Err(kube::Error::Api(answer)) => answer.code == 403,
                Err(_) => false,
            },
            _ => false,
        }
    }

    async fn write(&self, status: &PodStatus, written: &mut Known, delete: bool) -> Result<(), kube::Error> {
        if *status != written.status {
            let patch = Patch::Strategic(patch(&self.uid, status));
            let version = match self.api.patch_status(&self.name, &PatchParams::default(), &patch).await {
                Ok(pod) => Known::of(&pod).version,
                // It would be refused again: the next one may be better.
                Err(kube::Error::Api(answer)) if answer.code == 422 => {
                    tracing::error!(pod = self.name, why = answer.message, "the pod's status was refused");
                    written.version
                }
                Err(error) => return Err(error),
            };
            *written = Known { version, status: status.clone() };
        }
        if delete {
            let preconditions = Preconditions { uid: Some(self.uid.clone()), resource_version: None };
            let options =
                DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() }.grace_period(0);
            self.api.delete(&self.name, &options).await?;
        }
        Ok(())
    }
}

/// Conditions are merged by type, so that those of others stay; addresses are replaced as a whole.
fn patch(uid: &str, status: &PodStatus) -> Value {
    let mut body = json!({"metadata": {"uid": uid}, "status": status});
    for list in ["podIPs", "hostIPs"] {
        if let Some(items) = body["status"].get_mut(list).and_then(Value::as_array_mut) {
            items.insert(0, json!({"$patch": "replace"}));
        }
    }
    let unset = |part: &mut Value| {
        for field in ["reason", "message"] {
            if part.get(field).is_none() {
                part[field] = Value::Null;
            }
        }
    };
    unset(&mut body["status"]);
    let conditions = body["status"].get_mut("conditions").and_then(Value::as_array_mut);
    conditions.into_iter().flatten().for_each(unset);
    body
}

#[cfg(test)]
mod tests {
    use corten_api::api::core::v1::PodCondition;

    use super::*;

    #[test]
    fn what_no_longer_holds_is_removed_from_conditions() {
        let ready = PodCondition { type_: "Ready".to_owned(), status: "True".to_owned(), ..PodCondition::default() };
        let status = PodStatus { conditions: Some(vec![ready]), ..PodStatus::default() };
        let condition = json!({"type": "Ready", "status": "True", "reason": null, "message": null});
        let wanted = json!({"conditions": [condition], "reason": null, "message": null});
        assert_eq!(patch("u", &status), json!({"metadata": {"uid": "u"}, "status": wanted}));
    }
}
