//! The store's promises, each held by a test (README.md lists them).

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use corten_base::Clock;
use proptest::prelude::*;

use crate::engine::Place;
use crate::{Compare, Op, OpenError, Options, Outcome, RevisionError, Store, Txn};

fn options(dir: Option<&Path>) -> Options {
    Options {
        dir: dir.map(Path::to_owned),
        history: Duration::from_secs(3600),
        history_bytes: 64 << 20,
        clock: Clock::system(),
    }
}

async fn in_memory() -> Store {
    Store::open(options(None)).await.expect("opens")
}

/// With segments and checkpoints so small that a few writes cross them.
async fn small(dir: &Path) -> Result<Store, OpenError> {
    let place = Place { dir: dir.to_owned(), segment_bytes: 4096, checkpoint_bytes: 8192 };
    Store::open_at(options(Some(dir)), Some(place)).await
}

fn put(key: &str, value: &str) -> Op {
    Op::Put {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        stamp: None,
        lease: 0,
    }
}

fn delete(key: &str) -> Op {
    Op::Delete { key: Bytes::copy_from_slice(key.as_bytes()) }
}

async fn write(store: &Store, op: Op) -> u64 {
    match store.transact(Txn { compare: vec![], then: vec![op] }).await.expect("written") {
        Outcome::Committed { revision, .. } | Outcome::Conflict { revision, .. } => revision,
    }
}

fn contents(store: &Store) -> BTreeMap<String, String> {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    store.snapshot().prefix(b"").map(|(key, entry)| (text(key), text(&entry.value))).collect()
}

#[tokio::test]
async fn a_snapshot_never_changes() {
    let store = in_memory().await;
    write(&store, put("a", "1")).await;
    let before = store.snapshot();
    write(&store, put("a", "2")).await;
    assert_eq!(before.get(b"a").expect("a").value, "1");
    assert_eq!(store.snapshot().get(b"a").expect("a").value, "2");
}

#[tokio::test]
async fn every_kept_revision_can_be_read() {
    let store = in_memory().await;
    for number in 0..600 {
        write(&store, put("a", &number.to_string())).await;
    }
    for number in [0_u64, 1, 253, 254, 255, 256, 400, 599] {
        let snapshot = store.snapshot_at(number + 2).expect("kept");
        assert_eq!(snapshot.get(b"a").expect("a").value, number.to_string());
    }
    store.compact(300).await.expect("compacts");
    assert_eq!(store.snapshot_at(299).err(), Some(RevisionError::Compacted { asked: 299, oldest: 300 }));
    assert_eq!(store.snapshot_at(300).expect("kept").get(b"a").expect("a").value, "298");
    assert_eq!(store.snapshot_at(700).err(), Some(RevisionError::Future { asked: 700, current: 601 }));
}

#[tokio::test]
async fn history_is_bounded_by_bytes() {
    let store = Store::open(Options { history_bytes: 10_000, ..options(None) }).await.expect("opens");
    for _ in 0..100 {
        write(&store, put("a", &"x".repeat(1000))).await;
    }
    assert!(matches!(store.snapshot_at(50).err(), Some(RevisionError::Compacted { .. })));
    assert!(store.snapshot_at(99).is_ok());
}

#[tokio::test]
async fn a_watch_sees_every_change_once_and_in_order() {
    let store = in_memory().await;
    write(&store, put("a/1", "x")).await;
    let mut watch = store.watch(Bytes::from_static(b"a/"), 1).expect("watches");
    write(&store, put("b/1", "x")).await;
    let last = write(&store, delete("a/1")).await;
    let first = watch.next().await.expect("replayed");
    assert_eq!((first[0].revision, first[0].entry.is_some()), (2, true));
    let second = watch.next().await.expect("live");
    assert_eq!((second[0].revision, second[0].entry.is_some(), second[0].previous.is_some()), (4, false, true));
    assert_eq!(watch.progress(), last);
    let waiting = tokio::time::timeout(Duration::from_millis(20), watch.next()).await;
    assert!(waiting.is_err(), "nothing more happened");
    write(&store, put("b/2", "x")).await;
    let _ = tokio::time::timeout(Duration::from_millis(20), watch.next()).await;
    assert_eq!(watch.progress(), 5, "progress also covers what does not concern the watcher");
}

#[tokio::test]
async fn a_watch_from_forgotten_history_is_refused_and_a_slow_one_is_told() {
    let store = in_memory().await;
    let mut slow = store.watch(Bytes::new(), 1).expect("watches");
    for _ in 0..10 {
        write(&store, put("a", "x")).await;
    }
    store.compact(8).await.expect("compacts");
    assert_eq!(slow.next().await.err(), Some(RevisionError::Slow));
    assert_eq!(store.watch(Bytes::new(), 3).err(), Some(RevisionError::Compacted { asked: 3, oldest: 8 }));
    assert!(store.watch(Bytes::new(), 8).is_ok());
}

#[tokio::test]
async fn a_quiet_watch_is_not_slow() {
    let store = Store::open(Options { history_bytes: 10_000, ..options(None) }).await.expect("opens");
    let mut quiet = store.watch(Bytes::from_static(b"/registry/nodes/"), 1).expect("watches");
    let waiting = tokio::time::timeout(Duration::from_millis(5), quiet.next()).await;
    assert!(waiting.is_err(), "nothing happened");
    for _ in 0..100 {
        write(&store, put("/registry/pods/a/b", &"x".repeat(1000))).await;
    }
    let last = write(&store, put("/registry/nodes/a", "x")).await;
    assert_eq!(quiet.next().await.expect("the ring has passed it without loss")[0].revision, last);
    assert_eq!(quiet.progress(), last);
    for _ in 0..100 {
        write(&store, put("/registry/nodes/a", &"x".repeat(1000))).await;
    }
    assert_eq!(quiet.next().await.err(), Some(RevisionError::Slow), "what concerned it is lost");
}

#[tokio::test(start_paused = true)]
async fn a_lease_ends_when_it_is_not_renewed() {
    let store = in_memory().await;
    let lease = store.grant(Duration::from_secs(10)).await.expect("granted");
    let key = Bytes::from_static(b"a");
    let op = Op::Put { key, value: Bytes::new(), stamp: None, lease };
    write(&store, op).await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert!(store.keep_alive(lease).await.expect("asked"));
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert!(store.snapshot().get(b"a").is_some(), "renewed");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(store.snapshot().get(b"a").is_none(), "ended");
    assert!(!store.keep_alive(lease).await.expect("asked"));
}

#[tokio::test]
async fn a_closed_store_refuses_writes() {
    let dir = tempfile::tempdir().expect("a folder");
    for store in [in_memory().await, small(dir.path()).await.expect("opens")] {
        store.close().await;
        assert!(matches!(store.transact(Txn::default()).await, Err(crate::WriteError::Closed)));
    }
}

#[tokio::test]
async fn a_folder_has_one_user() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = small(dir.path()).await.expect("opens");
    let error = small(dir.path()).await.err().expect("refused").to_string();
    assert!(error.contains(&format!("in use by pid {}", std::process::id())), "{error}");
    store.close().await;
    drop(store);
    assert!(small(dir.path()).await.is_ok());
    std::fs::write(dir.path().join("VERSION"), "99\n").expect("written");
    assert!(matches!(small(dir.path()).await.err(), Some(OpenError::Version { .. })));
}

#[tokio::test]
async fn everything_survives_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut expected = BTreeMap::new();
    let mut revision = 0;
    for round in 0..5 {
        let store = small(dir.path()).await.expect("opens");
        assert_eq!(contents(&store), expected);
        for number in 0..100 {
            let (key, value) = (format!("k{}", number % 37), format!("{round}-{number}-{}", "x".repeat(100)));
            revision = write(&store, put(&key, &value)).await;
            expected.insert(key, value);
        }
        store.close().await;
    }
    let store = small(dir.path()).await.expect("opens");
    assert_eq!((contents(&store), store.snapshot().revision()), (expected, revision));
    let files = std::fs::read_dir(dir.path()).expect("lists").count();
    assert!(files < 20, "old segments and checkpoints are removed, but {files} files are there");
    let mut watch = store.watch(Bytes::new(), revision - 1).expect("history of before the restart is there");
    assert_eq!(watch.next().await.expect("replayed")[0].revision, revision);
}

/// A copy of a store's folder whose only log segment is changed by `change`.
fn damaged(from: &Path, change: impl FnOnce(&mut Vec<u8>)) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a folder");
    for entry in std::fs::read_dir(from).expect("lists").flatten() {
        let mut bytes = std::fs::read(entry.path()).expect("reads");
        if entry.file_name().to_string_lossy().starts_with("log-") {
            change(&mut bytes);
            std::fs::write(copy.path().join(entry.file_name()), &bytes).expect("writes");
            return copy;
        }
    }
    copy
}

/// A folder with one segment of three frames, and where each frame ends.
async fn three_frames() -> (tempfile::TempDir, Vec<usize>) {
    let dir = tempfile::tempdir().expect("a folder");
    let store = small(dir.path()).await.expect("opens");
    let mut ends = Vec::new();
    let segment = dir.path().join(format!("log-{:016x}", 1));
    for number in 0..3 {
        write(&store, put(&format!("k{number}"), "some value")).await;
        let bytes = std::fs::read(&segment).expect("reads");
        let dirty = bytes.iter().rposition(|&byte| byte != 0).expect("not empty") + 1;
        ends.push(dirty.next_multiple_of(8));
    }
    store.close().await;
    (dir, ends)
}

#[tokio::test]
async fn a_torn_end_loses_nothing_that_was_whole() {
    let (dir, ends) = three_frames().await;
    for cut in 0..=ends[2] {
        let copy = damaged(dir.path(), |bytes| bytes[cut..].fill(0));
        let store = small(copy.path()).await.expect("a torn end is repaired");
        // The padding behind a frame is zero, so a cut within it changes nothing.
        let whole = contents(&store).len();
        let expected = ends.iter().filter(|&&end| cut >= end).count();
        assert!(whole == expected || (whole == expected + 1 && ends[expected] - cut < 8), "cut at {cut}: {whole}");
        write(&store, put("after", "x")).await;
        store.close().await;
        drop(store);
        let again = small(copy.path()).await.expect("opens");
        assert_eq!(contents(&again).len(), whole + 1, "writes after the repair are kept");
    }
}

#[tokio::test]
async fn damage_in_the_middle_is_an_error_and_never_a_silent_loss() {
    let (dir, ends) = three_frames().await;
    for offset in 0..ends[2] {
        let copy = damaged(dir.path(), |bytes| bytes[offset] ^= 0x10);
        match small(copy.path()).await {
            Err(OpenError::Corrupt { path, .. }) => assert!(path.starts_with(copy.path())),
            Err(other) => panic!("flip at {offset}: {other}"),
            Ok(store) => {
                let whole = contents(&store).len();
                assert!(offset >= ends[1] || whole == 3, "flip at {offset} lost acknowledged writes: {whole} are left");
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8),
    Delete(u8),
    PutIfAbsent(u8, u8),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..8_u8, any::<u8>()).prop_map(|(key, value)| Step::Put(key, value)),
        2 => (0..8_u8).prop_map(Step::Delete),
        2 => (0..8_u8, any::<u8>()).prop_map(|(key, value)| Step::PutIfAbsent(key, value)),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever is done, the store holds what a map would, at every revision, and a watcher that adds up what it
    /// sees has the same.
    #[test]
    fn the_store_is_a_map_with_a_memory(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let dir = tempfile::tempdir().expect("a folder");
            let mut store = small(dir.path()).await.expect("opens");
            let mut model: BTreeMap<String, String> = BTreeMap::new();
            let mut states = BTreeMap::from([(1, model.clone())]);
            for step in steps {
                let revision = match step {
                    Step::Put(key, value) => {
                        model.insert(key.to_string(), value.to_string());
                        write(&store, put(&key.to_string(), &value.to_string())).await
                    }
                    Step::Delete(key) => {
                        model.remove(&key.to_string());
                        write(&store, delete(&key.to_string())).await
                    }
                    Step::PutIfAbsent(key, value) => {
                        model.entry(key.to_string()).or_insert_with(|| value.to_string());
                        let compare = vec![Compare::ModRevision(Bytes::from(key.to_string()), 0)];
                        let then = vec![put(&key.to_string(), &value.to_string())];
                        match store.transact(Txn { compare, then }).await.expect("written") {
                            Outcome::Committed { revision, .. } | Outcome::Conflict { revision, .. } => revision,
                        }
                    }
                    Step::Reopen => {
                        store.close().await;
                        drop(store);
                        store = small(dir.path()).await.expect("opens again");
                        store.snapshot().revision()
                    }
                };
                states.insert(revision, model.clone());
                prop_assert_eq!(contents(&store), model.clone());
            }
            let mut seen: BTreeMap<String, String> = BTreeMap::new();
            let newest = store.snapshot().revision();
            for (revision, state) in &states {
                if let Ok(snapshot) = store.snapshot_at(*revision) {
                    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
                    let then: BTreeMap<_, _> = snapshot.prefix(b"").map(|(key, entry)| (text(key), text(&entry.value))).collect();
                    prop_assert_eq!(&then, state);
                }
            }
            if let Ok(mut watch) = store.watch(Bytes::new(), 1) {
                while watch.progress() < newest {
                    for event in watch.next().await.expect("kept").iter() {
                        let key = String::from_utf8_lossy(&event.key).into_owned();
                        match &event.entry {
                            Some(entry) => seen.insert(key, String::from_utf8_lossy(&entry.value).into_owned()),
                            None => seen.remove(&key),
                        };
                    }
                }
                prop_assert_eq!(&seen, &model);
            }
            Ok(())
        })?;
    }
}
