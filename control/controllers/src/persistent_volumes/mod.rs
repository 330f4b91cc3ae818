//! Brings claims and volumes together, and says what becomes of volumes whose claims are gone.
//!
//! Spec: <https://kubernetes.io/docs/concepts/storage/persistent-volumes/>
//! Invariant: a claim that is bound never gets another volume, and a volume never shows its data to another claim.
//!
//! One worker looks at claims and volumes, so that no two claims are given the same volume. Keys with a namespace are
//! claims, those without are volumes.

pub(crate) mod facts;
mod matching;
mod plan;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use corten_api::api::core::v1::{Node, ObjectReference, PersistentVolume, PersistentVolumeClaim, Pod};
use corten_api::api::storage::v1::StorageClass;
use corten_client::{Informer, Key, Next, Queue, Writes, reference};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::Value;

use crate::context::{Context, Error};
use crate::pods::{claims_of, is_active};
use facts::{BIND_COMPLETED, SELECTED_NODE, annotation, claim_of, class_of_claim, phase_of_volume, uid_of, volume_of};
use matching::Place;
use plan::{Step, Surroundings};

pub(crate) async fn run(cx: Context) {
    let binder = Binder {
        claims: cx.informers.of(),
        volumes: cx.informers.of(),
        classes: cx.informers.of(),
        nodes: cx.informers.of(),
        users: Arc::default(),
        told: Arc::default(),
    };
    let pods = cx.informers.of::<Pod>();
    binder.follow(&cx.queue, &pods);
    tokio::join!(
        binder.claims.synced(),
        binder.volumes.synced(),
        binder.classes.synced(),
        binder.nodes.synced(),
        pods.synced()
    );
    cx.work(1, move |cx, key| {
        let binder = binder.clone();
        async move { binder.sync(&cx, &key).await }
    })
    .await;
}

#[derive(Clone)]
struct Binder {
    claims: Informer<PersistentVolumeClaim>,
    volumes: Informer<PersistentVolume>,
    classes: Informer<StorageClass>,
    nodes: Informer<Node>,
    /// Who uses which claim.
    users: Arc<Mutex<Users>>,
    /// What people were told last, so that they are told once.
    told: Arc<Mutex<HashMap<Key, String>>>,
}

/// By claim: the pods that use it, and their nodes.
#[derive(Debug, Default)]
struct Users(HashMap<Key, BTreeMap<String, Option<String>>>);

impl Users {
    /// Notes a change of a pod; answers which claims it is about.
    fn note(&mut self, old: Option<&Pod>, new: Option<&Pod>) -> BTreeSet<Key> {
        let key = |pod: &Pod, claim: String| Key::new(pod.namespace().unwrap_or_default(), claim);
        let mut about = BTreeSet::new();
        if let Some(pod) = old {
            for claim in claims_of(pod) {
                let claim = key(pod, claim);
                if let Some(pods) = self.0.get_mut(&claim) {
                    pods.remove(&pod.name_any());
                    if pods.is_empty() {
                        self.0.remove(&claim);
                    }
                }
                about.insert(claim);
            }
        }
        if let Some(pod) = new.filter(|pod| is_active(pod)) {
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).filter(|node| !node.is_empty());
            for claim in claims_of(pod) {
                let claim = key(pod, claim);
                self.0.entry(claim.clone()).or_default().insert(pod.name_any(), node.clone());
                about.insert(claim);
            }
        }
        about
    }

    /// The pods that wait for a node, and the node of one that does not.
    fn of(&self, claim: &Key) -> (BTreeSet<String>, Option<String>) {
        let pods = || self.0.get(claim).into_iter().flatten();
        let waiting = pods().filter(|(_, node)| node.is_none()).map(|(pod, _)| pod.clone()).collect();
        (waiting, pods().find_map(|(_, node)| node.clone()))
    }
}

fn is_unbound(claim: &PersistentVolumeClaim) -> bool {
    annotation(&claim.metadata, BIND_COMPLETED).is_none()
}

fn key_of(reference: &ObjectReference) -> Key {
    Key::new(reference.namespace.clone().unwrap_or_default(), reference.name.clone().unwrap_or_default())
}

impl Binder {
    /// What must be looked at when something changes.
    fn follow(&self, queue: &Queue, pods: &Informer<Pod>) {
        let (own, volumes) = (queue.clone(), self.volumes.clone());
        self.claims.on_change(move |old, new| {
            let Some(claim) = new.or(old) else { return };
            own.add(Key::of(claim));
            if !volume_of(claim).is_empty() {
                own.add(Key::new("", volume_of(claim)));
            } else if new.is_none() {
                // Volumes may have been bound to it of which it knew nothing yet.
                let bound = |volume: &&Arc<PersistentVolume>| {
                    claim_of(volume).is_some_and(|reference| reference.uid == claim.metadata.uid)
                };
                volumes.list().iter().filter(bound).for_each(|volume| own.add(Key::of(&**volume)));
            }
        });
        let (own, claims) = (queue.clone(), self.claims.clone());
        self.volumes.on_change(move |old, new| {
            let Some(volume) = new.or(old) else { return };
            own.add(Key::of(volume));
            for reference in [old, new].into_iter().flatten().filter_map(claim_of) {
                own.add(key_of(reference));
            }
            if new.is_some_and(|volume| claim_of(volume).is_none() && phase_of_volume(volume) == "Available") {
                // It is free for anybody.
                claims.list().iter().filter(|claim| is_unbound(claim)).for_each(|claim| own.add(Key::of(&**claim)));
            }
        });
        let (own, claims) = (queue.clone(), self.claims.clone());
        self.classes.on_change(move |old, new| {
            let name = new.or(old).map(ResourceExt::name_any).unwrap_or_default();
            let concerned = |claim: &&Arc<PersistentVolumeClaim>| {
                is_unbound(claim) && (class_of_claim(claim) == name || class_of_claim(claim).is_empty())
            };
            claims.list().iter().filter(concerned).for_each(|claim| own.add(Key::of(&**claim)));
        });
        let (own, claims, users) = (queue.clone(), self.claims.clone(), Arc::clone(&self.users));
        pods.on_change(move |old, new| {
            let about = users.lock().unwrap_or_else(PoisonError::into_inner).note(old, new);
            let unbound = |key: &Key| claims.by_key(key).is_some_and(|claim| is_unbound(&claim));
            about.into_iter().filter(unbound).for_each(|claim| own.add(claim));
        });
    }

    async fn sync(&self, cx: &Context, key: &Key) -> Result<Next, Error> {
        let mut writes = Writes::default();
        let result = if key.namespace.is_empty() {
            self.sync_volume(cx, key, &mut writes).await
        } else {
            self.sync_claim(cx, key, &mut writes).await
        };
        // Also after a failure: what was written must be seen before the next look.
        writes.settle().await;
        result?;
        Ok(Next::Wait)
    }

    async fn sync_claim(&self, cx: &Context, key: &Key, writes: &mut Writes) -> Result<(), Error> {
        let Some(claim) = self.claims.by_key(key) else {
            self.told().remove(key);
            return Ok(());
        };
        let wanted = volume_of(&claim);
        let volumes =
            if wanted.is_empty() { self.volumes.list() } else { self.volume(cx, wanted).await?.into_iter().collect() };
        let selected = annotation(&claim.metadata, SELECTED_NODE);
        let node = selected.and_then(|node| self.nodes.get("", node));
        let labels = node.and_then(|node| node.metadata.labels.clone()).unwrap_or_default();
        let (waiting, used_on) = self.users.lock().unwrap_or_else(PoisonError::into_inner).of(key);
        let steps = plan::claim(&Surroundings {
            claim: &claim,
            volumes: &volumes,
            classes: &self.classes.list(),
            place: selected.map(|name| Place { name, labels: &labels }),
            waiting: &waiting,
            used_on: used_on.as_deref(),
        });
        self.tell(cx, key, &steps, || reference(&*claim));
        let known = [("".to_owned(), &claim.metadata)].into_iter();
        let known = known.chain(volumes.iter().map(|volume| (volume.name_any(), &volume.metadata)));
        let versions = known.map(|(name, meta)| (name, meta.resource_version.clone().unwrap_or_default())).collect();
        self.carry_out(cx, Some(&claim), steps, versions, writes).await
    }

    async fn sync_volume(&self, cx: &Context, key: &Key, writes: &mut Writes) -> Result<(), Error> {
        let Some(volume) = self.volumes.by_key(key) else {
            self.told().remove(key);
            return Ok(());
        };
        let claim = match claim_of(&volume) {
            Some(reference) => self.claim(cx, reference).await?,
            None => None,
        };
        let steps = plan::volume(&volume, claim.as_deref());
        if steps.contains(&Step::Look)
            && let Some(reference) = claim_of(&volume)
        {
            cx.queue.add(key_of(reference));
        }
        self.tell(cx, key, &steps, || reference(&*volume));
        let versions = [(key.name.clone(), volume.resource_version().unwrap_or_default())].into();
        self.carry_out(cx, None, steps, versions, writes).await
    }

    /// A volume. That it is gone is believed only to the API server.
    async fn volume(&self, cx: &Context, name: &str) -> Result<Option<Arc<PersistentVolume>>, Error> {
        if let Some(volume) = self.volumes.get("", name) {
            return Ok(Some(volume));
        }
        let api: Api<PersistentVolume> = Api::all(cx.client.clone());
        Ok(api.get_opt(name).await?.map(Arc::new))
    }

    /// The claim that a volume names. That it is gone is believed only to the API server.
    async fn claim(&self, cx: &Context, named: &ObjectReference) -> Result<Option<Arc<PersistentVolumeClaim>>, Error> {
        let key = key_of(named);
        let known = self.claims.by_key(&key);
        if uid_of(named).is_none() || known.as_ref().is_some_and(|claim| claim.metadata.uid == named.uid) {
            return Ok(known);
        }
        let api: Api<PersistentVolumeClaim> = Api::namespaced(cx.client.clone(), &key.namespace);
        Ok(api.get_opt(&key.name).await?.map(Arc::new))
    }

    fn told(&self) -> MutexGuard<'_, HashMap<Key, String>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells people what they were not told before.
    fn tell(&self, cx: &Context, key: &Key, steps: &[Step], object: impl Fn() -> ObjectReference) {
        let mut known = None;
        for step in steps {
            let Step::Tell { warning, reason, message } = step else { continue };
            let object = object();
            let words = format!("{} {reason} {message}", object.uid.as_deref().unwrap_or_default());
            let said = self.told().insert(key.clone(), words.clone()).is_some_and(|before| before == words);
            known = Some(words);
            match warning {
                _ if said => {}
                true => cx.recorder.warning(&cx.config.clock, object, reason, message),
                false => cx.recorder.normal(&cx.config.clock, object, reason, message),
            }
        }
        if known.is_none() {
            self.told().remove(key);
        }
    }

    /// Writes what was planned. Each write is over the version that was looked at, or that this work itself has
    /// written; `versions` has those of the volumes by name, and that of the claim without a name.
    async fn carry_out(
        &self,
        cx: &Context,
        claim: Option<&PersistentVolumeClaim>,
        steps: Vec<Step>,
        mut versions: HashMap<String, String>,
        writes: &mut Writes,
    ) -> Result<(), Error> {
        let volumes: Api<PersistentVolume> = Api::all(cx.client.clone());
        let namespace = claim.and_then(ResourceExt::namespace).unwrap_or_default();
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(cx.client.clone(), &namespace);
        let claim = claim.map(ResourceExt::name_any).unwrap_or_default();
        let params = PatchParams::default();
        for step in steps {
            let is_status = matches!(step, Step::VolumeStatus { .. } | Step::ClaimStatus { .. });
            match step {
                Step::Volume { name, mut patch } | Step::VolumeStatus { name, mut patch } => {
                    over(&mut patch, versions.get(&name));
                    let patch = Patch::Merge(patch);
                    let written = if is_status {
                        volumes.patch_status(&name, &params, &patch).await?
                    } else {
                        volumes.patch(&name, &params, &patch).await?
                    };
                    writes.note(&self.volumes, &written);
                    versions.insert(name, written.resource_version().unwrap_or_default());
                }
                Step::Claim { mut patch } | Step::ClaimStatus { mut patch } => {
                    over(&mut patch, versions.get(""));
                    let patch = Patch::Merge(patch);
                    let written = if is_status {
                        claims.patch_status(&claim, &params, &patch).await?
                    } else {
                        claims.patch(&claim, &params, &patch).await?
                    };
                    writes.note(&self.claims, &written);
                    versions.insert(String::new(), written.resource_version().unwrap_or_default());
                }
                Step::Tell { .. } | Step::Look => {}
            }
        }
        Ok(())
    }
}

/// Makes a patch hold only for one version of its object.
fn over(patch: &mut Value, version: Option<&String>) {
    if let Some(version) = version {
        patch["metadata"]["resourceVersion"] = version.as_str().into();
    }
}
