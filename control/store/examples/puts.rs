//! Durable 1 KiB puts a second with 1, 16 and 64 writers: `cargo run --release -p corten-store --example puts [DIR]`.

use std::time::{Duration, Instant};

use bytes::Bytes;
use corten_store::{Op, Options, Store, Txn};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let parent = std::env::args_os().nth(1).unwrap_or_else(|| std::env::temp_dir().into());
    for writers in [1, 16, 64] {
        let dir = tempfile::tempdir_in(&parent).expect("a folder");
        let options = Options {
            dir: Some(dir.path().to_owned()),
            history: Duration::from_secs(3600),
            history_bytes: 16 << 20,
            clock: corten_base::Clock::system(),
        };
        let store = Store::open(options).await.expect("opens");
        let start = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for writer in 0..writers {
            let store = store.clone();
            tasks.spawn(async move {
                let mut count = 0_u64;
                while start.elapsed() < Duration::from_secs(3) {
                    let key = Bytes::from(format!("key-{writer}-{}", count % 1000));
                    let op = Op::Put { key, value: Bytes::from(vec![b'x'; 1024]), stamp: None, lease: 0 };
                    store.transact(Txn { compare: vec![], then: vec![op] }).await.expect("written");
                    count += 1;
                }
                count
            });
        }
        let total: u64 = tasks.join_all().await.iter().sum();
        println!("{writers:>3} writers: {:>7.0} puts/s", total as f64 / start.elapsed().as_secs_f64());
        store.close().await;
    }
}
