//! The ConfigMaps, Secrets, claims and Services that the pods of this node use.
//!
//! An object is read when a pod first refers to it, then kept fresh by one watch for as long as any pod does. A watch
//! is asked for without an end and without bookmarks, so that an object that does not change costs nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use corten_api::api::core::v1::{
    ConfigMap, Container, Node, PersistentVolume, PersistentVolumeClaim, Pod, Secret, Service, Volume,
};
use corten_base::{Backoff, chain};
use corten_client::{Informer, Informers};
use futures::StreamExt;
use kube::api::WatchEvent;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Longest wait for the first look at an object.
const PATIENCE: Duration = Duration::from_secs(10);
/// Shortest life of a watch that is opened again at once when it ends.
const HEALTHY: Duration = Duration::from_secs(10);

/// All objects that pods of this node use.
pub(crate) struct Sources {
    client: Client,
    config_maps: Cache<ConfigMap>,
    secrets: Cache<Secret>,
    claims: Cache<PersistentVolumeClaim>,
    services: Informer<Service>,
    /// This node alone.
    nodes: Informer<Node>,
    node: String,
}

impl Sources {
    /// Nothing is read before a pod refers to it, but the services and the node of this name.
    pub(crate) fn new(informers: &Informers, node: &str) -> Arc<Self> {
        Arc::new(Self {
            client: informers.client().clone(),
            config_maps: Cache::default(),
            secrets: Cache::default(),
            claims: Cache::default(),
            services: informers.of(),
            nodes: informers.filtered(&format!("metadata.name={node}")),
            node: node.to_owned(),
        })
    }

    /// The client behind the objects.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// All services, once they are known.
    pub(crate) async fn services(&self) -> Vec<Arc<Service>> {
        self.services.synced().await;
        self.services.list()
    }

    /// Follows everything that a pod refers to until the answer is dropped.
    pub(crate) fn follow(&self, pod: &Pod) -> PodSources {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let names = References::of(pod);
        let config_maps = names.config_maps.into_iter().map(|name| {
            let object = self.config_maps.follow(&self.client, namespace, &name);
            (name, object)
        });
        let secrets = names.secrets.into_iter().map(|name| {
            let object = self.secrets.follow(&self.client, namespace, &name);
            (name, object)
        });
        let claims = names.claims.into_iter().map(|name| {
            let object = self.claims.follow(&self.client, namespace, &name);
            (name, object)
        });
        PodSources { config_maps: config_maps.collect(), secrets: secrets.collect(), claims: claims.collect() }
    }

    /// A volume as it is now, asked for once; `None` if there is none of that name.
    pub(crate) async fn volume(&self, name: &str) -> Result<Option<PersistentVolume>, String> {
        let api: Api<PersistentVolume> = Api::all(self.client.clone());
        api.get_opt(name).await.map_err(|error| chain(&error))
    }

    /// The name and the labels of this node.
    pub(crate) async fn node(&self) -> (String, BTreeMap<String, String>) {
        self.nodes.synced().await;
        let node = self.nodes.get("", &self.node);
        (self.node.clone(), node.and_then(|node| node.metadata.labels.clone()).unwrap_or_default())
    }

    /// A Secret as it is now, asked for once, such as for credentials; `None` if there is none of that name.
    pub(crate) async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Arc<Secret>>, String> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let found = api.get_opt(name).await.map_err(|error| chain(&error))?;
        Ok(found.map(Arc::new))
    }
}

/// What one pod uses; the objects are followed until this is dropped.
#[derive(Clone)]
pub(crate) struct PodSources {
    config_maps: BTreeMap<String, Arc<Followed<ConfigMap>>>,
    secrets: BTreeMap<String, Arc<Followed<Secret>>>,
    claims: BTreeMap<String, Arc<Followed<PersistentVolumeClaim>>>,
}

impl PodSources {
    /// A claim of the pod's as it is now; `None` if there is none of that name.
    pub(crate) async fn claim(&self, name: &str) -> Result<Option<Arc<PersistentVolumeClaim>>, String> {
        match self.claims.get(name) {
            Some(followed) => followed.current("persistentvolumeclaim").await,
            None => Ok(None),
        }
    }

    /// The objects as they are now, once all have been looked at.
    pub(crate) async fn objects(&self) -> Result<Objects, String> {
        let mut objects = Objects::default();
        for (name, followed) in &self.config_maps {
            if let Some(object) = followed.current("configmap").await? {
                objects.config_maps.insert(name.clone(), object);
            }
        }
        for (name, followed) in &self.secrets {
            if let Some(object) = followed.current("secret").await? {
                objects.secrets.insert(name.clone(), object);
            }
        }
        Ok(objects)
    }

    /// Notices changes from now on.
    pub(crate) fn changes(&self) -> Changes {
        Changes {
            config_maps: self.config_maps.values().map(|followed| followed.state.subscribe()).collect(),
            secrets: self.secrets.values().map(|followed| followed.state.subscribe()).collect(),
            claims: self.claims.values().map(|followed| followed.state.subscribe()).collect(),
        }
    }
}

/// Waits for any object of a pod to change.
pub(crate) struct Changes {
    config_maps: Vec<watch::Receiver<State<ConfigMap>>>,
    secrets: Vec<watch::Receiver<State<Secret>>>,
    claims: Vec<watch::Receiver<State<PersistentVolumeClaim>>>,
}

impl Changes {
    /// Returns when an object has changed since the last call; never if there are none.
    pub(crate) async fn next(&mut self) {
        let config_maps = any_changed(&mut self.config_maps);
        let secrets = any_changed(&mut self.secrets);
        let claims = any_changed(&mut self.claims);
        tokio::select! {
            () = config_maps => {}
            () = secrets => {}
            () = claims => {}
        }
    }
}

async fn any_changed<K>(receivers: &mut [watch::Receiver<State<K>>]) {
    if receivers.is_empty() {
        return std::future::pending().await;
    }
    let changes = receivers.iter_mut().map(|receiver| Box::pin(receiver.changed()));
    if futures::future::select_all(changes).await.0.is_err() {
        // The objects are not followed any more: whoever waits here is about to be stopped.
        std::future::pending::<()>().await;
    }
}

/// ConfigMaps and Secrets by name, as far as they exist.
#[derive(Clone, Debug, Default)]
pub(crate) struct Objects {
    config_maps: BTreeMap<String, Arc<ConfigMap>>,
    secrets: BTreeMap<String, Arc<Secret>>,
}

impl Objects {
    /// A ConfigMap, or the words for its absence.
    pub(crate) fn config_map(&self, name: &str) -> Result<&ConfigMap, String> {
        self.config_maps.get(name).map(Arc::as_ref).ok_or_else(|| format!("configmap {name:?} not found"))
    }

    /// A Secret, or the words for its absence.
    pub(crate) fn secret(&self, name: &str) -> Result<&Secret, String> {
        self.secrets.get(name).map(Arc::as_ref).ok_or_else(|| format!("secret {name:?} not found"))
    }

    /// Objects given as JSON.
    #[cfg(test)]
    pub(crate) fn of_test(config_maps: &[serde_json::Value], secrets: &[serde_json::Value]) -> Self {
        fn read<K: DeserializeOwned + Resource>(list: &[serde_json::Value]) -> BTreeMap<String, Arc<K>> {
            list.iter()
                .map(|value| {
                    let object: K = serde_json::from_value(value.clone()).expect("an object");
                    (object.meta().name.clone().unwrap_or_default(), Arc::new(object))
                })
                .collect()
        }
        Self { config_maps: read(config_maps), secrets: read(secrets) }
    }
}

/// The names of what a pod refers to.
#[derive(Debug, Default, PartialEq, Eq)]
struct References {
    config_maps: BTreeSet<String>,
    secrets: BTreeSet<String>,
    claims: BTreeSet<String>,
}

impl References {
    fn of(pod: &Pod) -> Self {
        let mut references = Self::default();
        let Some(spec) = &pod.spec else { return references };
        for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
            references.environment(container);
        }
        for volume in spec.volumes.iter().flatten() {
            references.config_maps.extend(volume.config_map.iter().map(|source| source.name.clone()));
            references.secrets.extend(volume.secret.iter().filter_map(|source| source.secret_name.clone()));
            references.claims.extend(claim_of(pod, volume));
            let parts = volume.projected.iter().filter_map(|source| source.sources.as_ref()).flatten();
            for part in parts {
                references.config_maps.extend(part.config_map.iter().map(|source| source.name.clone()));
                references.secrets.extend(part.secret.iter().map(|source| source.name.clone()));
            }
        }
        references
    }

    fn environment(&mut self, container: &Container) {
        for set in container.env_from.iter().flatten() {
            self.config_maps.extend(set.config_map_ref.iter().map(|source| source.name.clone()));
            self.secrets.extend(set.secret_ref.iter().map(|source| source.name.clone()));
        }
        for from in container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
            self.config_maps.extend(from.config_map_key_ref.iter().map(|source| source.name.clone()));
            self.secrets.extend(from.secret_key_ref.iter().map(|source| source.name.clone()));
        }
    }
}

/// The claim that a volume of a pod stands for: one that it names, or one that is made for it.
pub(crate) fn claim_of(pod: &Pod, volume: &Volume) -> Option<String> {
    if let Some(source) = &volume.persistent_volume_claim {
        return Some(source.claim_name.clone());
    }
    let pod = pod.metadata.name.as_deref().unwrap_or_default();
    volume.ephemeral.as_ref().map(|_| format!("{pod}-{}", volume.name))
}

/// A kind whose objects can be followed.
trait Kind:
    Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
    + DeserializeOwned
    + Clone
    + Debug
    + Send
    + Sync
    + 'static
{
}

impl<K> Kind for K where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + DeserializeOwned
        + Clone
        + Debug
        + Send
        + Sync
        + 'static
{
}

/// What is known of an object: nothing yet, that there is none, or the object.
type State<K> = Option<Option<Arc<K>>>;

/// An object that is kept fresh as long as anybody holds this.
struct Followed<K> {
    state: watch::Sender<State<K>>,
    _watch: DropGuard,
}

impl<K> Followed<K> {
    /// The object, once it has been looked at.
    async fn current(&self, kind: &str) -> Result<Option<Arc<K>>, String> {
        let mut state = self.state.subscribe();
        let found = tokio::time::timeout(PATIENCE, state.wait_for(Option::is_some)).await;
        match found {
            Ok(Ok(state)) => Ok(state.clone().flatten()),
            _ => Err(format!("failed to sync {kind} cache: timed out waiting for the condition")),
        }
    }
}

/// Objects of a kind by namespace and name; those that nobody holds are forgotten.
type Known<K> = HashMap<(String, String), Weak<Followed<K>>>;

struct Cache<K>(Mutex<Known<K>>);

impl<K> Default for Cache<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Kind> Cache<K> {
    fn follow(&self, client: &Client, namespace: &str, name: &str) -> Arc<Followed<K>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (namespace.to_owned(), name.to_owned());
        if let Some(followed) = known.get(&key).and_then(Weak::upgrade) {
            return followed;
        }
        // The map only grows here, so this is where the forgotten ones are swept out, at no cost on average.
        if known.len() == known.capacity() {
            known.retain(|_, followed| followed.strong_count() > 0);
        }
        let (state, cancel) = (watch::Sender::new(None), CancellationToken::new());
        let task = follow(client.clone(), namespace.to_owned(), name.to_owned(), state.clone());
        let followed = Arc::new(Followed { state, _watch: cancel.clone().drop_guard() });
        known.insert(key, Arc::downgrade(&followed));
        tokio::spawn(cancel.run_until_cancelled_owned(task));
        followed
    }
}

/// Keeps `state` what the API says, for ever.
async fn follow<K: Kind>(client: Client, namespace: String, name: String, state: watch::Sender<State<K>>) {
    let mut backoff = Backoff::new(Duration::from_millis(100), 2, Duration::from_secs(30));
    loop {
        let start = tokio::time::Instant::now();
        if let Err(error) = follow_once(&client, &namespace, &name, &state).await {
            let kind = K::kind(&());
            tracing::debug!(%kind, namespace, name, error = chain(&error), "a watch broke; starting it again");
        }
        if start.elapsed() > HEALTHY {
            backoff.reset();
        } else {
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }
}

async fn follow_once<K: Kind>(
    client: &Client,
    namespace: &str,
    name: &str,
    state: &watch::Sender<State<K>>,
) -> Result<(), kube::Error> {
    // The watch comes first: what changes after the look at the object is then sure to be told.
    let path = K::url_path(&(), Some(namespace));
    let url = format!("{path}?watch=true&fieldSelector=metadata.name%3D{name}&resourceVersion=0");
    let request = http::Request::get(url).body(Vec::new()).map_err(kube::Error::HttpError)?;
    let events = client.request_events::<K>(request).await?;
    let object = Api::<K>::namespaced(client.clone(), namespace).get_opt(name).await?;
    set(state, object);
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        match event? {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => set(state, Some(object)),
            WatchEvent::Deleted(_) => set(state, None),
            WatchEvent::Bookmark(_) => {}
            WatchEvent::Error(status) => return Err(kube::Error::Api(status)),
        }
    }
    Ok(())
}

/// Notes an object, and tells of it only if it differs from what is known.
fn set<K: Kind>(state: &watch::Sender<State<K>>, object: Option<K>) {
    state.send_if_modified(|known| {
        let identity = |object: &K| (object.meta().uid.clone(), object.meta().resource_version.clone());
        if let Some(known) = known
            && known.as_deref().map(identity) == object.as_ref().map(identity)
        {
            return false;
        }
        *known = Some(object.map(Arc::new));
        true
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, FakeApi};
    use serde_json::json;

    #[tokio::test]
    async fn objects_are_followed_while_somebody_uses_them() {
        let api = FakeApi::default();
        api.put("configmaps", "demo", "cfg", json!({"data": {"a": "1"}}));
        let informers = Informers::new(api.client(), CancellationToken::new());
        let sources = Sources::new(&informers, "n1");
        let pod = testing::pod(json!({
            "metadata": {"name": "web", "namespace": "demo"},
            "spec": {"containers": [{"name": "a", "env": [
                {"name": "X", "valueFrom": {"secretKeyRef": {"name": "later", "key": "k"}}}]}],
                "volumes": [{"name": "v", "configMap": {"name": "cfg"}}]},
        }));
        assert!(sources.secret("demo", "later").await.expect("an answer").is_none());
        let used = sources.follow(&pod);
        let other = sources.follow(&pod);
        let objects = used.objects().await.expect("objects");
        assert!(objects.secret("later").is_err());
        let mut changes = used.changes();
        api.put("secrets", "demo", "later", json!({"data": {"k": "eA=="}}));
        changes.next().await;
        assert!(used.objects().await.expect("objects").secret("later").is_ok());
        api.put("configmaps", "demo", "cfg", json!({"data": {"a": "2"}}));
        changes.next().await;
        let objects = used.objects().await.expect("objects");
        assert_eq!(objects.config_map("cfg").expect("it").data.as_ref().expect("data")["a"], "2");
        api.delete("configmaps", "demo", "cfg");
        changes.next().await;
        assert!(used.objects().await.expect("objects").config_map("cfg").is_err());
        // One watch for both pods, and none when both are gone (services keep theirs).
        assert_eq!(api.watches("configmaps"), 1);
        drop((used, other, changes));
        api.no_watches("configmaps").await;
    }
}
