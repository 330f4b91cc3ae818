//! How fast and how small: the figures of benches/README.md.

mod figures;
mod first_light;
mod machine;
mod watch;

pub use first_light::first_light;
