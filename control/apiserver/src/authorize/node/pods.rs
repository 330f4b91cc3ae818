//! Which pods are on which node.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use corten_store::{Entry, Revision};
use serde::Deserialize;

use super::super::following::Index;

/// Pods by the node that they are bound to, known by their store keys.
///
/// A pod is bound once and for all, so that of the many changes of one only the first that tells its node is read.
#[derive(Default)]
pub(crate) struct PodsOfNodes {
    /// The node, and the revision that created the pod.
    placed: HashMap<Bytes, (Arc<str>, Revision)>,
    by_node: HashMap<Arc<str>, BTreeSet<Bytes>>,
}

/// Of a pod what matters here.
#[derive(Deserialize)]
struct Placed<'a> {
    #[serde(borrow, default)]
    spec: Spec<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec<'a> {
    #[serde(borrow, default)]
    node_name: Option<Cow<'a, str>>,
}

impl Index for PodsOfNodes {
    const PREFIXES: &'static [&'static str] = &["/registry/pods/"];

    fn set(&mut self, key: &Bytes, entry: Option<&Entry>) {
        let known = self.placed.get(key).map(|(_, created)| *created);
        if known.is_some() && known == entry.map(|entry| entry.create_revision) {
            return;
        }
        self.remove(key);
        let Some(entry) = entry else { return };
        let Ok(pod) = serde_json::from_slice::<Placed<'_>>(&entry.value) else { return };
        if let Some(node) = pod.spec.node_name.filter(|node| !node.is_empty()) {
            let node =
                self.by_node.get_key_value(&*node).map_or_else(|| Arc::from(&*node), |(node, _)| Arc::clone(node));
            self.by_node.entry(Arc::clone(&node)).or_default().insert(key.clone());
            self.placed.insert(key.clone(), (node, entry.create_revision));
        }
    }
}

impl PodsOfNodes {
    fn remove(&mut self, key: &Bytes) {
        let Some((node, _)) = self.placed.remove(key) else { return };
        if let Some(keys) = self.by_node.get_mut(&node) {
            keys.remove(key);
            if keys.is_empty() {
                self.by_node.remove(&node);
            }
        }
    }

    /// The node of a pod.
    pub(super) fn node_of(&self, key: &Bytes) -> Option<&str> {
        self.placed.get(key).map(|(node, _)| &**node)
    }

    /// Keys of the pods on a node that begin with `prefix`.
    pub(super) fn on(&self, node: &str, prefix: &Bytes) -> Vec<Bytes> {
        let Some(keys) = self.by_node.get(node) else { return Vec::new() };
        let from = keys.range((Bound::Included(prefix.clone()), Bound::Unbounded));
        from.take_while(|key| key.starts_with(prefix)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(pods: &mut PodsOfNodes, key: &str, node: Option<&str>, created: Revision) {
        let value = json!({"metadata": {"name": "p"}, "spec": {"nodeName": node, "containers": []}}).to_string();
        let entry =
            Entry { value: value.into(), create_revision: created, mod_revision: 9, version: 1, lease: 0, stamp: None };
        pods.set(&Bytes::from(format!("/registry/pods/{key}")), Some(&entry));
    }

    fn on(pods: &PodsOfNodes, node: &str, prefix: &str) -> String {
        let keys = pods.on(node, &Bytes::from(format!("/registry/pods/{prefix}")));
        let names = keys.iter().map(|key| String::from_utf8_lossy(key).replace("/registry/pods/", ""));
        names.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn pods_are_found_where_they_are() {
        let mut pods = PodsOfNodes::default();
        set(&mut pods, "a/1", Some("n"), 1);
        set(&mut pods, "a/2", None, 2);
        set(&mut pods, "ab/3", Some("n"), 3);
        set(&mut pods, "a/4", Some("m"), 4);
        assert_eq!((on(&pods, "n", "a/"), on(&pods, "n", "")), ("a/1".to_owned(), "a/1 ab/3".to_owned()));
        set(&mut pods, "a/2", Some("n"), 2);
        assert_eq!(on(&pods, "n", "a/"), "a/1 a/2");
        // Another pod of the name.
        set(&mut pods, "a/1", None, 5);
        set(&mut pods, "a/4", Some("n"), 6);
        assert_eq!((on(&pods, "n", ""), on(&pods, "m", "")), ("a/2 a/4 ab/3".to_owned(), String::new()));
        for key in ["a/2", "a/4", "ab/3", "a/9"] {
            pods.set(&Bytes::from(format!("/registry/pods/{key}")), None);
        }
        assert!(pods.placed.is_empty() && pods.by_node.is_empty());
    }
}
