//! The real node agent over fake containers, images and links, in a cluster of this process, on paused time.

mod claims;
mod deletion;
mod images;
mod init_containers;
mod lifecycle;
mod node;
mod objects;
mod probes;
mod restarts;
mod survival;
