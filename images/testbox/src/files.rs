//! Files, identity, and a tiny prompt.

use std::io::{BufRead, IsTerminal, Write};

use crate::Result;

pub(crate) fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

pub(crate) fn cat(paths: &[&str]) -> Result<u8> {
    for path in paths {
        let bytes = std::fs::read(path).map_err(|error| format!("{path}: {error}"))?;
        std::io::stdout().write_all(&bytes)?;
    }
    Ok(0)
}

pub(crate) fn list(folder: &str) -> Result<u8> {
    let entries = std::fs::read_dir(folder).map_err(|error| format!("{folder}: {error}"))?;
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names.iter().for_each(|name| println!("{name}"));
    Ok(0)
}

pub(crate) fn write(path: &str, text: &str) -> Result<u8> {
    std::fs::write(path, text).map_err(|error| format!("{path}: {error}"))?;
    Ok(0)
}

/// The lines of /proc/self/status that say who this is and what it may.
pub(crate) fn identity() -> Result<u8> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let wanted = ["Uid:", "Gid:", "Groups:", "CapEff:", "CapBnd:", "NoNewPrivs:", "Seccomp:"];
    status.lines().filter(|line| wanted.iter().any(|key| line.starts_with(key))).for_each(|line| println!("{line}"));
    Ok(0)
}

pub(crate) fn shell() -> Result<u8> {
    let prompt = || {
        print!("testbox# ");
        std::io::stdout().flush()
    };
    prompt()?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        match line.split_whitespace().collect::<Vec<_>>().as_slice() {
            ["exit"] => return Ok(0),
            ["exit", code] => return Ok(code.parse()?),
            ["tty"] => println!("{}", if std::io::stdin().is_terminal() { "a terminal" } else { "no terminal" }),
            ["hostname"] => println!("{}", hostname()),
            _ => println!("{line}"),
        }
        prompt()?;
    }
    Ok(0)
}
