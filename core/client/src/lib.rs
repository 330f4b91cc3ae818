//! How the parts of Corten speak to the API: one client, shared caches, work queues, events.
//!
//! - [`Informers`]: one list-and-watch per kind and filter, shared by all who read it.
//! - [`Queue`] and [`run_controller`]: keys that need work, each worked on by one task at a time.
//! - [`Writes`]: writes that a controller waits to see in its cache before it plans again.
//! - [`Recorder`]: events for people.
//!
//! Architecture invariant: nothing here polls; everything waits for a watch, a timer or a write.

mod informer;
mod queue;
mod recorder;
mod trim;
mod writes;

pub use informer::{Informer, Informers, Key, Kind};
pub use kube::Client;
pub use queue::{Next, Queue, run_controller};
pub use recorder::{Recorder, reference};
pub use writes::Writes;
