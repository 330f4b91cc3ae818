//! Real containers of the test application. Needs root and `cargo xtask testbox`; says so and passes where it lacks them.

mod basics;
mod confinement;
mod place;
mod recovery;
mod speed;
mod streams;
