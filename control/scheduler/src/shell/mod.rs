//! Watches, carries out what was decided, and tells.
//!
//! One task owns the core. Caches tell it which objects have changed; bindings and statuses are written by others, a
//! bounded number at a time, while it decides on.

mod bind;
mod evict;
mod feed;
mod inbox;
mod tell;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use corten_base::{Clock, Random};
use corten_client::{Client, Informers, Key, Recorder};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::core::{Core, Placement, Rejected, Step};
use crate::model::PodInfo;

use feed::Feed;
use tell::Told;

/// Writes that are under way at a time.
const MOST_WRITES: usize = 128;

/// Schedules until `cancel` fires.
pub async fn run(client: Client, informers: Informers, config: Config, cancel: CancellationToken) {
    let feed = Feed::new(&informers);
    let recorders = config
        .profiles
        .iter()
        .map(|profile| (profile.name.clone(), Recorder::new(client.clone(), &profile.name, None)))
        .collect();
    let writer = Arc::new(Writer { client, clock: config.clock, recorders, feed });
    let shell = Shell {
        core: Core::new(config.profiles, config.decisions),
        random: config.random,
        writes: JoinSet::new(),
        slow: 0,
        telling: HashMap::new(),
        writer,
    };
    tokio::select! {
        () = cancel.cancelled() => {}
        () = shell.run() => {}
    }
}

/// What those who write need.
struct Writer {
    client: Client,
    clock: Clock,
    /// By the name of the scheduler.
    recorders: HashMap<String, Arc<Recorder>>,
    feed: Feed,
}

/// What a write was about.
enum Done {
    Bound(Placement, bool),
    Told(Key),
    Evicted(Arc<PodInfo>, bool),
}

/// What is to be done about a pod once its status is written.
#[derive(Default)]
struct Next {
    told: Option<Told>,
    bind: Option<Placement>,
}

struct Shell {
    core: Core,
    random: Random,
    writes: JoinSet<Done>,
    /// How many of them wait for volumes, which may take minutes and keep nobody else waiting.
    slow: usize,
    /// Pods whose status is being written, and what comes next: in the order in which it was decided.
    telling: HashMap<Key, Next>,
    writer: Arc<Writer>,
}

impl Shell {
    async fn run(mut self) {
        self.writer.feed.synced().await;
        loop {
            self.look();
            if self.writes.len() - self.slow < MOST_WRITES {
                let now = self.writer.clock.now();
                if let Some(step) = self.core.next(now, self.random.below(usize::MAX)) {
                    self.carry_out(step);
                    // Others have work to do as well.
                    tokio::task::yield_now().await;
                    continue;
                }
            }
            let now = self.writer.clock.now();
            let pause = self.core.queue.next_tick().map(|at| Duration::try_from(at.duration_since(now)));
            let pause = pause.map_or(Duration::MAX, Result::unwrap_or_default).max(Duration::from_millis(1));
            let feed = &self.writer.feed;
            tokio::select! {
                () = feed.changed() => {}
                Some(done) = self.writes.join_next() => self.finish(done),
                () = tokio::time::sleep(pause), if pause < Duration::MAX => {}
            }
        }
    }

    /// Takes in what has happened.
    fn look(&mut self) {
        while let Some(done) = self.writes.try_join_next() {
            self.finish(done);
        }
        let writer = Arc::clone(&self.writer);
        for id in writer.feed.drain() {
            let now = writer.clock.now();
            writer.feed.apply(&mut self.core, &id, now);
            if let inbox::Id::Pod(key) = id
                && let Some(told) = writer.gated(&self.core, &key)
            {
                self.tell(key, told);
            }
        }
    }

    fn carry_out(&mut self, step: Step) {
        match step {
            Step::Bind(placement) => match self.telling.get_mut(&placement.pod.key) {
                // That it fits nowhere must not be written after that it was placed.
                Some(next) => *next = Next { told: None, bind: Some(placement) },
                None => self.bind(placement),
            },
            Step::Reject(rejected) => self.reject(rejected),
        }
    }

    fn bind(&mut self, placement: Placement) {
        self.slow += usize::from(!placement.claims.is_empty());
        let writer = Arc::clone(&self.writer);
        self.writes.spawn(async move {
            let bound = writer.bind(&placement).await;
            Done::Bound(placement, bound)
        });
    }

    fn reject(&mut self, rejected: Rejected) {
        let writer = Arc::clone(&self.writer);
        let Rejected { pod, scheduler, message, nomination, victims, displaced } = rejected;
        writer.report(&pod.key, &scheduler, &message);
        for own in displaced {
            self.tell(own.key.clone(), Told::without_room());
        }
        self.tell(pod.key.clone(), Told::unschedulable(message, nomination));
        if !victims.is_empty() {
            self.writes.spawn(async move {
                let evicted = writer.evict(&pod, &scheduler, &victims).await;
                Done::Evicted(pod, evicted)
            });
        }
    }

    /// Writes a pod's status, after what is being written already.
    fn tell(&mut self, key: Key, told: Told) {
        match self.telling.get_mut(&key) {
            Some(next) => next.told = Some(told.after(next.told.take())),
            None => {
                self.telling.insert(key.clone(), Next::default());
                let writer = Arc::clone(&self.writer);
                self.writes.spawn(async move {
                    writer.tell(&key, &told).await;
                    Done::Told(key)
                });
            }
        }
    }

    fn finish(&mut self, done: Result<Done, tokio::task::JoinError>) {
        let now = self.writer.clock.now();
        match done {
            Ok(Done::Bound(placement, bound)) => {
                self.slow -= usize::from(!placement.claims.is_empty());
                let pod = self.writer.feed.pod(&placement.pod.key);
                self.core.bound(&placement, bound, pod, now);
            }
            Ok(Done::Told(key)) => {
                let next = self.telling.remove(&key).unwrap_or_default();
                if let Some(placement) = next.bind {
                    self.bind(placement);
                } else if let Some(told) = next.told {
                    self.tell(key, told);
                }
            }
            Ok(Done::Evicted(pod, all)) => self.core.evicted(&pod, all, now),
            // The scheduler must not go on without knowing what became of a pod.
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => {}
        }
    }
}
