//! A crash at any point of a write loses no acknowledged write: a writer is killed under load, again and again.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use corten_base::Clock;
use corten_store::{Op, Options, Store, Txn};

const WRITERS: usize = 16;

fn options(dir: &std::path::Path) -> Options {
    Options {
        dir: Some(dir.to_owned()),
        history: Duration::from_secs(3600),
        history_bytes: 1 << 20,
        clock: Clock::system(),
    }
}

/// The child: prints `writer number` after each acknowledgement. Run by the test below, not by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the child process of the test below"]
async fn write_until_killed() {
    let Some(dir) = std::env::args_os().next_back().filter(|arg| std::path::Path::new(arg).is_dir()) else { return };
    let store = Store::open(options(dir.as_ref())).await.expect("opens");
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let store = store.clone();
        let text = store.snapshot().get(format!("w{writer}").as_bytes()).map(|entry| entry.value.clone());
        let from: u64 = text.and_then(|text| std::str::from_utf8(&text).ok()?.parse().ok()).unwrap_or(0);
        writers.spawn(async move {
            for number in from + 1.. {
                let key = Bytes::from(format!("w{writer}"));
                let op = Op::Put { key, value: Bytes::from(number.to_string()), stamp: None, lease: 0 };
                store.transact(Txn { compare: vec![], then: vec![op] }).await.expect("written");
                println!("acknowledged {writer} {number}");
            }
        });
    }
    writers.join_next().await;
}

#[tokio::test]
async fn no_acknowledged_write_is_lost() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut acknowledged: BTreeMap<usize, u64> = BTreeMap::new();
    for round in 1..=5_u64 {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--ignored", "--exact", "write_until_killed", "--nocapture", "--skip"])
            .arg(dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let mut count = 0;
        for line in lines.map_while(Result::ok) {
            let mut words = line.split_whitespace().skip_while(|word| !word.ends_with("acknowledged")).skip(1);
            let (Some(writer), Some(number)) = (words.next(), words.next()) else { continue };
            let (Ok(writer), Ok(number)) = (writer.parse(), number.parse()) else { continue };
            acknowledged.insert(writer, number);
            count += 1;
            if count == 300 * round {
                child.kill().expect("killed");
            }
        }
        let _ = child.wait();
        assert!(count >= 300 * round, "the child wrote only {count} times");
        let store = Store::open(options(dir.path())).await.expect("opens after the crash");
        for (writer, number) in &acknowledged {
            let snapshot = store.snapshot();
            let text = snapshot.get(format!("w{writer}").as_bytes()).expect("there").value.clone();
            let found: u64 = std::str::from_utf8(&text).expect("digits").parse().expect("a number");
            assert!(found >= *number, "round {round}: writer {writer} had {number} acknowledged, {found} is there");
        }
        store.close().await;
    }
}
