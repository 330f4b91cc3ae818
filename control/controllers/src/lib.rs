//! The controllers: each keeps one promise of the API true, level-triggered.
//!
//! A controller is a pure `plan` over what its caches show, and a thin shell that carries it out. `CONTROLLERS` is the
//! only list of all.

mod account_secrets;
mod amounts;
mod attachments;
mod bootstrap_tokens;
mod certificate_requests;
mod claims;
mod cluster_roles;
mod context;
mod cron_job;
mod daemon_set;
mod deployment;
mod disruption;
mod ended_pods;
mod endpoint_mirrors;
mod endpoint_slices;
mod endpoints;
mod ephemeral_volumes;
mod finished_jobs;
mod garbage;
mod history;
mod horizontal_pod_autoscaler;
mod job;
mod local_path;
mod lost_pods;
mod namespaces;
mod node_lifecycle;
mod node_ranges;
mod own_pods;
mod owners;
mod persistent_volumes;
mod pods;
mod replicas;
mod retries;
mod root_ca;
mod service_accounts;
mod services;
mod stateful_set;
mod statuses;
mod storage_protection;
mod taint_eviction;
mod volume_expansion;

use std::net::Ipv4Addr;

use corten_base::{Clock, Random, Tasks};
use corten_client::{Client, Informers};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

pub use certificate_requests::{CertificateOrder, Signer};
use context::Context;

/// What the controllers are told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Time of day.
    pub clock: Clock,
    /// Names.
    pub random: Random,
    /// The cluster's certificate authority, which every namespace publishes.
    pub root_ca_pem: String,
    /// Signs certificates for the cluster's certificate authority.
    pub signer: Signer,
    /// All pods' addresses; each node gets a /24 of it.
    pub pod_range: (Ipv4Addr, u8),
}

/// A controller: runs until the context's token fires.
type Controller = fn(Context) -> BoxFuture<'static, ()>;

const CONTROLLERS: &[(&str, Controller)] = &[
    ("deployment", |cx| deployment::run(cx).boxed()),
    ("replicaset", |cx| replicas::sets(cx).boxed()),
    ("replication", |cx| replicas::controllers(cx).boxed()),
    ("statefulset", |cx| stateful_set::run(cx).boxed()),
    ("daemonset", |cx| daemon_set::run(cx).boxed()),
    ("job", |cx| job::run(cx).boxed()),
    ("cronjob", |cx| cron_job::run(cx).boxed()),
    ("ttl-after-finished", |cx| finished_jobs::run(cx).boxed()),
    ("disruption", |cx| disruption::run(cx).boxed()),
    ("endpointslice", |cx| endpoint_slices::run(cx).boxed()),
    ("endpointslicemirroring", |cx| endpoint_mirrors::run(cx).boxed()),
    ("endpoints", |cx| endpoints::run(cx).boxed()),
    ("namespace", |cx| namespaces::run(cx).boxed()),
    ("serviceaccount", |cx| service_accounts::run(cx).boxed()),
    ("serviceaccount-token", |cx| account_secrets::run(cx).boxed()),
    ("root-ca-certificate-publisher", |cx| root_ca::run(cx).boxed()),
    ("clusterrole-aggregation", |cx| cluster_roles::run(cx).boxed()),
    ("garbage-collector", |cx| garbage::run(cx).boxed()),
    ("pod-garbage-collector", |cx| lost_pods::run(cx).boxed()),
    ("ended-pods", |cx| ended_pods::run(cx).boxed()),
    ("node-lifecycle", |cx| node_lifecycle::run(cx).boxed()),
    ("taint-eviction", |cx| taint_eviction::run(cx).boxed()),
    ("persistentvolumeclaim-protection", |cx| storage_protection::claims(cx).boxed()),
    ("persistentvolume-protection", |cx| storage_protection::volumes(cx).boxed()),
    ("volumeattributesclass-protection", |cx| storage_protection::classes(cx).boxed()),
    ("persistentvolume", |cx| persistent_volumes::run(cx).boxed()),
    ("local-path", |cx| local_path::run(cx).boxed()),
    ("ephemeral-volume", |cx| ephemeral_volumes::run(cx).boxed()),
    ("attachdetach", |cx| attachments::run(cx).boxed()),
    ("volume-expand", |cx| volume_expansion::run(cx).boxed()),
    ("bootstrap-token-cleaner", |cx| bootstrap_tokens::run(cx).boxed()),
    ("horizontal-pod-autoscaler", |cx| horizontal_pod_autoscaler::run(cx).boxed()),
    ("certificatesigningrequest", |cx| certificate_requests::run(cx).boxed()),
    ("node-ipam", |cx| node_ranges::run(cx).boxed()),
];

/// Runs all controllers until `cancel` fires. They read from `informers`, whose own end is theirs too, and write as
/// `client`.
pub async fn run(client: Client, informers: Informers, config: Config, cancel: CancellationToken) {
    let tasks = Tasks::new();
    // Their own token, which the set itself fires when it stops them: an end after that is no surprise.
    let stop = tasks.cancelled();
    for (name, controller) in CONTROLLERS {
        let context = Context::new(client.clone(), informers.clone(), config.clone(), stop.clone(), name);
        tasks.spawn(name, controller(context));
    }
    tokio::select! {
        () = cancel.cancelled() => {}
        // A controller that died took the others along; whoever runs this must know.
        () = stop.cancelled() => {}
    }
    tasks.stop(std::time::Duration::from_secs(1)).await;
}
