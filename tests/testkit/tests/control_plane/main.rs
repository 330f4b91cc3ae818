//! The control plane as a whole, on hollow nodes: what deployments, namespaces, nodes and owners promise.

mod autoscaling;
mod certificates;
mod cron_jobs;
mod disruption;
mod endpoints;
mod garbage;
mod jobs;
mod namespaces;
mod nodes;
mod objects;
mod permissions;
mod rollouts;
mod scheduling;
mod sets;
mod storage;
