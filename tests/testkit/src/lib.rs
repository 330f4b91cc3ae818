//! Clusters for tests.
//!
//! - [`Cluster`]: API server, controllers and scheduler in this process, on an in-memory store, with hollow nodes and
//!   time that the test advances: milliseconds a test.
//! - [`Machine`]: a machine of such a cluster with the real node agent on it, over fake containers, images and links.
//! - [`Sandbox`]: the real program with real containers, in a network namespace of its own without a route out.
//!   Everything it makes carries its name, is removed when it is dropped, and is swept later if even that failed.

mod cluster;
mod fakes;
mod hollow;
mod machine;
mod program;
mod sandbox;
mod wire;

pub use cluster::Cluster;
pub use corten_client::Informers;
pub use fakes::{FakeImages, FakeNetwork, FakeRuntime};
pub use machine::Machine;
pub use program::{Output, Program};
pub use sandbox::{Background, Sandbox, eventually, sweep};
pub use wire::Wire;
