//! Containers: pods of them, each under a shim that outlives this process.
//!
//! ```text
//! <run-dir>/shim/corten-shim-<hash>    the shim program, written from this one
//! <run-dir>/pods/<uid>/                 pod.json (removing.json at its end), the shim's socket, exit files, and an
//!                                       empty file container-<id> for every container whose folder is to go with it
//! <data-dir>/containers/<id>/           upper and work folders of a container's root
//! ```
//! What a container is made of happens in the shim (namespaces, mounts, capabilities); this side makes cgroups, starts
//! shims and talks to them. `Engine` mirrors CRI's runtime service in meaning.

mod capabilities;
mod cgroup;
mod devices;
mod engine;
mod folders;
mod purge;
mod shim;
mod types;

pub use engine::Engine;
pub use purge::{purge, running_pods};
pub use types::{
    ContainerSpec, ContainerState, EngineConfig, Error, Event, ExecSpec, Exit, Mount, PodSpec, PodState, Resources,
    Result, Session, Usage, User,
};
