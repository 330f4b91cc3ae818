//! What every crate needs and no crate should write twice: time, randomness,
//! back-off, supervised tasks and error chains.
//!
//! Architecture invariant: nothing here knows of Kubernetes.

mod accept;
mod backoff;
mod clock;
mod error;
mod log_pulse;
mod random;
mod tasks;

pub use accept::{Listener, accept};
pub use backoff::Backoff;
pub use clock::Clock;
pub use error::chain;
pub use jiff::Timestamp;
pub use log_pulse::{Pulsing, log_stuck_for};
pub use random::Random;
pub use tasks::Tasks;
