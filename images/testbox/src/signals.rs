//! Signals, by a pipe that the handler writes to.

use std::io::Read;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::sync::atomic::{AtomicI32, Ordering};

use crate::Result;

/// Where the handler writes a signal's number.
static PIPE: AtomicI32 = AtomicI32::new(-1);

extern "C" fn note(signal: libc::c_int) {
    let byte = [u8::try_from(signal).unwrap_or(0)];
    // SAFETY: write(2) is async-signal-safe; the descriptor stays open for the life of the process.
    unsafe { libc::write(PIPE.load(Ordering::Relaxed), byte.as_ptr().cast(), 1) };
}

fn catch(signals: &[i32]) -> Result<std::fs::File> {
    let (reader, writer) = std::io::pipe()?;
    PIPE.store(writer.into_raw_fd(), Ordering::Relaxed);
    for &signal in signals {
        // SAFETY: `note` is a handler of the right type and only makes async-signal-safe calls.
        unsafe { libc::signal(signal, note as extern "C" fn(libc::c_int) as libc::sighandler_t) };
    }
    // SAFETY: the descriptor was just released by its owner.
    Ok(unsafe { std::fs::File::from_raw_fd(reader.into_raw_fd()) })
}

fn next(pipe: &mut std::fs::File) -> Result<i32> {
    let mut byte = [0];
    loop {
        match pipe.read_exact(&mut byte) {
            Ok(()) => return Ok(i32::from(byte[0])),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits for SIGTERM or SIGINT and names it.
pub(crate) fn wait_for_end() -> Result<String> {
    let mut pipe = catch(&[libc::SIGTERM, libc::SIGINT])?;
    Ok(name(next(&mut pipe)?))
}

/// Prints every signal; only SIGKILL ends it.
pub(crate) fn print_all() -> Result<u8> {
    let all: Vec<i32> =
        (1..=31).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP, libc::SIGCHLD].contains(signal)).collect();
    let mut pipe = catch(&all)?;
    println!("waiting for signals");
    loop {
        println!("got {}", name(next(&mut pipe)?));
    }
}

/// Never ends by SIGTERM.
pub(crate) fn ignore_term() -> Result<u8> {
    let mut pipe = catch(&[libc::SIGTERM])?;
    loop {
        println!("ignored {}", name(next(&mut pipe)?));
    }
}

fn name(signal: i32) -> String {
    match signal {
        libc::SIGTERM => "SIGTERM".to_owned(),
        libc::SIGINT => "SIGINT".to_owned(),
        libc::SIGHUP => "SIGHUP".to_owned(),
        libc::SIGUSR1 => "SIGUSR1".to_owned(),
        libc::SIGUSR2 => "SIGUSR2".to_owned(),
        libc::SIGQUIT => "SIGQUIT".to_owned(),
        other => format!("signal {other}"),
    }
}
