//! Uses up CPU, memory and log space, on purpose.

use std::io::Write;
use std::time::{Duration, Instant};

use crate::Result;

/// Keeps one core busy.
pub(crate) fn cpu(seconds: u64) -> Result<u8> {
    let start = Instant::now();
    let mut number = 1_u64;
    while start.elapsed() < Duration::from_secs(seconds) {
        for _ in 0..1_000_000 {
            number = std::hint::black_box(number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
    }
    println!("{number}");
    Ok(0)
}

/// Takes memory, touching every page, and keeps it.
pub(crate) fn memory(mib: usize) -> Result<u8> {
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    for taken in 1..=mib {
        blocks.push(vec![1; 1 << 20]);
        if taken % 16 == 0 || taken == mib {
            println!("{taken} MiB taken");
        }
    }
    std::hint::black_box(&blocks);
    loop {
        std::thread::park();
    }
}

/// Prints numbered lines.
pub(crate) fn log(count: u64, bytes: usize) -> Result<u8> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for number in 0..count {
        writeln!(out, "{number:0>bytes$}")?;
    }
    Ok(0)
}
