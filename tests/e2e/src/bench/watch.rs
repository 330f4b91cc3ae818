//! When things happen, seen by a watch as any client would see them.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use corten_api::api::core::v1::{Node, Pod};
use futures::{Stream, StreamExt};
use kube::api::{DeleteParams, ListParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(60);

type Events = std::pin::Pin<Box<dyn Stream<Item = kube::Result<WatchEvent<Pod>>> + Send>>;

/// The pods of the default namespace and a watch on them.
pub(super) struct Pods {
    api: Api<Pod>,
    events: Events,
}

fn is_ready(conditions: Option<impl IntoIterator<Item = (String, String)>>) -> bool {
    conditions.into_iter().flatten().any(|(kind, status)| kind == "Ready" && status == "True")
}

/// Waits until the node is Ready.
pub(super) async fn node_ready(client: &Client) -> Result<()> {
    let ready = |node: &Node| {
        let conditions = node.status.as_ref().and_then(|status| status.conditions.clone());
        is_ready(conditions.map(|all| all.into_iter().map(|own| (own.type_, own.status))))
    };
    let api: Api<Node> = Api::all(client.clone());
    let mut events = api.watch(&WatchParams::default(), "0").await?.boxed();
    let wait = async {
        while let Some(event) = events.next().await {
            if let WatchEvent::Added(node) | WatchEvent::Modified(node) = event?
                && ready(&node)
            {
                return Ok(());
            }
        }
        bail!("the watch ended")
    };
    tokio::time::timeout(PATIENCE, wait).await.context("the node does not become Ready")?
}

impl Pods {
    pub(super) async fn new(client: &Client) -> Result<Self> {
        let api: Api<Pod> = Api::default_namespaced(client.clone());
        let version = api.list(&ListParams::default()).await?.metadata.resource_version.unwrap_or_default();
        let events = api.watch(&WatchParams::default(), &version).await?.boxed();
        Ok(Self { api, events })
    }

    /// Creates a pod; as soon as that is allowed, if the namespace is not ready for it yet.
    pub(super) async fn create(&self, name: &str) -> Result<()> {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": name}, "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "c", "image": "localhost/testbox:v1", "args": ["serve"],
                "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}},
            }],
        }}))?;
        let start = Instant::now();
        loop {
            match self.api.create(&PostParams::default(), &pod).await {
                Ok(_) => return Ok(()),
                Err(kube::Error::Api(status)) if status.code == 403 && start.elapsed() < PATIENCE => {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits until these pods have become Ready; when each did. What happens to others does not count.
    pub(super) async fn ready(&mut self, names: &[String]) -> Result<HashMap<String, Instant>> {
        let mut waiting = Waiting::new(names);
        let wait = async {
            while !waiting.is_over() {
                match self.events.next().await.context("the watch ended")?? {
                    WatchEvent::Added(pod) | WatchEvent::Modified(pod) => {
                        let conditions = pod.status.as_ref().and_then(|status| status.conditions.clone());
                        if is_ready(conditions.map(|all| all.into_iter().map(|own| (own.type_, own.status)))) {
                            waiting.happened(&pod.name_any());
                        }
                    }
                    WatchEvent::Deleted(pod) if waiting.left.contains(&pod.name_any()) => {
                        bail!("pod {} was deleted before it became Ready", pod.name_any());
                    }
                    _ => {}
                }
            }
            Ok::<_, anyhow::Error>(())
        };
        let result = tokio::time::timeout(PATIENCE, wait).await;
        result.with_context(|| format!("pods do not become Ready: {:?}", waiting.left))??;
        Ok(waiting.seen)
    }

    /// Deletes all pods but `kept` and waits until they are gone.
    pub(super) async fn clear(&mut self, kept: &str) -> Result<()> {
        let all = self.api.list(&ListParams::default()).await?;
        let names: Vec<String> = all.iter().map(ResourceExt::name_any).filter(|name| name != kept).collect();
        let mut waiting = Waiting::new(&names);
        for name in &names {
            self.api.delete(name, &DeleteParams::default()).await?;
        }
        let wait = async {
            while !waiting.is_over() {
                if let WatchEvent::Deleted(pod) = self.events.next().await.context("the watch ended")?? {
                    waiting.happened(&pod.name_any());
                }
            }
            Ok::<_, anyhow::Error>(())
        };
        let result = tokio::time::timeout(PATIENCE, wait).await;
        result.with_context(|| format!("pods do not go away: {:?}", waiting.left))?
    }
}

/// What has not happened yet, and when the rest did.
struct Waiting {
    left: BTreeSet<String>,
    seen: HashMap<String, Instant>,
}

impl Waiting {
    fn new(names: &[String]) -> Self {
        Self { left: names.iter().cloned().collect(), seen: HashMap::new() }
    }

    fn happened(&mut self, name: &str) {
        if self.left.remove(name) {
            self.seen.insert(name.to_owned(), Instant::now());
        }
    }

    fn is_over(&self) -> bool {
        self.left.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_pods_do_not_count() {
        let mut waiting = Waiting::new(&["a".to_owned(), "b".to_owned()]);
        ["other", "a", "a", "another"].iter().for_each(|name| waiting.happened(name));
        assert!(!waiting.is_over());
        waiting.happened("b");
        assert!(waiting.is_over());
        assert_eq!(waiting.seen.len(), 2);
    }
}
