//! The shim: one small process per pod that parents its containers, writes their logs and remembers how they ended.
//!
//! It outlives the daemon. It has one thread, so that a forked child may run any code before it execs. It holds the
//! pod's network, IPC and UTS namespaces by being in them.

#![expect(unsafe_code, reason = "forks, namespaces and descriptors are what this program is about")]
#![expect(clippy::disallowed_methods, reason = "the shim is a shell of its own: it reads the clock and ends itself")]

mod cgroup;
mod container;
mod exec;
mod log;
mod root;
mod seccomp;
mod security;
mod server;
mod socket;
mod sys;
mod tap;

use std::io::{Read, Write};

use corten_shim::PodConfig;

fn main() {
    let mut told = Vec::new();
    let _ = std::io::stdin().read_to_end(&mut told);
    let config: PodConfig = match serde_json::from_slice(&told) {
        Ok(config) => config,
        Err(error) => fail(&format!("the shim is started by corten alone: {error}")),
    };
    sys::close_inherited();
    // The first process waits until the second is ready, and reports; the second goes on alone.
    let (reader, writer) = match sys::pipe() {
        Ok(pair) => pair,
        Err(error) => fail(&format!("cannot make a pipe: {error}")),
    };
    let mut groups = cgroup::Groups::of(&config.cgroups);
    match groups.fork(0) {
        Err(error) => fail(&format!("cannot fork: {error}")),
        Ok(Some(_)) => {
            drop(writer);
            let mut text = String::new();
            let _ = std::fs::File::from(reader).read_to_string(&mut text);
            match text.strip_prefix("ready ") {
                Some(pid) => println!("{pid}"),
                None => fail(if text.is_empty() { "the shim died while it started" } else { &text }),
            }
        }
        Ok(None) => {
            drop(reader);
            let mut writer = std::fs::File::from(writer);
            match groups.enter().and_then(|()| server::Server::start(config)) {
                Err(message) => {
                    let _ = writer.write_all(message.as_bytes());
                }
                Ok(mut server) => {
                    let _ = write!(writer, "ready {}", std::process::id());
                    drop(writer);
                    server.run();
                }
            }
        }
    }
}

fn fail(message: &str) -> ! {
    eprintln!("{message}");
    std::process::exit(1)
}
