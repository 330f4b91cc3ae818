//! The node itself: registers it, renews its lease, tells how it is.

pub(crate) mod machine;
pub(crate) mod object;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use corten_api::api::coordination::v1::{Lease, LeaseSpec};
use corten_api::api::core::v1::Node;
use corten_api::k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use corten_api::meta::{MicroTime, ObjectMeta, OwnerReference};
use corten_base::{Backoff, chain};
use corten_client::{Informer, Recorder, reference};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::sync::{Notify, watch};

use crate::config::Config;
use machine::Machine;

/// Lease duration and renewal, as upstream's defaults.
const LEASE_SECONDS: i32 = 40;
const RENEWAL: Duration = Duration::from_secs(10);
/// A status that does not change is still told this often, as upstream's default.
const REPORT: Duration = Duration::from_secs(300);
/// Between the renewal of the lease and the status of a node that was given up: the control plane may be behind, and
/// the two must not contradict each other in a busy loop.
const PATIENCE: Duration = Duration::from_millis(100);
const LEASES: &str = "kube-node-lease";

/// What this agent needs to know of its node's object.
#[derive(Clone, Debug, PartialEq)]
struct View {
    /// The range of pod addresses; `Err` if it cannot be used.
    range: Result<Option<(std::net::Ipv4Addr, u8)>, String>,
    /// It is not there: somebody deleted it.
    missing: bool,
    /// The control plane has not heard of this node for a while and says so in its conditions.
    doubted: bool,
    /// What others have written into its capacity and it does not give out yet.
    extended: BTreeMap<String, Option<Quantity>>,
}

impl View {
    fn of(node: &Node) -> Self {
        let text = node.spec.as_ref().and_then(|spec| spec.pod_cidr.clone()).filter(|text| !text.is_empty());
        let range = text.map(|text| parse_range(&text)).transpose();
        let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
        let doubted = conditions.into_iter().flatten().any(|condition| condition.status == "Unknown");
        Self { range, missing: false, doubted, extended: object::extended(node.status.as_ref()) }
    }
}

/// Keeps one node registered, alive and described.
pub(crate) struct Keeper {
    config: Arc<Config>,
    machine: Machine,
    recorder: Arc<Recorder>,
    /// This node, from the API server.
    nodes: Informer<Node>,
    /// The API server answers again.
    returned: Notify,
}

impl Keeper {
    pub(crate) fn new(config: Arc<Config>, machine: Machine, recorder: Arc<Recorder>, nodes: Informer<Node>) -> Self {
        Self { config, machine, recorder, nodes, returned: Notify::new() }
    }

    /// Runs until it is dropped. `ready` becomes true once the API server has accepted the node as Ready.
    pub(crate) async fn run(&self, ready: &watch::Sender<bool>) {
        self.register().await;
        tokio::join!(self.keep_lease(), self.keep_status(ready));
    }

    fn api(&self) -> Api<Node> {
        Api::all(self.config.client.clone())
    }

    /// Creates the node, or brings the labels and annotations of the one that is there up to date.
    async fn register(&self) {
        let object = object::object(&self.config, &self.machine);
        retry("register the node", || async {
            match self.api().create(&PostParams::default(), &object).await {
                Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {
                    let (labels, annotations) = (object::labels(&self.config), object::annotations(&self.config));
                    let change = json!({"metadata": {"labels": labels, "annotations": annotations}});
                    self.api().patch(&self.config.node_name, &PatchParams::default(), &Patch::Merge(&change)).await
                }
                result => result,
            }
        })
        .await;
    }

    /// Renews the lease by which the control plane knows that this node is alive.
    async fn keep_lease(&self) {
        loop {
            if self.renew_lease().await > 0 {
                // Others may have given this node up; it takes a while for the watches to tell.
                self.returned.notify_one();
            }
            tokio::time::sleep(RENEWAL).await;
        }
    }

    /// Renews the lease; answers how often that failed before.
    async fn renew_lease(&self) -> u32 {
        let api: Api<Lease> = Api::namespaced(self.config.client.clone(), LEASES);
        let name = &self.config.node_name;
        retry("renew the node's lease", || async {
            let spec = LeaseSpec {
                holder_identity: Some(name.clone()),
                lease_duration_seconds: Some(LEASE_SECONDS),
                // Now, not when the first try failed.
                renew_time: Some(MicroTime(self.config.clock.now())),
                ..LeaseSpec::default()
            };
            // A node that was deleted and came back is another one, and the lease goes with its owner.
            let owners = self.nodes.get("", name).map(|node| vec![owner(&node)]);
            let mut change = json!({"spec": spec});
            if let Some(owners) = &owners {
                change["metadata"] = json!({"ownerReferences": owners});
            }
            match api.patch(name, &PatchParams::default(), &Patch::Merge(change)).await {
                Err(kube::Error::Api(status)) if status.code == 404 => {
                    let metadata = ObjectMeta {
                        name: Some(name.clone()),
                        namespace: Some(LEASES.to_owned()),
                        owner_references: owners,
                        ..ObjectMeta::default()
                    };
                    api.create(&PostParams::default(), &Lease { metadata, spec: Some(spec) }).await
                }
                result => result,
            }
        })
        .await
    }

    /// Tells the node's status when it changes, and every few minutes.
    async fn keep_status(&self, ready: &watch::Sender<bool>) {
        let mut said = false;
        let mut views = self.views();
        self.recorder.normal(&self.config.clock, self.reference(), "Starting", "Starting kubelet.");
        loop {
            let view = views.borrow_and_update().clone();
            let problem = match view.range.clone() {
                Ok(Some(range)) => self.config.network.set_pod_range(range).await.err().map(|error| error.message),
                Ok(None) => {
                    Some("container runtime network not ready: the node has no range of pod addresses yet".to_owned())
                }
                Err(why) => Some(why),
            };
            if view.doubted {
                // Who doubts goes by the lease: a status alone would be doubted again.
                self.renew_lease().await;
                tokio::time::sleep(PATIENCE).await;
            }
            self.report(problem.as_deref()).await;
            if problem.is_none() && !said {
                said = true;
                let message = format!("Node {} status is now: NodeReady", self.config.node_name);
                self.recorder.normal(&self.config.clock, self.reference(), "NodeReady", message);
            }
            ready.send_replace(problem.is_none());
            let news = async {
                while views.changed().await.is_ok() {
                    let next = views.borrow_and_update();
                    // What the report itself has changed is no reason for another one.
                    let extended = !next.extended.is_empty() && next.extended != view.extended;
                    if next.range != view.range || next.missing || next.doubted || extended {
                        return;
                    }
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = news => {}
                () = self.returned.notified() => {}
                () = tokio::time::sleep(REPORT) => {}
            }
        }
    }

    async fn report(&self, problem: Option<&str>) {
        let change = self.status(problem).await;
        let name = &self.config.node_name;
        retry("tell the node's status", || async {
            match self.api().patch_status(name, &PatchParams::default(), &change).await {
                // Somebody deleted the node: it comes back, as with a kubelet that starts again.
                Err(kube::Error::Api(status)) if status.code == 404 => {
                    let object = object::object(&self.config, &self.machine);
                    self.api().create(&PostParams::default(), &object).await?;
                    self.api().patch_status(name, &PatchParams::default(), &change).await
                }
                result => result,
            }
        })
        .await;
    }

    /// How the status has to change.
    async fn status(&self, problem: Option<&str>) -> Patch<serde_json::Value> {
        let images = self.config.images.list().await.unwrap_or_default();
        // Not from the cache: after a while out of reach it does not know what others have said of this node.
        let before = self.api().get_opt(&self.config.node_name).await.ok().flatten();
        let before = before.and_then(|node| node.status);
        let extended = object::extended(before.as_ref());
        let before = before.and_then(|status| status.conditions).unwrap_or_default();
        let state = object::State { not_ready: problem, images: &images, now: self.config.clock.now() };
        let mut change = json!({"status": object::status(&self.config, &self.machine, &before, &state)});
        for (name, amount) in extended {
            change["status"]["allocatable"][name] = json!(amount);
        }
        Patch::Strategic(change)
    }

    /// The node's object, as it changes.
    fn views(&self) -> watch::Receiver<View> {
        let (sender, receiver) =
            watch::channel(View { range: Ok(None), missing: false, doubted: false, extended: BTreeMap::new() });
        let name = self.config.node_name.clone();
        self.nodes.on_change(move |before, after| {
            let own = |node: Option<&Node>| node.filter(|node| node.name_any() == name).map(View::of);
            let view = match (own(before), own(after)) {
                (_, Some(view)) => view,
                (Some(before), None) => View { missing: true, ..before },
                (None, None) => return,
            };
            sender.send_if_modified(|old| std::mem::replace(old, view.clone()) != view);
        });
        receiver
    }

    /// As a kubelet names its node in events: the UID is the name.
    fn reference(&self) -> corten_api::api::core::v1::ObjectReference {
        let node = Node {
            metadata: ObjectMeta { name: Some(self.config.node_name.clone()), ..ObjectMeta::default() },
            ..Node::default()
        };
        corten_api::api::core::v1::ObjectReference { uid: Some(self.config.node_name.clone()), ..reference(&node) }
    }
}

fn parse_range(text: &str) -> Result<(std::net::Ipv4Addr, u8), String> {
    let parts = text.split_once('/').and_then(|(address, length)| Some((address.parse().ok()?, length.parse().ok()?)));
    parts.ok_or_else(|| format!("the node's podCIDR {text:?} is no IPv4 range such as 10.42.0.0/24"))
}

fn owner(node: &Node) -> OwnerReference {
    OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node.name_any(),
        uid: node.uid().unwrap_or_default(),
        ..OwnerReference::default()
    }
}

/// Tries until it works. Returns how often it did not.
async fn retry<T, F, R>(what: &str, mut attempt: F) -> u32
where
    F: FnMut() -> R,
    R: Future<Output = Result<T, kube::Error>>,
{
    let mut failures = 0;
    let mut backoff = Backoff::new(Duration::from_millis(50), 2, Duration::from_secs(7));
    loop {
        match attempt().await {
            Ok(_) => return failures,
            Err(error) => {
                failures += 1;
                let delay = backoff.next_delay();
                tracing::warn!(error = chain(&error), ?delay, "cannot {what}");
                tokio::time::sleep(delay).await;
            }
        }
    }
}
