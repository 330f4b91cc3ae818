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
    task: JoinHandle<()>,
}

#[derive(Clone, PartialEq)]
struct Wanted {
    status: PodStatus,
    /// Then delete the pod.
    delete: bool,
}

impl Writer {
    pub(crate) fn new(client: Client, pod: &Pod) -> Self {
        let (wanted, receiver) = watch::channel(None);
        let api = Api::namespaced(client, &pod.namespace().unwrap_or_default());
        let written = pod.status.clone().unwrap_or_default();
        Self { wanted, task: tokio::spawn(run(api, pod.name_any(), pod.uid().unwrap_or_default(), written, receiver)) }
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

async fn run(
    api: Api<Pod>,
    name: String,
    uid: String,
    mut written: PodStatus,
    mut wanted: watch::Receiver<Option<Wanted>>,
) {
    let mut backoff = Backoff::new(Duration::from_millis(20), 2, Duration::from_secs(10));
    loop {
        let Some(Wanted { status, delete }) = wanted.borrow_and_update().clone() else {
            if wanted.changed().await.is_err() {
                return;
            }
            continue;
        };
        let result = write(&api, &name, &uid, &status, &written, delete).await;
        match result {
            Ok(()) if delete => return,
            Ok(()) => {
                written = status;
                backoff.reset();
                if wanted.changed().await.is_err() {
                    return;
                }
            }
            // Gone, or another pod of that name.
            Err(kube::Error::Api(answer)) if answer.code == 404 || answer.code == 409 => return,
            Err(error) => {
                let delay = backoff.next_delay();
                tracing::warn!(pod = name, error = chain(&error), ?delay, "cannot tell the pod's status");
                wanted.mark_changed();
                tokio::time::sleep(delay).await;
            }
        }
    }
}

async fn write(
    api: &Api<Pod>,
    name: &str,
    uid: &str,
    status: &PodStatus,
    written: &PodStatus,
    delete: bool,
) -> Result<(), kube::Error> {
    if status != written {
        let patch = Patch::Strategic(patch(uid, status));
        api.patch_status(name, &PatchParams::default(), &patch).await?;
    }
    if delete {
        let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
        let options = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() }.grace_period(0);
        api.delete(name, &options).await?;
    }
    Ok(())
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
