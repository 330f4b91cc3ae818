//! Pods that wait for a node.
//!
//! - `active`: to be tried now, the most important first.
//! - `backoff`: a change may have helped; they wait a little after a failure, but not while there is nothing else to do.
//! - `penalty`: something failed that has nothing to do with the pod; they wait in any case.
//! - `waiting`: nothing would come of trying until something changes that the objecting plugins heed.
//! - gated pods are in none of them.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap as ByText};
use std::sync::Arc;
use std::time::Duration;

use corten_base::Timestamp;
use corten_client::Key;

use crate::cache::Cache;
use crate::framework::Change;
use crate::model::{HashMap, PodInfo};
use crate::plugins::PLUGINS;

const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const MOST_BACKOFF: Duration = Duration::from_secs(10);
/// After so long a pod is tried again whatever happened: a hint may have been missed.
const PATIENCE: Duration = Duration::from_secs(300);

/// A pod in the queue, or on its way through a decision.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) pod: Arc<PodInfo>,
    /// How often it was tried.
    pub(crate) attempts: u32,
    failed_at: Timestamp,
    /// The plugins that objected, as bits.
    objectors: u32,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Active(Timestamp),
    Backoff(Timestamp),
    Penalty(Timestamp),
    Waiting(Timestamp),
    Gated,
}

/// The queue.
#[derive(Default)]
pub(crate) struct Queue {
    numbers: ByText<Key, u64>,
    entries: HashMap<u64, Entry>,
    last: u64,
    active: BTreeSet<(Reverse<i32>, Timestamp, u64)>,
    backoff: BTreeSet<(Timestamp, u64)>,
    penalty: BTreeSet<(Timestamp, u64)>,
    waiting: BTreeSet<(Timestamp, u64)>,
    /// How many waiting pods each plugin objected to.
    objections: [usize; 32],
}

impl Entry {
    /// The same pod as it is now.
    pub(crate) fn with(self, pod: PodInfo) -> Self {
        Self { pod: Arc::new(pod), ..self }
    }

    fn backoff_ends(&self) -> Timestamp {
        let doublings = self.attempts.saturating_sub(1).min(16);
        self.failed_at + (FIRST_BACKOFF * (1 << doublings)).min(MOST_BACKOFF)
    }
}

impl Queue {
    /// Takes in a pod that is new, or has changed.
    pub(crate) fn set(&mut self, pod: &Arc<PodInfo>, now: Timestamp) {
        let gated = pod.wants.as_ref().is_some_and(|wants| wants.gated);
        let fresh = Entry {
            pod: Arc::clone(pod),
            attempts: 0,
            failed_at: now,
            objectors: 0,
            place: if gated { Place::Gated } else { Place::Active(now) },
        };
        match self.take(&pod.key) {
            Some(old) if old.pod.uid == pod.uid => {
                let place = match old.place {
                    Place::Gated if gated => Place::Gated,
                    // It asks for something else: that may be what it takes.
                    Place::Gated | Place::Waiting(_) if !old.pod.asks_as(pod) => Place::Active(now),
                    place => place,
                };
                self.put(Entry { pod: Arc::clone(pod), place, ..old });
            }
            _ => self.put(fresh),
        }
    }

    /// Forgets a pod.
    pub(crate) fn remove(&mut self, key: &Key) {
        self.take(key);
    }

    /// Whether the pod is in the queue.
    pub(crate) fn knows(&self, key: &Key) -> bool {
        self.numbers.contains_key(key)
    }

    /// Whether the pod waits for a change.
    #[cfg(test)]
    pub(crate) fn is_waiting(&self, key: &Key) -> bool {
        let entry = self.numbers.get(key).and_then(|number| self.entries.get(number));
        entry.is_some_and(|entry| matches!(entry.place, Place::Waiting(_)))
    }

    /// The next pod to be tried. It is no longer in the queue.
    pub(crate) fn pop(&mut self) -> Option<Entry> {
        let number = self.active.first().map(|(_, _, number)| *number);
        let number = number.or_else(|| self.backoff.first().map(|(_, number)| *number))?;
        let key = self.entries.get(&number)?.pod.key.clone();
        let mut entry = self.take(&key)?;
        entry.attempts += 1;
        Some(entry)
    }

    /// Puts back a pod that fits nowhere, with the plugins that said so.
    pub(crate) fn rejected(&mut self, mut entry: Entry, objectors: u32, now: Timestamp) {
        entry.objectors = objectors;
        entry.failed_at = now;
        entry.place = Place::Waiting(now);
        self.put(entry);
    }

    /// Puts back a pod for which something else failed.
    pub(crate) fn failed(&mut self, mut entry: Entry, now: Timestamp) {
        entry.failed_at = now;
        entry.place = Place::Penalty(entry.backoff_ends());
        self.put(entry);
    }

    /// Has a pod that waits for a change be tried again without one, but not at once: what was to help it failed, and
    /// may fail again. A pod that has its turn already keeps it.
    pub(crate) fn postpone(&mut self, key: &Key, now: Timestamp) {
        if let Some(entry) = self.take(key) {
            match entry.place {
                Place::Waiting(_) | Place::Backoff(_) => self.failed(entry, now),
                Place::Active(_) | Place::Penalty(_) | Place::Gated => self.put(entry),
            }
        }
    }

    /// Gives a waiting pod another chance.
    pub(crate) fn retry(&mut self, key: &Key, now: Timestamp) {
        if let Some(entry) = self.take(key) {
            let place = match entry.place {
                Place::Waiting(_) => soonest(&entry, now),
                place => place,
            };
            self.put(Entry { place, ..entry });
        }
    }

    /// Gives those another chance whom the change may help.
    pub(crate) fn changed(&mut self, change: &Change<'_>, cache: &Cache, now: Timestamp) {
        if self.waiting.is_empty() {
            return;
        }
        let new_node = matches!(change, Change::NodeCame(_));
        let mut heeding = 0_u32;
        for (number, (plugin, _)) in PLUGINS.iter().enumerate() {
            if self.objections[number] > 0 && (new_node || plugin.heeds(change)) {
                heeding |= 1 << number;
            }
        }
        if heeding == 0 {
            return;
        }
        let helped = |number: &u64| {
            let Some(entry) = self.entries.get(number) else { return false };
            // Where there was no node at all, any will do for a try.
            if entry.objectors == u32::MAX {
                return new_node;
            }
            let mut left = entry.objectors & heeding;
            while left != 0 {
                let plugin = left.trailing_zeros() as usize;
                left &= left - 1;
                if PLUGINS[plugin].0.heeds(change) && PLUGINS[plugin].0.helps(&entry.pod, change, cache) {
                    return true;
                }
            }
            false
        };
        let numbers: Vec<u64> = self.waiting.iter().map(|(_, number)| *number).filter(helped).collect();
        self.wake(&numbers, now);
    }

    fn wake(&mut self, numbers: &[u64], now: Timestamp) {
        for number in numbers {
            if let Some(key) = self.entries.get(number).map(|entry| entry.pod.key.clone())
                && let Some(entry) = self.take(&key)
            {
                let place = soonest(&entry, now);
                self.put(Entry { place, ..entry });
            }
        }
    }

    /// Moves on those whose time has come.
    pub(crate) fn tick(&mut self, now: Timestamp) {
        while let Some((_, number)) = self.penalty.first().filter(|(ends, _)| *ends <= now).copied() {
            self.activate(number, now);
        }
        while let Some((_, number)) = self.backoff.first().filter(|(ends, _)| *ends <= now).copied() {
            self.activate(number, now);
        }
        let long = |(since, _): &&(Timestamp, u64)| *since + PATIENCE <= now;
        let numbers: Vec<u64> = self.waiting.iter().take_while(long).map(|(_, number)| *number).collect();
        self.wake(&numbers, now);
    }

    /// When `tick` has something to do next.
    pub(crate) fn next_tick(&self) -> Option<Timestamp> {
        let waiting = self.waiting.first().map(|(since, _)| *since + PATIENCE);
        let penalty = self.penalty.first().map(|(ends, _)| *ends);
        let backoff = self.backoff.first().map(|(ends, _)| *ends);
        [waiting, penalty, backoff].into_iter().flatten().min()
    }

    fn activate(&mut self, number: u64, now: Timestamp) {
        let Some(key) = self.entries.get(&number).map(|entry| entry.pod.key.clone()) else { return };
        if let Some(entry) = self.take(&key) {
            self.put(Entry { place: Place::Active(now), ..entry });
        }
    }

    fn take(&mut self, key: &Key) -> Option<Entry> {
        let number = self.numbers.remove(key)?;
        let entry = self.entries.remove(&number)?;
        match entry.place {
            Place::Active(since) => self.active.remove(&(Reverse(entry.pod.priority), since, number)),
            Place::Backoff(ends) => self.backoff.remove(&(ends, number)),
            Place::Penalty(ends) => self.penalty.remove(&(ends, number)),
            Place::Waiting(since) => {
                self.count(entry.objectors, false);
                self.waiting.remove(&(since, number))
            }
            Place::Gated => true,
        };
        Some(entry)
    }

    fn put(&mut self, entry: Entry) {
        self.take(&entry.pod.key);
        self.last += 1;
        let number = self.last;
        match entry.place {
            Place::Active(since) => self.active.insert((Reverse(entry.pod.priority), since, number)),
            Place::Backoff(ends) => self.backoff.insert((ends, number)),
            Place::Penalty(ends) => self.penalty.insert((ends, number)),
            Place::Waiting(since) => {
                self.count(entry.objectors, true);
                self.waiting.insert((since, number))
            }
            Place::Gated => true,
        };
        self.numbers.insert(entry.pod.key.clone(), number);
        self.entries.insert(number, entry);
    }

    fn count(&mut self, objectors: u32, comes: bool) {
        for (plugin, count) in self.objections.iter_mut().enumerate() {
            if objectors & (1 << plugin) != 0 {
                *count = if comes { *count + 1 } else { count.saturating_sub(1) };
            }
        }
    }
}

/// At once, unless it failed only just now.
fn soonest(entry: &Entry, now: Timestamp) -> Place {
    let ends = entry.backoff_ends();
    if ends > now { Place::Backoff(ends) } else { Place::Active(now) }
}
