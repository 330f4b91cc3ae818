//! What every crate needs and no crate should write twice: time, randomness,
//! back-off, supervised tasks and error chains.
//!
//! Architecture invariant: nothing here knows of Kubernetes.

mod backoff;
mod clock;
mod error;
mod random;
mod tasks;

pub use backoff::Backoff;
pub use clock::Clock;
pub use error::chain;
pub use jiff::Timestamp;
pub use random::Random;
pub use tasks::Tasks;
