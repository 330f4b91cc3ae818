//! Deletes what nobody owns any more.
//!
//! A graph of all objects by UID, kept from the metadata of every kind that discovery names. An object all of whose owners
//! are gone is deleted; foreground deletion waits for dependents, orphaning lets them go.
//!
//! Spec: <https://kubernetes.io/docs/concepts/architecture/garbage-collection/>
//! Invariant: an owner is gone only if the API says so now, not if the graph lacks it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use corten_api::meta::{ObjectMeta, OwnerReference};
use corten_client::{Key, Next};
use futures::StreamExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind, PartialObjectMeta};
use kube::discovery::Scope;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use serde_json::json;

use crate::context::{Context, Error, or_gone};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";
/// Owners that are remembered to be gone.
const MOST_GONE: usize = 500;
/// When to look again at an object that has just changed.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Objects that are collected at a time, as upstream.
const WORKERS: usize = 20;

/// A kind of objects that are collected.
#[derive(Debug)]
struct Kind {
    resource: ApiResource,
    namespaced: bool,
}

/// Kinds by group, version and name, each under the version in which it is watched and all others.
type Kinds = Arc<HashMap<GroupVersionKind, Arc<Kind>>>;

/// An object as the graph knows it.
#[derive(Clone, Debug)]
struct Node {
    kind: Arc<Kind>,
    namespace: String,
    name: String,
    owners: Vec<OwnerReference>,
    finalizers: Vec<String>,
    deleting: bool,
}

impl Node {
    fn waits_for_dependents(&self) -> bool {
        self.deleting && self.finalizers.iter().any(|own| own == FOREGROUND)
    }
}

/// An owner that was asked for in vain: namespace (empty for none) and reference. A reference may be wrong in all but the
/// UID of an owner that is there.
type Absent = (String, OwnerReference);

#[derive(Debug, Default)]
struct Graph {
    nodes: HashMap<String, Node>,
    /// UIDs of the objects that name this UID as owner.
    dependents: HashMap<String, HashSet<String>>,
    /// The last owners that the API said are gone: a UID never comes back.
    gone: VecDeque<Absent>,
}

impl Graph {
    fn set(&mut self, uid: String, node: Node) {
        self.unlink(&uid);
        for owner in &node.owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(uid.clone());
        }
        self.nodes.insert(uid, node);
    }

    fn remove(&mut self, uid: &str) {
        self.unlink(uid);
        self.nodes.remove(uid);
    }

    fn unlink(&mut self, uid: &str) {
        for owner in self.nodes.get(uid).map(|node| node.owners.clone()).unwrap_or_default() {
            if let Some(dependents) = self.dependents.get_mut(&owner.uid) {
                dependents.remove(uid);
                if dependents.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
        }
    }

    /// Remembers an owner that is gone; all its dependents ask for it next.
    fn remember_gone(&mut self, absent: Absent) {
        if self.gone.len() == MOST_GONE {
            self.gone.pop_front();
        }
        self.gone.push_back(absent);
    }

    fn dependents_of(&self, uid: &str) -> Vec<(String, Node)> {
        let uids = self.dependents.get(uid).into_iter().flatten();
        uids.filter_map(|uid| Some((uid.clone(), self.nodes.get(uid)?.clone()))).collect()
    }
}

type Shared = Arc<Mutex<Graph>>;

pub(crate) async fn run(cx: Context) {
    let graph = Shared::default();
    let (watched, kinds) = loop {
        match discover(&cx).await {
            Ok(found) => break found,
            Err(error) => {
                tracing::warn!(%error, "cannot tell what there is to collect; asking again");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    };
    let mut watches = tokio::task::JoinSet::new();
    for kind in watched {
        watches.spawn(watch(cx.clone(), Arc::clone(&graph), kind));
    }
    cx.work(WORKERS, move |cx, key| collect(cx, Arc::clone(&graph), Arc::clone(&kinds), key.name)).await;
}

/// Every kind that can be watched and deleted, once; and all names under which owners may be spoken of. Events own
/// nothing and are owned by nobody, and there are many.
async fn discover(cx: &Context) -> Result<(Vec<Arc<Kind>>, Kinds), Error> {
    let discovery = kube::Discovery::new(cx.client.clone()).run().await?;
    let (mut watched, mut kinds) = (Vec::new(), HashMap::new());
    for group in discovery.groups() {
        let recommended: Vec<ApiResource> = group.recommended_resources().into_iter().map(|(own, _)| own).collect();
        for version in group.versions() {
            for (resource, capabilities) in group.versioned_resources(version) {
                let supports = |verb: &str| capabilities.operations.iter().any(|own| own == verb);
                let name = GroupVersionKind::gvk(&resource.group, &resource.version, &resource.kind);
                let watches = supports("watch") && supports("delete") && resource.kind != "Event";
                let watches = watches && recommended.contains(&resource);
                let kind = Arc::new(Kind { namespaced: capabilities.scope == Scope::Namespaced, resource });
                if watches {
                    watched.push(Arc::clone(&kind));
                }
                if supports("get") {
                    kinds.insert(name, kind);
                }
            }
        }
    }
    Ok((watched, Arc::new(kinds)))
}

async fn watch(cx: Context, graph: Shared, kind: Arc<Kind>) {
    let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(cx.client.clone(), &kind.resource);
    let mut events = Box::pin(watcher::watcher(api, watcher::Config::default()).default_backoff());
    let mut listed: HashSet<String> = HashSet::new();
    loop {
        let event = tokio::select! {
            () = cx.cancel.cancelled() => return,
            event = events.next() => event,
        };
        match event {
            None => return,
            Some(Err(error)) => {
                tracing::debug!(kind = kind.resource.kind, %error, "a watch of the garbage collector broke");
            }
            Some(Ok(Event::Init)) => listed.clear(),
            Some(Ok(Event::InitApply(object))) => {
                listed.extend(object.metadata.uid.clone());
                seen(&cx, &graph, &kind, &object.metadata);
            }
            Some(Ok(Event::InitDone)) => {
                let stale: Vec<String> = {
                    let graph = graph.lock().unwrap_or_else(PoisonError::into_inner);
                    let of_kind = graph.nodes.iter().filter(|(_, node)| Arc::ptr_eq(&node.kind, &kind));
                    of_kind.map(|(uid, _)| uid.clone()).filter(|uid| !listed.contains(uid)).collect()
                };
                stale.iter().for_each(|uid| gone(&cx, &graph, uid));
            }
            Some(Ok(Event::Apply(object))) => seen(&cx, &graph, &kind, &object.metadata),
            Some(Ok(Event::Delete(object))) => gone(&cx, &graph, &object.metadata.uid.unwrap_or_default()),
        }
    }
}

fn seen(cx: &Context, graph: &Shared, kind: &Arc<Kind>, meta: &ObjectMeta) {
    let Some(uid) = meta.uid.clone() else { return };
    let node = Node {
        kind: Arc::clone(kind),
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
        owners: meta.owner_references.clone().unwrap_or_default(),
        finalizers: meta.finalizers.clone().unwrap_or_default(),
        deleting: meta.deletion_timestamp.is_some(),
    };
    let work = !node.owners.is_empty() || node.deleting;
    let mut graph = graph.lock().unwrap_or_else(PoisonError::into_inner);
    // Owners that were let go may wait for nothing else.
    let before = graph.nodes.get(&uid).map(|node| node.owners.clone()).unwrap_or_default();
    let released = before.into_iter().filter(|owner| !node.owners.contains(owner)).map(|owner| owner.uid);
    let released: Vec<String> = released.collect();
    graph.set(uid.clone(), node);
    drop(graph);
    released.into_iter().chain(work.then_some(uid)).for_each(|uid| cx.queue.add(Key::new("", uid)));
}

fn gone(cx: &Context, graph: &Shared, uid: &str) {
    let mut graph = graph.lock().unwrap_or_else(PoisonError::into_inner);
    let owners: Vec<String> = graph
        .nodes
        .get(uid)
        .map(|node| node.owners.iter().map(|owner| owner.uid.clone()).collect())
        .unwrap_or_default();
    graph.remove(uid);
    let dependents = graph.dependents.get(uid).cloned().unwrap_or_default();
    drop(graph);
    // Dependents may go now; owners that wait for their dependents may too.
    dependents.into_iter().chain(owners).for_each(|uid| cx.queue.add(Key::new("", uid)));
}

fn api(cx: &Context, kind: &Kind, namespace: &str) -> Api<DynamicObject> {
    if kind.namespaced {
        Api::namespaced_with(cx.client.clone(), namespace, &kind.resource)
    } else {
        Api::all_with(cx.client.clone(), &kind.resource)
    }
}

fn api_of(cx: &Context, node: &Node) -> Api<DynamicObject> {
    api(cx, &node.kind, &node.namespace)
}

async fn collect(cx: Context, graph: Shared, kinds: Kinds, uid: String) -> Result<Next, Error> {
    let look = |uid: &str| {
        let graph = graph.lock().unwrap_or_else(PoisonError::into_inner);
        (graph.nodes.get(uid).cloned(), graph.dependents_of(uid))
    };
    let (Some(node), dependents) = look(&uid) else { return Ok(Next::Wait) };
    if node.deleting {
        return finish(&cx, &uid, &node, dependents).await;
    }
    let (mut solid, mut waiting, mut dangling) = (0, Vec::new(), Vec::new());
    for owner in &node.owners {
        // An owner is in the namespace of its dependents, or in none.
        let known = look(&owner.uid).0.filter(|known| !known.kind.namespaced || known.namespace == node.namespace);
        match known {
            Some(known) if known.waits_for_dependents() => waiting.push(owner.uid.clone()),
            Some(_) => solid += 1,
            None if exists(&cx, &graph, &kinds, &node, owner).await? => solid += 1,
            None => dangling.push(owner.uid.clone()),
        }
    }
    if node.owners.is_empty() || (dangling.is_empty() && waiting.is_empty()) {
        return Ok(Next::Wait);
    }
    // The graph hears of each kind by a watch of its own: an owner may seem gone before its dependents seem released.
    let live = api_of(&cx, &node).get_metadata_opt(&node.name).await?.map(|live| live.metadata);
    let Some(live) = live.filter(|live| live.uid.as_ref() == Some(&uid)) else { return Ok(Next::Wait) };
    if live.owner_references.unwrap_or_default() != node.owners {
        // The change that tells is on its way.
        return Ok(Next::Wait);
    }
    let version = live.resource_version;
    let rewritten = async |owners: &[OwnerReference]| {
        let meta = json!({"uid": uid, "resourceVersion": version, "ownerReferences": owners});
        let patch = Patch::Merge(json!({"metadata": meta}));
        again(api_of(&cx, &node).patch(&node.name, &PatchParams::default(), &patch).await)
    };
    if solid > 0 {
        // One that waits would wait for ever for an object that another owner keeps.
        let is_kept = |owner: &&OwnerReference| !dangling.contains(&owner.uid) && !waiting.contains(&owner.uid);
        let kept = node.owners.iter().filter(is_kept).cloned();
        return rewritten(&kept.collect::<Vec<_>>()).await;
    }
    if !waiting.is_empty() && dependents.iter().any(|(_, dependent)| dependent.waits_for_dependents()) {
        let freed: Vec<OwnerReference> = node.owners.iter().cloned().map(unblocking).collect();
        if freed != node.owners {
            // They wait for each other in a circle: this one no longer holds up its owners. It goes at the next look.
            return rewritten(&freed).await;
        }
    }
    // An owner that waits for its dependents wants them, and theirs, gone before it.
    let params = if !waiting.is_empty() && !dependents.is_empty() {
        DeleteParams::foreground()
    } else {
        DeleteParams::background()
    };
    let preconditions = Some(Preconditions { uid: Some(uid.clone()), resource_version: version.clone() });
    again(api_of(&cx, &node).delete(&node.name, &DeleteParams { preconditions, ..params }).await)
}

/// What follows a write that holds only for the object that was looked at.
fn again<T>(result: Result<T, kube::Error>) -> Result<Next, Error> {
    match or_gone(result) {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(Next::After(LOOK_AGAIN)),
        result => Ok(result.map(|_| Next::Wait)?),
    }
}

/// A reference to an owner that need not wait.
fn unblocking(owner: OwnerReference) -> OwnerReference {
    OwnerReference { block_owner_deletion: Some(false), ..owner }
}

/// Whether an owner is there, asked of the API itself.
async fn exists(
    cx: &Context,
    graph: &Shared,
    kinds: &Kinds,
    dependent: &Node,
    owner: &OwnerReference,
) -> Result<bool, Error> {
    let (group, version) = owner.api_version.split_once('/').unwrap_or(("", &owner.api_version));
    let Some(kind) = kinds.get(&GroupVersionKind::gvk(group, version, &owner.kind)) else {
        // A kind that is not served is not known to be gone.
        return Ok(true);
    };
    if kind.namespaced && !dependent.kind.namespaced {
        // In no namespace, or in any: nobody can tell which object was meant, so nothing is deleted for it.
        return Ok(true);
    }
    let namespace = if kind.namespaced { dependent.namespace.clone() } else { String::new() };
    // Whether it is the controller says nothing about whether it is there.
    let asked = OwnerReference { controller: None, block_owner_deletion: None, ..owner.clone() };
    let absent = (namespace, asked);
    if graph.lock().unwrap_or_else(PoisonError::into_inner).gone.contains(&absent) {
        return Ok(false);
    }
    let found = api(cx, kind, &dependent.namespace).get_metadata_opt(&owner.name).await?;
    let there = found.is_some_and(|found| found.metadata.uid.as_ref() == Some(&owner.uid));
    if !there {
        graph.lock().unwrap_or_else(PoisonError::into_inner).remember_gone(absent);
    }
    Ok(there)
}

/// Does what the finalizers of a deleted object wait for.
async fn finish(cx: &Context, uid: &str, node: &Node, dependents: Vec<(String, Node)>) -> Result<Next, Error> {
    let has = |name: &str| node.finalizers.iter().any(|own| own == name);
    if has(ORPHAN) {
        for (dependent_uid, dependent) in dependents {
            let api = api_of(cx, &dependent);
            let live = api.get_metadata_opt(&dependent.name).await?.map(|live| live.metadata);
            let Some(live) = live.filter(|live| live.uid.as_ref() == Some(&dependent_uid)) else { continue };
            let mut kept = live.owner_references.unwrap_or_default();
            kept.retain(|owner| owner.uid != uid);
            let meta = json!({"uid": dependent_uid, "resourceVersion": live.resource_version, "ownerReferences": kept});
            let patch = Patch::Merge(json!({"metadata": meta}));
            let next = again(api.patch(&dependent.name, &PatchParams::default(), &patch).await)?;
            if next != Next::Wait {
                return Ok(next);
            }
        }
        return drop_finalizer(cx, uid, node, ORPHAN).await;
    }
    if has(FOREGROUND) {
        let blocking = |dependent: &Node| {
            dependent.owners.iter().any(|owner| owner.uid == uid && owner.block_owner_deletion == Some(true))
        };
        if !dependents.iter().any(|(_, dependent)| blocking(dependent)) {
            return drop_finalizer(cx, uid, node, FOREGROUND).await;
        }
        for (dependent_uid, dependent) in dependents {
            if !dependent.deleting {
                cx.queue.add(Key::new("", dependent_uid));
            }
        }
    }
    Ok(Next::Wait)
}

async fn drop_finalizer(cx: &Context, uid: &str, node: &Node, name: &str) -> Result<Next, Error> {
    let kept: Vec<&String> = node.finalizers.iter().filter(|own| *own != name).collect();
    let patch = Patch::Merge(json!({"metadata": {"uid": uid, "finalizers": kept}}));
    or_gone(api_of(cx, node).patch(&node.name, &PatchParams::default(), &patch).await)?;
    Ok(Next::Wait)
}
