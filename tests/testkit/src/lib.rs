//! Clusters for tests.
//!
//! - [`Cluster`]: API server, controllers and scheduler in this process, on an in-memory store, with hollow nodes and
//!   time that the test advances: milliseconds a test.
//! - [`Sandbox`]: the real program with real containers, in a network namespace of its own without a route out.
//!   Everything it makes carries its name, is removed when it is dropped, and is swept later if even that failed.

mod cluster;
mod hollow;
mod program;
mod sandbox;

pub use cluster::Cluster;
pub use program::{Output, Program};
pub use sandbox::{Background, Sandbox, eventually, sweep};
