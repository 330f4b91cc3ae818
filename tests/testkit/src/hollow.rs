//! A node without containers: it registers, renews its lease, and says that pods run.
//!
//! Pods whose first image ends in `:broken` never become ready; all others are ready at once.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Result;
use corten_api::api::coordination::v1::Lease;
use corten_api::api::core::v1::{Node, Pod};
use corten_base::Clock;
use corten_client::{Client, Informer, Informers, Key, Next, Queue, run_controller};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const LEASES: &str = "kube-node-lease";
const RENEWAL: Duration = Duration::from_secs(10);

/// A hollow node.
#[derive(Clone)]
pub(crate) struct Hollow {
    pub(crate) name: String,
    /// Tells its pods' addresses from those of others.
    pub(crate) number: u8,
    pub(crate) client: Client,
    pub(crate) clock: Clock,
}

impl Hollow {
    /// Registers the node. It is Ready when this returns.
    pub(crate) async fn register(&self) -> Result<()> {
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {
            "name": self.name, "labels": {"kubernetes.io/hostname": self.name},
            "annotations": {"corten.dev/local-path": "/var/lib/corten/agent/volumes"},
        }});
        let api: Api<Node> = Api::all(self.client.clone());
        api.create(&PostParams::default(), &serde_json::from_value(node)?).await?;
        self.renew().await?;
        let now = self.clock.now();
        let capacity = json!({"cpu": "4", "memory": "8Gi", "pods": "110", "ephemeral-storage": "100Gi"});
        let status = json!({"status": {
            "capacity": capacity, "allocatable": capacity,
            "addresses": [{"type": "InternalIP", "address": Ipv4Addr::new(172, 30, 0, self.number)}],
            "conditions": [{
                "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "",
                "lastHeartbeatTime": now, "lastTransitionTime": now,
            }],
        }});
        api.patch_status(&self.name, &PatchParams::default(), &Patch::Merge(status)).await?;
        Ok(())
    }

    async fn renew(&self) -> Result<()> {
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": self.name, "namespace": LEASES},
            "spec": {"holderIdentity": self.name, "leaseDurationSeconds": 40, "renewTime": micro(&self.clock)},
        });
        let api: Api<Lease> = Api::namespaced(self.client.clone(), LEASES);
        match api.patch(&self.name, &PatchParams::default(), &Patch::Merge(&lease)).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {
                api.create(&PostParams::default(), &serde_json::from_value(lease)?).await?;
            }
            result => drop(result?),
        }
        Ok(())
    }

    /// Lives until `cancel` fires; then it is dead: silent, its pods as they were.
    pub(crate) async fn run(self, cancel: CancellationToken) {
        let informers = Informers::new(self.client.clone(), cancel.clone());
        let pods: Informer<Pod> = informers.filtered(&format!("spec.nodeName={}", self.name));
        let queue = Queue::default();
        let own = queue.clone();
        pods.on_change(move |_, new| new.into_iter().for_each(|pod| own.add(Key::of(pod))));
        let (beating, stop) = (self.clone(), cancel.clone());
        tokio::spawn(async move {
            while stop.run_until_cancelled(tokio::time::sleep(RENEWAL)).await.is_some() {
                if let Err(error) = beating.renew().await {
                    warn(&error);
                }
            }
        });
        run_controller("hollow", queue, 4, cancel, move |key| {
            let (node, pods) = (self.clone(), pods.clone());
            async move { node.sync(&pods, &key).await }
        })
        .await;
    }

    async fn sync(&self, pods: &Informer<Pod>, key: &Key) -> Result<Next, String> {
        let Some(pod) = pods.by_key(key) else { return Ok(Next::Wait) };
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let result = if pod.metadata.deletion_timestamp.is_some() {
            api.delete(&key.name, &DeleteParams::default().grace_period(0)).await.map(drop)
        } else if pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending") == "Pending" {
            let patch = Patch::Strategic(self.status(&pod));
            api.patch_status(&key.name, &PatchParams::default(), &patch).await.map(drop)
        } else {
            Ok(())
        };
        match result {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(Next::Wait),
            Err(error) => Err(corten_base::chain(&error)),
            Ok(()) => Ok(Next::Wait),
        }
    }

    fn status(&self, pod: &Pod) -> Value {
        let containers = pod.spec.as_ref().map(|spec| spec.containers.clone()).unwrap_or_default();
        let broken = containers.iter().any(|own| own.image.as_deref().is_some_and(|image| image.ends_with(":broken")));
        let now = self.clock.now();
        let now = corten_base::Timestamp::from_second(now.as_second()).unwrap_or(now);
        let last = pod.uid().unwrap_or_default().bytes().fold(0_u8, u8::wrapping_add);
        let (ready, flag) = if broken { ("False", false) } else { ("True", true) };
        let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "lastTransitionTime": now});
        let statuses: Vec<Value> = containers
            .iter()
            .map(|own| {
                json!({
                    "name": own.name, "image": own.image, "imageID": "", "ready": flag, "started": true,
                    "restartCount": 0, "state": {"running": {"startedAt": now}},
                })
            })
            .collect();
        json!({"metadata": {"uid": pod.uid()}, "status": {
            "phase": "Running", "startTime": now, "containerStatuses": statuses,
            "podIP": Ipv4Addr::new(10, 42, self.number, last),
            "podIPs": [{"ip": Ipv4Addr::new(10, 42, self.number, last)}],
            "conditions": [
                condition("Initialized", "True"), condition("ContainersReady", ready), condition("Ready", ready),
            ],
        }})
    }
}

/// Kubernetes' form of times with fractions.
fn micro(clock: &Clock) -> String {
    format!("{:.6}", clock.now())
}

/// A hollow node has no log but the test's.
fn warn(error: &anyhow::Error) {
    eprintln!("a hollow node cannot renew its lease: {error:#}");
}
