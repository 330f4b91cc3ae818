//! Keeps pods with names and volumes of their own for every StatefulSet: made, deleted and updated in order.
//!
//! Spec: <https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/>
//! Behaviour: pkg/controller/statefulset of Kubernetes v1.36. Unlike there, a pod that never came up is replaced when the
//! template that it was made of is given up, so that undoing a broken rollout needs nobody's help.
//! Invariant: never deletes a claim; only says who a claim goes with, where the set's policy wants that.

mod identity;
mod plan;
mod retention;
mod status;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use corten_api::api::apps::v1::{ControllerRevision, StatefulSet};
use corten_api::api::core::v1::{PersistentVolumeClaim, Pod};
use corten_api::selector::Labels;
use corten_client::{Informer, Key, Next, Writes, reference};
use futures::future::join_all;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource, ResourceExt};
use serde_json::Value;
use tokio::time::Instant;

use crate::claims::{self, Claims};
use crate::context::{Context, Error, namespace_ends, or_gone, or_there};
use crate::history::{self, History};
use crate::owners;
use crate::pods::has_ended;
use crate::retries::Retries;
use crate::statuses;
use plan::{Plan, Revision, View, Why, plan};

/// The label in which revisions carry their hash.
const HASH: &str = "controller.kubernetes.io/hash";

struct Caches {
    sets: Informer<StatefulSet>,
    pods: Informer<Pod>,
    claims: Informer<PersistentVolumeClaim>,
    revisions: Informer<ControllerRevision>,
    retries: Retries,
}

pub(crate) async fn run(cx: Context) {
    let caches = Arc::new(Caches {
        sets: cx.informers.of(),
        pods: cx.informers.of(),
        claims: cx.informers.of(),
        revisions: cx.informers.of(),
        retries: Retries::default(),
    });
    let queue = cx.queue.clone();
    caches.sets.on_change(move |old, new| new.or(old).into_iter().for_each(|set| queue.add(Key::of(set))));
    let (queue, known) = (cx.queue.clone(), caches.sets.clone());
    caches.pods.on_change(move |old, new| {
        for pod in [old, new].into_iter().flatten() {
            let namespace = pod.namespace().unwrap_or_default();
            let owner = owners::controller(&pod.metadata);
            if let Some(owner) = owner.filter(|owner| owner.kind == "StatefulSet") {
                queue.add(Key::new(namespace, &*owner.name));
            } else if owner.is_none() || new.is_none() {
                // An orphan may be adopted; and one that is gone leaves its name to the set.
                let name = pod.name_any();
                let set = identity::split(&name).and_then(|(set, _)| known.get(&namespace, set));
                set.into_iter().for_each(|set| queue.add(Key::of(&*set)));
            }
        }
    });
    let (queue, known) = (cx.queue.clone(), caches.sets.clone());
    caches.claims.on_change(move |old, new| {
        // Pods may have waited for this claim to be gone.
        if let (Some(claim), None) = (old, new) {
            let (namespace, name) = (claim.namespace().unwrap_or_default(), claim.name_any());
            let sets = known.list_in(&namespace);
            let own = sets.iter().filter(|set| identity::is_claim_name(set, &name));
            own.for_each(|set| queue.add(Key::of(&**set)));
        }
    });
    let Caches { sets, pods, claims, revisions, .. } = &*caches;
    tokio::join!(sets.synced(), pods.synced(), claims.synced(), revisions.synced());
    cx.work(8, move |cx, key| sync(cx, Arc::clone(&caches), key)).await;
}

async fn sync(cx: Context, caches: Arc<Caches>, key: Key) -> Result<Next, Error> {
    let Some(set) = caches.sets.by_key(&key) else { return Ok(Next::Wait) };
    let mut writes = Writes::default();
    let result = bring(&cx, &set, &caches, &mut writes).await;
    writes.settle().await;
    Ok(result?.map_or(Next::Wait, Next::After))
}

/// Brings the set one step nearer to what it should be.
async fn bring(
    cx: &Context,
    set: &StatefulSet,
    caches: &Caches,
    writes: &mut Writes,
) -> Result<Option<Duration>, Error> {
    let Some(spec) = &set.spec else { return Ok(None) };
    let Ok(selector) = Labels::from_selector(&spec.selector) else { return Ok(None) };
    let namespace = set.namespace().unwrap_or_default();
    let all = caches.pods.list_in(&namespace);
    let has_name = |pod: &Pod| identity::ordinal(set, &pod.name_any()).is_some();
    let own = Claims::fitting(&set.metadata, &selector, &all, has_name);
    claims::settle(cx, set, &own, &[], &caches.pods, writes).await?;
    let mut known = Claims::of(&set.metadata, &selector, &caches.revisions.list_in(&namespace));
    known.release.clear();
    claims::settle(cx, set, &known, &[], &caches.revisions, writes).await?;
    let revisions = history::sorted(known.own);

    let before = set.status.clone().unwrap_or_default();
    let history = History { cx, owner: set, label: HASH, cache: &caches.revisions };
    let mut collisions = before.collision_count;
    let update = match set.metadata.deletion_timestamp {
        // It makes nothing any more, revisions neither.
        Some(_) => match revisions.last() {
            Some(revision) => Arc::clone(revision),
            None => return Ok(None),
        },
        None => history.record(&revisions, &spec.template, &mut collisions, writes).await?,
    };
    let current = revisions.iter().find(|own| Some(own.name_any()) == before.current_revision).unwrap_or(&update);
    let revision = |of: &ControllerRevision| -> Result<Revision, Error> {
        let template = history::template_of(of);
        let template = template.ok_or_else(|| Error::from(format!("revision {} keeps no template", of.name_any())))?;
        Ok(Revision { name: of.name_any(), template })
    };
    let pods: BTreeMap<i32, Arc<Pod>> =
        own.own.iter().filter_map(|pod| Some((identity::ordinal(set, &pod.name_any())?, Arc::clone(pod)))).collect();
    let view = View {
        set,
        spec,
        held: held(set, &pods, &caches.retries),
        pods,
        claims: claims_of(set, &caches.claims),
        current: revision(current)?,
        update: revision(&update)?,
        collisions: collisions.unwrap_or(0),
    };
    let plan = plan(&view, cx.config.clock.now());
    let (again, status) = (plan.again, plan.status.clone());
    let result = carry_out(cx, set, plan, caches, writes).await;
    let written = statuses::write(cx, set, &before, &status, &caches.sets, writes).await;
    result.and(written)?;
    if set.metadata.deletion_timestamp.is_none() {
        let mut live = history::named_by(view.pods.values().map(|pod| &pod.metadata));
        live.extend([&*view.current.name, &*view.update.name]);
        live.extend(status.current_revision.as_deref());
        let lives = |revision: &ControllerRevision| live.contains(&*revision.name_any());
        history.drop(history::surplus(&revisions, spec.revision_history_limit, lives)).await?;
    }
    Ok(again)
}

/// How long failed pods are yet to be left alone.
fn held(set: &StatefulSet, pods: &BTreeMap<i32, Arc<Pod>>, retries: &Retries) -> BTreeMap<String, Duration> {
    let set = set.uid().unwrap_or_default();
    let failed = pods.iter().filter(|(_, pod)| has_ended(pod) && pod.metadata.deletion_timestamp.is_none());
    failed
        .filter_map(|(ordinal, pod)| {
            let uid = pod.uid()?;
            let left = retries.left(&format!("{set}/{ordinal}"), &uid, Instant::now());
            Some((uid, left))
        })
        .collect()
}

/// The claims that could be the set's.
fn claims_of(
    set: &StatefulSet,
    claims: &Informer<PersistentVolumeClaim>,
) -> BTreeMap<String, Arc<PersistentVolumeClaim>> {
    let templates = set.spec.as_ref().and_then(|spec| spec.volume_claim_templates.as_ref());
    if templates.is_none_or(Vec::is_empty) {
        return BTreeMap::new();
    }
    let all = claims.list_in(&set.namespace().unwrap_or_default()).into_iter();
    all.map(|claim| (claim.name_any(), claim)).filter(|(name, _)| identity::is_claim_name(set, name)).collect()
}

async fn carry_out(
    cx: &Context,
    set: &StatefulSet,
    plan: Plan,
    caches: &Caches,
    writes: &mut Writes,
) -> Result<(), Error> {
    patch_all(cx, set, plan.own, &caches.claims, writes).await?;
    patch_all(cx, set, plan.label, &caches.pods, writes).await?;
    let (without, failure) = make_claims(cx, set, plan.claims, &caches.claims, writes).await;
    let pods = plan.create.into_iter().filter(|pod| !without.contains(&pod.name_any())).collect();
    let made = make_pods(cx, set, pods, &caches.pods, writes).await;
    let deleted = delete_pods(cx, set, plan.delete, &caches.pods, writes).await;
    failure.map_or(Ok(()), Err).and(made).and(deleted)
}

/// Strategic patches of objects that may be gone by now.
async fn patch_all<K>(
    cx: &Context,
    set: &StatefulSet,
    patches: Vec<(String, Value)>,
    cache: &Informer<K>,
    writes: &mut Writes,
) -> Result<(), Error>
where
    K: corten_client::Kind + Resource<Scope = NamespaceResourceScope>,
{
    let api: Api<K> = Api::namespaced(cx.client.clone(), &set.namespace().unwrap_or_default());
    for (name, patch) in patches {
        let patched = api.patch(&name, &PatchParams::default(), &Patch::Strategic(patch)).await;
        or_gone(patched)?.iter().for_each(|object| writes.note(cache, object));
    }
    Ok(())
}

/// Makes claims. Returns the pods that lack one, and why.
async fn make_claims(
    cx: &Context,
    set: &StatefulSet,
    claims: Vec<(String, PersistentVolumeClaim)>,
    cache: &Informer<PersistentVolumeClaim>,
    writes: &mut Writes,
) -> (BTreeSet<String>, Option<Error>) {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(cx.client.clone(), &set.namespace().unwrap_or_default());
    let (clock, name) = (&cx.config.clock, set.name_any());
    let (mut without, mut failure) = (BTreeSet::new(), None);
    for (pod, claim) in claims {
        match or_there(api.create(&PostParams::default(), &claim).await) {
            Ok(None) => {}
            Ok(Some(made)) => {
                writes.note(cache, &made);
                let message = format!("create Claim {} Pod {pod} in StatefulSet {name} success", made.name_any());
                cx.recorder.normal(clock, reference(set), "SuccessfulCreate", message);
            }
            Err(error) if namespace_ends(&error) => drop(without.insert(pod)),
            Err(error) => {
                let (error, claim) = (Error::from(error), claim.name_any());
                let message = format!("create Claim {claim} for Pod {pod} in StatefulSet {name} failed error: {error}");
                cx.recorder.warning(clock, reference(set), "FailedCreate", message);
                without.insert(pod);
                failure = Some(error);
            }
        }
    }
    (without, failure)
}

/// Makes pods: one, then twice as many each time, until one cannot be made.
async fn make_pods(
    cx: &Context,
    set: &StatefulSet,
    pods: Vec<Pod>,
    cache: &Informer<Pod>,
    writes: &mut Writes,
) -> Result<(), Error> {
    let api: Api<Pod> = Api::namespaced(cx.client.clone(), &set.namespace().unwrap_or_default());
    let (clock, params, name) = (&cx.config.clock, PostParams::default(), set.name_any());
    let (mut left, mut size) = (&*pods, 1);
    while !left.is_empty() {
        let (batch, rest) = left.split_at(size.min(left.len()));
        let mut failure = None;
        for (pod, result) in batch.iter().zip(join_all(batch.iter().map(|pod| api.create(&params, pod))).await) {
            match result {
                Ok(pod) => {
                    writes.note(cache, &pod);
                    let message = format!("create Pod {} in StatefulSet {name} successful", pod.name_any());
                    cx.recorder.normal(clock, reference(set), "SuccessfulCreate", message);
                }
                Err(error) if namespace_ends(&error) => return Ok(()),
                Err(error) => {
                    let (error, pod) = (Error::from(error), pod.name_any());
                    let message = format!("create Pod {pod} in StatefulSet {name} failed error: {error}");
                    cx.recorder.warning(clock, reference(set), "FailedCreate", message);
                    failure = Some(error);
                }
            }
        }
        if let Some(error) = failure {
            return Err(error);
        }
        (left, size) = (rest, size * 2);
    }
    Ok(())
}

async fn delete_pods(
    cx: &Context,
    set: &StatefulSet,
    pods: Vec<(Arc<Pod>, Why)>,
    cache: &Informer<Pod>,
    writes: &mut Writes,
) -> Result<(), Error> {
    let namespace = set.namespace().unwrap_or_default();
    let api: Api<Pod> = Api::namespaced(cx.client.clone(), &namespace);
    let (clock, set_name) = (&cx.config.clock, set.name_any());
    for (pod, why) in pods {
        let name = pod.name_any();
        let subject = format!("StatefulSet {namespace}/{set_name} is recreating");
        match why {
            Why::Failed => {
                let message = format!("{subject} failed Pod {name}");
                cx.recorder.warning(clock, reference(set), "RecreatingFailedPod", message);
            }
            Why::Ended => {
                let message = format!("{subject} terminated Pod {name}");
                cx.recorder.normal(clock, reference(set), "RecreatingTerminatedPod", message);
            }
            Why::Scaled | Why::Outdated => {}
        }
        let preconditions = Preconditions { uid: pod.uid(), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match or_gone(api.delete(&name, &params).await) {
            Ok(None) => {}
            Ok(Some(either)) => {
                either.map_left(|pod| writes.note(cache, &pod));
                let message = format!("delete Pod {name} in StatefulSet {set_name} successful");
                cx.recorder.normal(clock, reference(set), "SuccessfulDelete", message);
            }
            Err(error) => {
                let error = Error::from(error);
                let message = format!("delete Pod {name} in StatefulSet {set_name} failed error: {error}");
                cx.recorder.warning(clock, reference(set), "FailedDelete", message);
                return Err(error);
            }
        }
    }
    Ok(())
}
