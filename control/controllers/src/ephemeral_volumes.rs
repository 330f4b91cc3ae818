//! Makes a claim for every ephemeral volume of a pod. It is the pod's own and goes with it.
//!
//! Spec: <https://kubernetes.io/docs/concepts/storage/ephemeral-volumes/#generic-ephemeral-volumes>
//! Invariant: a claim of that name that belongs to somebody else is left alone.

use corten_api::api::core::v1::{PersistentVolumeClaim, Pod};
use corten_api::meta::ObjectMeta;
use corten_client::{Informer, Key, Next, Writes, reference};
use kube::api::PostParams;
use kube::{Api, ResourceExt};

use crate::context::{Context, Error, or_there};
use crate::owners;
use crate::pods::{claim_made_for, is_active};

/// When to look again for a name that somebody else's claim has.
const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_secs(30);

pub(crate) async fn run(cx: Context) {
    let (pods, claims) = (cx.informers.of::<Pod>(), cx.informers.of::<PersistentVolumeClaim>());
    let queue = cx.queue.clone();
    pods.on_change(move |old, new| {
        // The volumes of a pod never change.
        let fresh = new.filter(|pod| old.is_none_or(|old| old.metadata.uid != pod.metadata.uid));
        fresh.filter(|pod| has_any(pod)).into_iter().for_each(|pod| queue.add(Key::of(pod)));
    });
    let queue = cx.queue.clone();
    claims.on_change(move |old, new| {
        // Somebody deleted a claim that a pod still needs, or one that stood in the way.
        if let (Some(claim), None) = (old, new) {
            let owner = owners::controller(&claim.metadata).filter(|owner| owner.kind == "Pod");
            let pod = owner.map(|owner| owner.name.clone());
            let namespace = claim.namespace().unwrap_or_default();
            pod.into_iter().for_each(|pod| queue.add(Key::new(namespace.clone(), pod)));
        }
    });
    tokio::join!(pods.synced(), claims.synced());
    cx.work(2, move |cx, key| sync(cx, pods.clone(), claims.clone(), key)).await;
}

fn has_any(pod: &Pod) -> bool {
    pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()).any(|volume| volume.ephemeral.is_some())
}

#[derive(Debug, Default)]
struct Plan {
    create: Vec<PersistentVolumeClaim>,
    /// Claims of other people that have a name which a pod's own should have.
    foreign: Vec<String>,
}

fn plan<'a>(pod: &Pod, find: impl Fn(&str) -> Option<&'a PersistentVolumeClaim>) -> Plan {
    let mut plan = Plan::default();
    if !is_active(pod) {
        return plan;
    }
    for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        let Some(template) = volume.ephemeral.as_ref().and_then(|source| source.volume_claim_template.as_ref()) else {
            continue;
        };
        let name = claim_made_for(pod, &volume.name);
        match find(&name) {
            Some(claim) if owners::is_controlled_by(&claim.metadata, &pod.metadata) => {}
            Some(_) => plan.foreign.push(name),
            None => {
                let given = template.metadata.clone().unwrap_or_default();
                plan.create.push(PersistentVolumeClaim {
                    metadata: ObjectMeta {
                        name: Some(name),
                        namespace: pod.namespace(),
                        labels: given.labels,
                        annotations: given.annotations,
                        owner_references: Some(vec![owners::reference(pod)]),
                        ..ObjectMeta::default()
                    },
                    spec: Some(template.spec.clone()),
                    status: None,
                });
            }
        }
    }
    plan
}

async fn sync(
    cx: Context,
    pods: Informer<Pod>,
    claims: Informer<PersistentVolumeClaim>,
    key: Key,
) -> Result<Next, Error> {
    let Some(pod) = pods.by_key(&key) else { return Ok(Next::Wait) };
    let known = claims.list_in(&key.namespace);
    let find =
        |name: &str| known.iter().find(|claim| claim.metadata.name.as_deref() == Some(name)).map(|claim| &**claim);
    let Plan { create, foreign } = plan(&pod, find);
    let is_taken = !foreign.is_empty();
    for name in foreign {
        let message = format!("PVC {}/{name} was not created for pod {key} (pod is not owner)", key.namespace);
        cx.recorder.warning(&cx.config.clock, reference(&*pod), "FailedCreate", message);
    }
    let api: Api<PersistentVolumeClaim> = Api::namespaced(cx.client.clone(), &key.namespace);
    let mut writes = Writes::default();
    let mut failure = None;
    for claim in create {
        match or_there(api.create(&PostParams::default(), &claim).await) {
            Ok(made) => made.iter().for_each(|made| writes.note(&claims, made)),
            Err(error) => {
                let message = format!("create PVC {}: {error}", claim.name_any());
                cx.recorder.warning(&cx.config.clock, reference(&*pod), "FailedCreate", message);
                failure = Some(error);
            }
        }
    }
    writes.settle().await;
    match failure {
        Some(error) => Err(error.into()),
        // The claim of that name may go without a word to this pod.
        None if is_taken => Ok(Next::After(LOOK_AGAIN)),
        None => Ok(Next::Wait),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn of<K: corten_api::k8s_openapi::serde::de::DeserializeOwned>(value: Value) -> K {
        serde_json::from_value(value).expect("an object")
    }

    #[test]
    fn each_ephemeral_volume_gets_a_claim_of_its_pods() {
        let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"accessModes": ["ReadWriteOnce"]}});
        let volumes =
            json!([{"name": "v", "ephemeral": {"volumeClaimTemplate": template}}, {"name": "x", "emptyDir": {}}]);
        let pod = |phase: &str| -> Pod {
            of(json!({"metadata": {"name": "p", "namespace": "a", "uid": "1"}, "status": {"phase": phase},
                "spec": {"containers": [], "volumes": volumes.clone()}}))
        };
        let made = plan(&pod("Pending"), |_| None);
        assert_eq!(
            serde_json::to_value(&made.create).expect("claims"),
            json!([{"apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "metadata": {"name": "p-v", "namespace": "a", "labels": {"a": "b"}, "ownerReferences": [
                    {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "1", "controller": true, "blockOwnerDeletion": true}]},
                "spec": {"accessModes": ["ReadWriteOnce"]}}])
        );
        let own = made.create[0].clone();
        let again = plan(&pod("Running"), |name| (name == "p-v").then_some(&own));
        assert!(again.create.is_empty() && again.foreign.is_empty(), "{again:?}");
        let other: PersistentVolumeClaim = of(json!({"metadata": {"name": "p-v"}}));
        assert_eq!(plan(&pod("Pending"), |_| Some(&other)).foreign, ["p-v"]);
        assert!(plan(&pod("Succeeded"), |_| None).create.is_empty());
    }
}
