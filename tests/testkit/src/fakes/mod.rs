//! A machine's containers, images and links, as the node agent sees them: entries in maps.
//!
//! They outlive an agent, so that a second one finds what a first one left.

mod images;
mod network;
mod runtime;

pub use images::FakeImages;
pub use network::FakeNetwork;
pub use runtime::FakeRuntime;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a test and an agent both look at; a panic of the one must not hide it from the other.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
