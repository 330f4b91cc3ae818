//! The story that Corten is judged by, told with the real program, the real kubectl and real containers.
//!
//! `story` holds its steps, one file a chapter. The `demo` program runs them all in one sandbox and prints a timeline;
//! the tests run each chapter in a sandbox of its own. `bench` measures how fast the same things happen.

pub mod bench;
pub mod cluster;
pub mod golden;
pub mod story;
