//! Lets claims grow whose volumes can.
//!
//! Spec: <https://kubernetes.io/docs/concepts/storage/persistent-volumes/#expanding-persistent-volumes-claims>
//! Invariant: the volume says its new size before its claim does.

use corten_api::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use corten_client::{Informer, Key, Next, Writes, reference};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::context::{Context, Error};
use crate::local_path;
use crate::persistent_volumes::facts::{
    PROVISIONED_BY, annotation, capacity, claim_of, granted, phase_of_claim, requested, volume_of,
};

pub(crate) async fn run(cx: Context) {
    let (claims, volumes) = (cx.informers.of::<PersistentVolumeClaim>(), cx.informers.of::<PersistentVolume>());
    let queue = cx.queue.clone();
    claims.on_change(move |_, new| {
        new.filter(|claim| wants_more(claim)).into_iter().for_each(|claim| queue.add(Key::of(claim)));
    });
    let (queue, known) = (cx.queue.clone(), claims.clone());
    volumes.on_change(move |_, new| {
        let Some(named) = new.and_then(claim_of) else { return };
        let key = Key::new(named.namespace.clone().unwrap_or_default(), named.name.clone().unwrap_or_default());
        if known.by_key(&key).is_some_and(|claim| wants_more(&claim)) {
            queue.add(key);
        }
    });
    tokio::join!(claims.synced(), volumes.synced());
    cx.work(1, move |cx, key| sync(cx, claims.clone(), volumes.clone(), key)).await;
}

fn wants_more(claim: &PersistentVolumeClaim) -> bool {
    phase_of_claim(claim) == "Bound" && requested(claim) > granted(claim)
}

#[derive(Debug, Default, PartialEq)]
struct Plan {
    volume: Option<Value>,
    claim: Option<Value>,
    tell: Option<(&'static str, &'static str)>,
}

fn plan(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Plan {
    if !wants_more(claim) {
        return Plan::default();
    }
    if annotation(&volume.metadata, PROVISIONED_BY) != Some(local_path::PROVISIONER) {
        let message = "Ignoring the PVC: didn't find a plugin capable of expanding the volume; \
            waiting for an external controller to process this PVC.";
        return Plan { tell: Some(("ExternalExpanding", message)), ..Plan::default() };
    }
    // A folder has the room of its disk: nothing has to happen but that all say so.
    let resources = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    let size = resources.and_then(|resources| resources.requests.as_ref()).and_then(|amounts| amounts.get("storage"));
    let storage = json!({"storage": size});
    Plan {
        volume: (capacity(volume) < requested(claim)).then(|| json!({"spec": {"capacity": storage}})),
        claim: Some(json!({"status": {
            "capacity": storage, "allocatedResources": storage, "allocatedResourceStatuses": null,
        }})),
        tell: Some(("FileSystemResizeSuccessful", "the volume has grown to the requested size")),
    }
}

async fn sync(
    cx: Context,
    claims: Informer<PersistentVolumeClaim>,
    volumes: Informer<PersistentVolume>,
    key: Key,
) -> Result<Next, Error> {
    let Some(claim) = claims.by_key(&key) else { return Ok(Next::Wait) };
    let Some(volume) = volumes.get("", volume_of(&claim)) else { return Ok(Next::Wait) };
    let plan = plan(&claim, &volume);
    let mut writes = Writes::default();
    if let Some(mut patch) = plan.volume {
        patch["metadata"] = json!({"resourceVersion": volume.resource_version()});
        let api: Api<PersistentVolume> = Api::all(cx.client.clone());
        let written = api.patch(&volume.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?;
        writes.note(&volumes, &written);
    }
    if let Some(mut patch) = plan.claim {
        patch["metadata"] = json!({"resourceVersion": claim.resource_version()});
        let api: Api<PersistentVolumeClaim> = Api::namespaced(cx.client.clone(), &key.namespace);
        let written = api.patch_status(&key.name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        writes.note(&claims, &written);
    }
    if let Some((reason, message)) = plan.tell {
        cx.recorder.normal(&cx.config.clock, reference(&*claim), reason, message);
    }
    writes.settle().await;
    Ok(Next::Wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<K: corten_api::k8s_openapi::serde::de::DeserializeOwned>(value: Value) -> K {
        serde_json::from_value(value).expect("an object")
    }

    fn claim(phase: &str, wants: &str, has: &str) -> PersistentVolumeClaim {
        of(json!({"spec": {"resources": {"requests": {"storage": wants}}},
            "status": {"phase": phase, "capacity": {"storage": has}}}))
    }

    fn volume(by: &str) -> PersistentVolume {
        of(json!({"metadata": {"annotations": {PROVISIONED_BY: by}}, "spec": {"capacity": {"storage": "1Gi"}}}))
    }

    #[test]
    fn folders_grow_at_once_and_others_wait_for_their_makers() {
        let own = plan(&claim("Bound", "2Gi", "1Gi"), &volume(local_path::PROVISIONER));
        assert_eq!(own.volume, Some(json!({"spec": {"capacity": {"storage": "2Gi"}}})));
        assert_eq!(own.claim.expect("a status")["status"]["capacity"], json!({"storage": "2Gi"}));
        let foreign = plan(&claim("Bound", "2Gi", "1Gi"), &volume("example.com/disks"));
        assert_eq!((foreign.volume, foreign.claim), (None, None));
        assert_eq!(foreign.tell.expect("an event").0, "ExternalExpanding");
        for claim in [claim("Bound", "1Gi", "1Gi"), claim("Bound", "1Gi", "2Gi"), claim("Pending", "2Gi", "1Gi")] {
            assert_eq!(plan(&claim, &volume(local_path::PROVISIONER)), Plan::default());
        }
    }
}
