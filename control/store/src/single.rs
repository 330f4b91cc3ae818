//! Consensus of one member: its own log is the order.
//!
//! In memory a proposal is applied where it is made. With a disk, one thread takes all proposals that wait, writes them
//! as one frame, syncs once, applies them and acknowledges them (group commit).

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use corten_base::Clock;
use futures::FutureExt;
use futures::future::BoxFuture;
use thread_priority::unix::{
    NormalThreadSchedulePolicy, RealtimeThreadSchedulePolicy, ThreadSchedulePolicy, set_thread_priority_and_policy,
    thread_native_id,
};
use thread_priority::{ThreadPriority, ThreadPriorityValue};
use tokio::sync::{mpsc, oneshot};

use crate::checkpoint;
use crate::command::{Command, LogEntry};
use crate::engine::{Consensus, Place, View};
use crate::log::{self, Log};
use crate::machine::Machine;
use crate::model::{Outcome, WriteError};
use crate::pace::Pace;

/// The only term of a group of one.
const TERM: u64 = 1;
/// Proposals that may wait for the disk; beyond that, proposers wait.
const QUEUE: usize = 4096;
/// Most entries of one group.
const GROUP: usize = 1024;

type Answer = oneshot::Sender<Result<Outcome, WriteError>>;

/// Without a disk.
#[derive(Debug)]
pub(crate) struct InMemory {
    view: Arc<View>,
    clock: Clock,
    /// Index of the next entry; `None` once closed. Held while applying, which makes the order.
    next: Mutex<Option<u64>>,
}

impl InMemory {
    pub(crate) fn new(view: Arc<View>, clock: Clock) -> Self {
        Self { view, clock, next: Mutex::new(Some(1)) }
    }
}

impl Consensus for InMemory {
    fn propose(&self, command: Command) -> BoxFuture<'static, Result<Outcome, WriteError>> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let result = match next.as_mut() {
            None => Err(WriteError::Closed),
            Some(index) => {
                let entry =
                    LogEntry { index: *index, term: TERM, at_millis: self.clock.now().as_millisecond(), command };
                *index += 1;
                self.view.apply(&[entry]).pop().ok_or(WriteError::Closed)
            }
        };
        std::future::ready(result).boxed()
    }

    fn read_barrier(&self) -> BoxFuture<'static, Result<(), WriteError>> {
        std::future::ready(Ok(())).boxed()
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = None;
        std::future::ready(()).boxed()
    }
}

/// With a disk.
#[derive(Debug)]
pub(crate) struct OnDisk {
    proposals: Mutex<Option<mpsc::Sender<(Command, Answer)>>>,
    /// Ends when the writing thread has.
    done: tokio::sync::watch::Receiver<()>,
}

impl OnDisk {
    /// Starts the writing thread.
    pub(crate) fn start(
        view: Arc<View>,
        clock: Clock,
        place: Place,
        log: Log,
        log_bytes: u64,
    ) -> std::io::Result<Self> {
        let (sender, proposals) = mpsc::channel(QUEUE);
        let (ended, done) = tokio::sync::watch::channel(());
        let next = view.read(|inner| inner.machine.applied) + 1;
        let mut writer =
            Writer { view, clock, place, log, next, since_checkpoint: log_bytes, checkpoint_size: 0, writing: None };
        std::thread::Builder::new().name("store-log".to_owned()).spawn(move || {
            run_at_once();
            writer.run(proposals);
            drop(ended);
        })?;
        Ok(Self { proposals: Mutex::new(Some(sender)), done })
    }
}

impl Consensus for OnDisk {
    fn propose(&self, command: Command) -> BoxFuture<'static, Result<Outcome, WriteError>> {
        let sender = self.proposals.lock().unwrap_or_else(PoisonError::into_inner).clone();
        async move {
            let (answer, outcome) = oneshot::channel();
            let sender = sender.ok_or(WriteError::Closed)?;
            sender.send((command, answer)).await.map_err(|_| WriteError::Closed)?;
            drop(sender);
            outcome.await.map_err(|_| WriteError::Closed)?
        }
        .boxed()
    }

    fn read_barrier(&self) -> BoxFuture<'static, Result<(), WriteError>> {
        // Acknowledged means applied here, and there is no other member.
        std::future::ready(Ok(())).boxed()
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        self.proposals.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut done = self.done.clone();
        async move {
            // An error means that the other end is gone, which is what is waited for.
            while done.changed().await.is_ok() {}
        }
        .boxed()
    }
}

struct Writer {
    view: Arc<View>,
    clock: Clock,
    place: Place,
    log: Log,
    /// Index of the next entry.
    next: u64,
    /// Bytes of log since the last checkpoint was begun.
    since_checkpoint: u64,
    /// Size of the last checkpoint.
    checkpoint_size: u64,
    /// The checkpoint that is being written.
    writing: Option<JoinHandle<std::io::Result<u64>>>,
}

impl Writer {
    fn run(&mut self, mut proposals: mpsc::Receiver<(Command, Answer)>) {
        let mut group = Vec::with_capacity(GROUP);
        let mut pace = Pace::new(Instant::now());
        while proposals.blocking_recv_many(&mut group, GROUP) > 0 {
            let wait = pace.wait(Instant::now());
            if !wait.is_zero() {
                std::thread::sleep(wait);
                while group.len() < GROUP
                    && let Ok(proposal) = proposals.try_recv()
                {
                    group.push(proposal);
                }
            }
            pace.begun(Instant::now(), group.len());
            self.commit(&mut group);
            // A large state is written less often: what checkpoints write stays in proportion to what the log does.
            if self.since_checkpoint > self.place.checkpoint_bytes.max(self.checkpoint_size) {
                self.checkpoint();
            }
        }
        self.settle();
    }

    fn commit(&mut self, group: &mut Vec<(Command, Answer)>) {
        let at_millis = self.clock.now().as_millisecond();
        let (commands, answers): (Vec<Command>, Vec<Answer>) = group.drain(..).unzip();
        let entries: Vec<LogEntry> = commands
            .into_iter()
            .zip(self.next..)
            .map(|(command, index)| LogEntry { index, term: TERM, at_millis, command })
            .collect();
        match self.log.append(&entries) {
            Ok(bytes) => {
                self.next += entries.len() as u64;
                self.since_checkpoint += bytes;
                let outcomes = self.view.apply(&entries);
                for (answer, outcome) in answers.into_iter().zip(outcomes) {
                    // A proposer that no longer waits has its write nevertheless.
                    let _ = answer.send(Ok(outcome));
                }
            }
            Err(error) => {
                tracing::error!(%error, writes = answers.len(), "cannot write the log: the writes are refused");
                let error = Arc::new(error);
                for answer in answers {
                    let _ = answer.send(Err(WriteError::Log(Arc::clone(&error))));
                }
            }
        }
    }

    /// Begins a checkpoint unless one is being written. Commits go on meanwhile.
    fn checkpoint(&mut self) {
        if self.writing.as_ref().is_some_and(|writing| !writing.is_finished()) {
            return;
        }
        self.settle();
        self.since_checkpoint = 0;
        let machine = self.view.read(|inner| inner.machine.clone());
        let dir = self.place.dir.clone();
        let thread = std::thread::Builder::new().name("store-checkpoint".to_owned());
        let write = move || {
            run_in_turn();
            checkpoint_and_trim(&dir, &machine)
        };
        match thread.spawn(write) {
            Ok(writing) => self.writing = Some(writing),
            Err(error) => failed(&error),
        }
    }

    /// Waits for the checkpoint that is being written.
    fn settle(&mut self) {
        match self.writing.take().map(JoinHandle::join) {
            Some(Ok(Ok(size))) => self.checkpoint_size = size,
            Some(Ok(Err(error))) => failed(&error),
            Some(Err(_)) => failed(&std::io::Error::other("the thread that writes it panicked")),
            None => {}
        }
    }
}

/// Has this thread run as soon as it can. All who write wait for it, and it sleeps most of the time; in turn with all
/// others on a busy machine it would wake up a tick late (4 ms measured) after each sync. Where that is not allowed, it
/// is slower under load.
fn run_at_once() {
    let least = ThreadPriorityValue::try_from(1).map(ThreadPriority::Crossplatform).unwrap_or(ThreadPriority::Min);
    let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::RoundRobin);
    if let Err(error) = set_thread_priority_and_policy(thread_native_id(), least, policy) {
        tracing::debug!(?error, "the log's thread runs in turn with all others");
    }
}

/// Has this thread run in turn with all others: it inherits the policy of the one that starts it.
fn run_in_turn() {
    let policy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Other);
    if let Err(error) = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, policy) {
        tracing::debug!(?error, "the checkpoint's thread cannot be put back in turn");
    }
    // The least of that policy's priorities comes after all others; this asks for the usual one, of this thread alone.
    if let Err(error) = rustix::process::setpriority_process(None, 0) {
        tracing::debug!(?error, "the checkpoint's thread runs after all others");
    }
}

fn failed(error: &std::io::Error) {
    tracing::warn!(%error, "cannot write a checkpoint of the store: the log grows until one succeeds");
}

/// Writes a checkpoint and drops the log before the one before it: that much history survives a restart.
fn checkpoint_and_trim(dir: &Path, machine: &Machine) -> std::io::Result<u64> {
    let size = checkpoint::write(dir, machine)?;
    let all = checkpoint::list(dir).map_err(std::io::Error::other)?;
    let Some(superseded) = all.len().checked_sub(2) else { return Ok(size) };
    all[..superseded].iter().try_for_each(|&index| checkpoint::remove(dir, index))?;
    log::remove_before(dir, all[superseded] + 1)?;
    Ok(size)
}
