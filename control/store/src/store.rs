//! The handle that everybody else holds.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use corten_base::Random;

use crate::checkpoint;
use crate::command::Command;
use crate::engine::{Consensus, Inner, Place, View};
use crate::folders::Touched;
use crate::history::History;
use crate::lease::{Deadlines, expire};
use crate::log::{Log, SEGMENT_BYTES};
use crate::machine::{Keys, Machine};
use crate::model::{Entry, LeaseId, OpenError, Options, Outcome, Revision, RevisionError, Txn, WriteError};
use crate::single::{InMemory, OnDisk};
use crate::watch::Watch;

/// What the VERSION file of a folder of this format says.
const VERSION: &str = "1";

/// Bytes of log after which a checkpoint is written: bounds what a start must replay.
const CHECKPOINT_BYTES: u64 = 16 << 20;

/// A store. Clones are handles on the same one.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

struct Shared {
    view: Arc<View>,
    consensus: Arc<dyn Consensus>,
    deadlines: Arc<Deadlines>,
    expiry: tokio::task::AbortHandle,
    random: Random,
    /// Keeps other processes out as long as the store is open.
    _lock: Option<File>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.expiry.abort();
    }
}

impl Store {
    /// Opens a store, recovering what is there. One process may hold a directory at a time.
    pub async fn open(options: Options) -> Result<Self, OpenError> {
        let place = options.dir.clone().map(|dir| Place {
            dir,
            segment_bytes: SEGMENT_BYTES,
            checkpoint_bytes: CHECKPOINT_BYTES,
        });
        Self::open_at(options, place).await
    }

    pub(crate) async fn open_at(options: Options, place: Option<Place>) -> Result<Self, OpenError> {
        let (view, consensus, lock): (Arc<View>, Arc<dyn Consensus>, Option<File>) = match place {
            None => {
                let view = new_view(Machine::default(), &options);
                let consensus = InMemory::new(Arc::clone(&view), options.clock.clone());
                (view, Arc::new(consensus), None)
            }
            Some(place) => {
                let clock = options.clock.clone();
                let opened = tokio::task::spawn_blocking(move || {
                    let dir = place.dir.clone();
                    let lock = take(&dir)?;
                    let (inner, log, bytes) = recover(&place, &options)?;
                    let view = View::new(inner.machine, inner.history);
                    let writer = OnDisk::start(Arc::clone(&view), clock, place, log, bytes)
                        .map_err(OpenError::io("start the thread that writes", dir))?;
                    Ok((view, writer, lock))
                });
                let (view, writer, lock) = opened.await.map_err(|error| OpenError::Io {
                    action: "open",
                    path: "the store".into(),
                    source: std::io::Error::other(error),
                })??;
                (view, Arc::new(writer), Some(lock))
            }
        };
        let deadlines = Arc::new(Deadlines::default());
        view.read(|inner| {
            for (id, lease) in &inner.machine.leases {
                deadlines.set(*id, Duration::from_millis(lease.ttl_millis));
            }
        });
        let expiry = tokio::spawn(expire(Arc::clone(&deadlines), Arc::clone(&consensus))).abort_handle();
        let shared = Shared { view, consensus, deadlines, expiry, random: Random::system(), _lock: lock };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The newest applied state.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let (revision, keys) = self.shared.view.keys();
        Snapshot { revision, keys }
    }

    /// The state at `revision`.
    pub fn snapshot_at(&self, asked: Revision) -> Result<Snapshot, RevisionError> {
        self.shared.view.read(|inner| {
            let current = inner.machine.revision;
            if asked > current {
                return Err(RevisionError::Future { asked, current });
            }
            if asked == current {
                return Ok(Snapshot { revision: current, keys: inner.machine.keys.clone() });
            }
            Ok(Snapshot { revision: asked, keys: inner.history.keys_at(asked)? })
        })
    }

    /// Waits until everything acknowledged anywhere before this call is applied here; returns the newest state.
    pub async fn read(&self) -> Result<Snapshot, WriteError> {
        self.shared.consensus.read_barrier().await?;
        Ok(self.snapshot())
    }

    /// Waits until `revision` is applied here.
    pub async fn reached(&self, revision: Revision) {
        // The sender lives in the view, so waiting cannot fail.
        let _ = self.shared.view.revisions().wait_for(|&current| current >= revision).await;
    }

    /// The newest revision, for those who wait for it to change.
    #[must_use]
    pub fn revisions(&self) -> tokio::sync::watch::Receiver<Revision> {
        self.shared.view.revisions()
    }

    /// Carries out a transaction; returns when it is durable and applied.
    pub async fn transact(&self, txn: Txn) -> Result<Outcome, WriteError> {
        self.shared.consensus.propose(Command::Txn(txn)).await
    }

    /// Changes of keys that start with `prefix`, of revisions greater than `after`.
    pub fn watch(&self, prefix: Bytes, after: Revision) -> Result<Watch, RevisionError> {
        Watch::new(Arc::clone(&self.shared.view), prefix, after)
    }

    /// Forgets history before `revision`.
    pub async fn compact(&self, revision: Revision) -> Result<(), WriteError> {
        self.shared.consensus.propose(Command::Compact { revision }).await.map(|_| ())
    }

    /// A lease that ends `ttl` after its last renewal; its keys are deleted with it.
    pub async fn grant(&self, ttl: Duration) -> Result<LeaseId, WriteError> {
        let bytes = self.shared.random.bytes16();
        // Positive and never 0, which means none.
        let id = LeaseId::from_le_bytes([
            bytes[0],
            bytes[1],
            bytes[2],
            bytes[3],
            bytes[4],
            bytes[5],
            bytes[6],
            bytes[7] & 0x7f,
        ]) | 1;
        let ttl_millis = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        self.shared.consensus.propose(Command::Grant { id, ttl_millis }).await?;
        self.shared.deadlines.set(id, ttl);
        Ok(id)
    }

    /// Renews a lease; false if it has ended.
    pub async fn keep_alive(&self, lease: LeaseId) -> Result<bool, WriteError> {
        Ok(self.shared.deadlines.renew(lease))
    }

    /// Ends a lease now.
    pub async fn revoke(&self, lease: LeaseId) -> Result<(), WriteError> {
        self.shared.consensus.propose(Command::Revoke { id: lease }).await?;
        self.shared.deadlines.remove(lease);
        Ok(())
    }

    /// Flushes and stops; later writes fail with `Closed`.
    pub async fn close(&self) {
        self.shared.expiry.abort();
        self.shared.consensus.close().await;
    }
}

/// The state at one revision; immutable, cheap to clone, never blocks writers.
#[derive(Clone)]
pub struct Snapshot {
    revision: Revision,
    keys: Keys,
}

impl Snapshot {
    /// Revision of this state.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Entry of a key.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&Entry> {
        self.keys.get(key)
    }

    /// Entries in key order.
    pub fn range(&self, keys: impl RangeBounds<Bytes>) -> impl Iterator<Item = (&Bytes, &Entry)> {
        self.keys.range(keys)
    }

    /// Entries whose keys start with `prefix`, in key order.
    pub fn prefix(&self, prefix: &[u8]) -> impl Iterator<Item = (&Bytes, &Entry)> {
        let prefix = Bytes::copy_from_slice(prefix);
        self.keys
            .range((Bound::Included(prefix.clone()), Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(&prefix))
    }
}

fn new_view(machine: Machine, options: &Options) -> Arc<View> {
    let history = new_history(&machine, options);
    View::new(machine, history)
}

fn new_history(machine: &Machine, options: &Options) -> History {
    let millis = i64::try_from(options.history.as_millis()).unwrap_or(i64::MAX);
    History::new(machine.revision, machine.keys.clone(), millis, options.history_bytes)
}

/// The state as of the last durable write, and the log open behind it.
fn recover(place: &Place, options: &Options) -> Result<(Inner, Log, u64), OpenError> {
    let machine = match checkpoint::list(&place.dir)?.first() {
        Some(&index) => checkpoint::read(&place.dir, index)?,
        None => Machine::default(),
    };
    let recovered = Log::open(&place.dir, machine.applied + 1, place.segment_bytes)?;
    let history = new_history(&machine, options);
    let mut inner = Inner { machine, history };
    for entry in &recovered.entries {
        inner.apply(entry, &mut Touched::default());
    }
    Ok((inner, recovered.log, recovered.bytes))
}

/// Makes the folder, locks it, and checks that it is of this format.
fn take(dir: &Path) -> Result<File, OpenError> {
    fs::create_dir_all(dir).map_err(OpenError::io("make the folder", dir))?;
    let path = dir.join("LOCK");
    let mut lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(OpenError::io("open", &path))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _ = lock.read_to_string(&mut pid);
            let holder = pid.trim().parse::<u32>().map_or("another process".to_owned(), |pid| format!("pid {pid}"));
            return Err(OpenError::InUse { dir: dir.to_owned(), holder });
        }
        Err(TryLockError::Error(error)) => return Err(OpenError::io("lock", &path)(error)),
    }
    lock.set_len(0)
        .and_then(|()| lock.rewind())
        .and_then(|()| writeln!(lock, "{}", std::process::id()))
        .map_err(OpenError::io("write", &path))?;
    let version = dir.join("VERSION");
    match fs::read_to_string(&version) {
        Ok(found) if found.trim() == VERSION => Ok(lock),
        Ok(found) => Err(OpenError::Version { dir: dir.to_owned(), found: found.trim().to_owned(), known: VERSION }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            fs::write(&version, format!("{VERSION}\n")).map_err(OpenError::io("write", &version))?;
            Ok(lock)
        }
        Err(error) => Err(OpenError::io("read", &version)(error)),
    }
}
