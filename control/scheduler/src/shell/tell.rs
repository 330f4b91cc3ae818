//! Says in a pod's status why it has no node.

use corten_api::api::core::v1::Pod;
use corten_api::meta::Time;
use corten_base::Timestamp;
use corten_client::{Key, reference};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::Writer;
use crate::core::{Core, Nomination};

const GATED: &str = "Scheduling is blocked due to non-empty scheduling gates";

/// What is to be written into a status.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// Reason and message of the condition `PodScheduled`; `None` to leave it.
    condition: Option<(&'static str, String)>,
    nomination: Nomination,
}

impl Told {
    /// It fits nowhere.
    pub(super) fn unschedulable(message: String, nomination: Nomination) -> Self {
        Self { condition: Some(("Unschedulable", message)), nomination }
    }

    /// The room that was to be made for it is another's.
    pub(super) fn without_room() -> Self {
        Self { condition: None, nomination: Nomination::Clear }
    }

    /// This, and of what was to be written before it whatever this leaves open.
    pub(super) fn after(self, earlier: Option<Self>) -> Self {
        let Some(earlier) = earlier else { return self };
        let nomination = if self.nomination == Nomination::Keep { earlier.nomination } else { self.nomination };
        Self { condition: self.condition.or(earlier.condition), nomination }
    }

    /// What has to change in the status of the pod; `None` if it says so already.
    fn patch(&self, pod: &Pod, now: Timestamp) -> Option<Value> {
        let mut status = serde_json::Map::new();
        let own = pod.status.as_ref();
        if let Some((reason, message)) = &self.condition {
            let mut conditions = own.into_iter().flat_map(|status| status.conditions.iter().flatten());
            let old = conditions.find(|own| own.type_ == "PodScheduled" && own.status == "False");
            let said =
                old.is_some_and(|old| old.reason.as_deref() == Some(reason) && old.message.as_ref() == Some(message));
            if !said {
                let since = old.and_then(|old| old.last_transition_time.clone()).unwrap_or(Time(now));
                let condition = json!({
                    "type": "PodScheduled", "status": "False", "reason": reason, "message": message,
                    "lastProbeTime": null, "lastTransitionTime": since,
                    "observedGeneration": pod.metadata.generation,
                });
                status.insert("conditions".to_owned(), json!([condition]));
            }
        }
        let nominated = own.and_then(|status| status.nominated_node_name.as_deref()).unwrap_or_default();
        match &self.nomination {
            Nomination::Set(node) if **node != *nominated => {
                status.insert("nominatedNodeName".to_owned(), json!(&**node));
            }
            Nomination::Clear if !nominated.is_empty() => {
                status.insert("nominatedNodeName".to_owned(), Value::Null);
            }
            _ => {}
        }
        let uid = pod.metadata.uid.as_ref();
        (!status.is_empty()).then(|| json!({"metadata": {"uid": uid}, "status": status}))
    }
}

impl Writer {
    /// The time as the API writes it.
    pub(super) fn seconds(&self) -> Time {
        let now = self.clock.now();
        Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
    }

    /// What is to be said of a pod whose gates are closed.
    pub(super) fn gated(&self, core: &Core, key: &Key) -> Option<Told> {
        let pod = self.feed.pods.by_key(key)?;
        let gates = pod.spec.as_ref().and_then(|spec| spec.scheduling_gates.as_ref());
        if gates.is_none_or(Vec::is_empty) || !self.feed.pod(key).is_some_and(|pod| core.serves(&pod)) {
            return None;
        }
        let told = Told { condition: Some(("SchedulingGated", GATED.to_owned())), nomination: Nomination::Keep };
        told.patch(&pod, self.clock.now()).is_some().then_some(told)
    }

    /// Tells people that a pod fits nowhere.
    pub(super) fn report(&self, key: &Key, scheduler: &str, message: &str) {
        if let Some((pod, recorder)) = self.feed.pods.by_key(key).zip(self.recorders.get(scheduler)) {
            recorder.warning(&self.clock, reference(&*pod), "FailedScheduling", message);
        }
    }

    /// Writes a pod's status, if it has to change.
    pub(super) async fn tell(&self, key: &Key, told: &Told) {
        let Some(pod) = self.feed.pods.by_key(key) else { return };
        let Some(patch) = told.patch(&pod, self.seconds().0) else { return };
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        match api.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(patch)).await {
            // It is gone, or another pod of that name has taken its place.
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {}
            Err(error) => {
                tracing::warn!(pod = %key, error = corten_base::chain(&error), "a pod was not told why it waits");
            }
            Ok(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(status: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "a", "uid": "u"}, "status": status})).expect("a pod")
    }

    #[test]
    fn only_what_differs_is_written() {
        let since = "2026-01-01T00:00:00Z";
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().expect("a time");
        let old = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no", "lastTransitionTime": since});
        let told = pod(json!({"conditions": [old], "nominatedNodeName": "a"}));
        let tell = |message: &str, nomination| Told::unschedulable(message.to_owned(), nomination);
        assert_eq!(tell("no", Nomination::Keep).patch(&told, now), None);
        assert_eq!(tell("no", Nomination::Set("a".into())).patch(&told, now), None);
        let cleared = Told::without_room().patch(&told, now).expect("a patch");
        assert_eq!(cleared["status"], json!({"nominatedNodeName": null}));
        let patch = tell("other", Nomination::Set("b".into())).patch(&told, now).expect("a patch");
        assert_eq!(patch["status"]["nominatedNodeName"], "b");
        let condition = &patch["status"]["conditions"][0];
        assert_eq!((&condition["message"], &condition["lastTransitionTime"]), (&json!("other"), &json!(since)));
    }

    #[test]
    fn what_comes_later_stands_above_what_came_before() {
        let earlier = Told::unschedulable("first".to_owned(), Nomination::Set("a".into()));
        let later = Told::unschedulable("second".to_owned(), Nomination::Keep);
        let both = later.after(Some(earlier));
        assert_eq!(both, Told::unschedulable("second".to_owned(), Nomination::Set("a".into())));
        let without = Told::without_room().after(Some(both));
        assert_eq!(without.condition, Some(("Unschedulable", "second".to_owned())));
        assert_eq!(without.nomination, Nomination::Clear);
    }
}
