//! Shared caches of objects, kept by one watch each.

use std::any::{Any, TypeId};
use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Debug};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use corten_base::chain;
use futures::StreamExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::trim::{trim, without_managers};

/// Namespace (empty for cluster-scoped kinds) and name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Namespace; empty for cluster-scoped kinds.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Key {
    /// A key from its parts.
    #[must_use]
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The key of an object.
    #[must_use]
    pub fn of(object: &impl ResourceExt) -> Self {
        Self { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}

/// A kind that can be cached.
pub trait Kind: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static {}

impl<K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static> Kind for K {}

/// Who is told of a change: the object before and after.
type Listener<K> = Box<dyn Fn(Option<&K>, Option<&K>) + Send + Sync>;

/// The cache of one kind. Clones share it.
pub struct Informer<K>(Arc<Shared<K>>);

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Shared<K> {
    objects: RwLock<BTreeMap<Key, Arc<K>>>,
    listeners: RwLock<Vec<Listener<K>>>,
    /// The newest resourceVersion seen; `None` before the first list is complete.
    seen: watch::Sender<Option<u64>>,
}

impl<K: Kind> Informer<K> {
    /// An object.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.read().get(&Key::new(namespace, name)).cloned()
    }

    /// An object.
    #[must_use]
    pub fn by_key(&self, key: &Key) -> Option<Arc<K>> {
        self.read().get(key).cloned()
    }

    /// All objects, by key.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<K>> {
        self.read().values().cloned().collect()
    }

    /// All objects of one namespace, by name.
    #[must_use]
    pub fn list_in(&self, namespace: &str) -> Vec<Arc<K>> {
        let start = Key::new(namespace, "");
        self.read()
            .range(start..)
            .take_while(|(key, _)| key.namespace == namespace)
            .map(|(_, o)| Arc::clone(o))
            .collect()
    }

    /// Returns once the first list is complete.
    pub async fn synced(&self) {
        // The sender lives in self, so waiting cannot fail.
        let _ = self.0.seen.subscribe().wait_for(Option::is_some).await;
    }

    /// Returns once this cache has seen a resourceVersion: usually that of one's own write.
    pub async fn reached(&self, version: u64) {
        let _ = self.0.seen.subscribe().wait_for(|seen| seen.is_some_and(|seen| seen >= version)).await;
    }

    /// Calls `listener` with each object that is there, and then with each change, before and after. It must be quick.
    pub fn on_change(&self, listener: impl Fn(Option<&K>, Option<&K>) + Send + Sync + 'static) {
        // Under the lock, so that no change falls between what is there and what comes.
        let mut listeners = self.0.listeners.write().unwrap_or_else(PoisonError::into_inner);
        for object in self.read().values() {
            listener(None, Some(object));
        }
        listeners.push(Box::new(listener));
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<Key, Arc<K>>> {
        self.0.objects.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn new() -> Self {
        let (objects, listeners) = (RwLock::default(), RwLock::default());
        Self(Arc::new(Shared { objects, listeners, seen: watch::Sender::new(None) }))
    }

    /// A cache that a test fills by hand; it is complete.
    #[must_use]
    pub fn fixed(objects: Vec<K>) -> Self {
        let informer = Self::new();
        let list = objects.into_iter().map(|object| (Key::of(&object), object)).collect();
        informer.replace(list);
        informer
    }

    fn set(&self, object: K) {
        let version = version_of(&object);
        let (key, object) = (Key::of(&object), Arc::new(object));
        let listeners = self.0.listeners.read().unwrap_or_else(PoisonError::into_inner);
        let before = self.0.objects.write().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::clone(&object));
        listeners.iter().for_each(|listener| listener(before.as_deref(), Some(&object)));
        drop(listeners);
        self.advance(version);
    }

    fn remove(&self, object: &K) {
        let listeners = self.0.listeners.read().unwrap_or_else(PoisonError::into_inner);
        let before = self.0.objects.write().unwrap_or_else(PoisonError::into_inner).remove(&Key::of(object));
        if before.is_some() {
            listeners.iter().for_each(|listener| listener(before.as_deref(), None));
        }
        drop(listeners);
        self.advance(version_of(object));
    }

    /// A list that is complete: what is not in it is gone.
    fn replace(&self, list: BTreeMap<Key, K>) {
        let known: Vec<(Key, Arc<K>)> =
            self.read().iter().map(|(key, object)| (key.clone(), Arc::clone(object))).collect();
        for (key, object) in known {
            if !list.contains_key(&key) {
                self.remove(&object);
            }
        }
        let newest = list.values().map(version_of).max().unwrap_or(0);
        list.into_values().for_each(|object| self.set(object));
        self.0.seen.send_modify(|seen| *seen = Some(seen.unwrap_or(0).max(newest)));
    }

    fn advance(&self, version: u64) {
        self.0.seen.send_if_modified(|seen| match seen {
            Some(seen) if *seen < version => {
                *seen = version;
                true
            }
            _ => false,
        });
    }

    async fn run(self, api: Api<K>, config: watcher::Config, lean: fn(&mut K)) {
        let lean = |mut object| {
            lean(&mut object);
            object
        };
        let mut events = Box::pin(watcher::watcher(api, config).default_backoff());
        let mut fresh = BTreeMap::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => fresh = BTreeMap::new(),
                Ok(Event::InitApply(object)) => drop(fresh.insert(Key::of(&object), lean(object))),
                Ok(Event::InitDone) => self.replace(std::mem::take(&mut fresh)),
                Ok(Event::Apply(object)) => self.set(lean(object)),
                Ok(Event::Delete(object)) => self.remove(&object),
                Err(error) => {
                    tracing::warn!(kind = %K::kind(&()), error = chain(&error), "a watch broke; starting it again");
                }
            }
        }
    }
}

/// The resourceVersion of an object as a number; 0 if it has none.
fn version_of<K: Resource>(object: &K) -> u64 {
    object.meta().resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

/// Caches by type and field selector.
type Known = HashMap<(TypeId, String), Box<dyn Any + Send>>;

/// All caches of a process. Clones share them.
#[derive(Clone)]
pub struct Informers {
    client: Client,
    cancel: CancellationToken,
    known: Arc<Mutex<Known>>,
}

impl Informers {
    /// Caches that are kept until `cancel` fires. None is filled before it is asked for.
    #[must_use]
    pub fn new(client: Client, cancel: CancellationToken) -> Self {
        Self { client, cancel, known: Arc::default() }
    }

    /// The client behind the caches.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The cache of all objects of a kind, each without what no plan reads (`trim.rs`): patch them, never write one
    /// back.
    #[must_use]
    pub fn of<K: Kind>(&self) -> Informer<K> {
        self.filtered("")
    }

    /// The cache of the objects that a field selector selects. They are whole; if it is empty, they are as in
    /// [`Self::of`].
    #[must_use]
    pub fn filtered<K: Kind>(&self, fields: &str) -> Informer<K> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (TypeId::of::<K>(), fields.to_owned());
        if let Some(informer) = known.get(&key).and_then(|any| any.downcast_ref::<Informer<K>>()) {
            return informer.clone();
        }
        let informer = Informer::new();
        known.insert(key, Box::new(informer.clone()));
        let mut config = watcher::Config::default();
        let mut lean: fn(&mut K) = trim;
        if !fields.is_empty() {
            config = config.fields(fields);
            lean = without_managers;
        }
        let (task, cancel) = (informer.clone().run(Api::all(self.client.clone()), config, lean), self.cancel.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = cancel.cancelled() => {}
                () = task => {}
            }
        });
        informer
    }
}
