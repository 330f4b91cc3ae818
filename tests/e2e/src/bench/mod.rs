//! How fast and how small: the figures of benches/README.md.

mod api;
mod figures;
mod first_light;
mod load;
mod machine;
mod scheduler;
mod watch;

pub use api::api;
pub use first_light::first_light;
pub use load::Protocol;
pub use scheduler::scheduler;
