//! What happened lately: a ring of commits, and roots from which older revisions are rebuilt.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::folders::Touched;
use crate::machine::Keys;
use crate::model::{Event, Revision, RevisionError};

/// A root is kept every so many revisions; an older state is the nearest root and at most so many replayed commits.
const ROOT_EVERY: Revision = 256;

/// The changes of one revision.
#[derive(Clone, Debug)]
pub(crate) struct Commit {
    pub(crate) at_millis: i64,
    pub(crate) events: Arc<[Event]>,
    bytes: usize,
}

/// History from `base` to now. The commit of revision `base + 1 + n` is the ring's element `n`.
#[derive(Debug)]
pub(crate) struct History {
    /// The oldest revision that can be read.
    base: Revision,
    base_keys: Keys,
    commits: VecDeque<Commit>,
    roots: VecDeque<(Revision, Keys)>,
    bytes: usize,
    keep_millis: i64,
    keep_bytes: usize,
}

impl History {
    pub(crate) fn new(base: Revision, base_keys: Keys, keep_millis: i64, keep_bytes: usize) -> Self {
        let (commits, roots) = (VecDeque::new(), VecDeque::new());
        Self { base, base_keys, commits, roots, bytes: 0, keep_millis, keep_bytes }
    }

    /// The oldest revision that can be read.
    pub(crate) fn oldest(&self) -> Revision {
        self.base
    }

    fn newest(&self) -> Revision {
        self.base + self.commits.len() as Revision
    }

    /// Adds the next revision; `keys` is the state after it. Forgets what is too old or too much.
    pub(crate) fn push(&mut self, events: Vec<Event>, keys: &Keys, at_millis: i64, touched: &mut Touched) {
        let bytes = events.iter().map(size).sum();
        self.bytes += bytes;
        self.commits.push_back(Commit { at_millis, events: events.into(), bytes });
        if self.newest().is_multiple_of(ROOT_EVERY) {
            self.roots.push_back((self.newest(), keys.clone()));
        }
        let horizon = at_millis.saturating_sub(self.keep_millis);
        while self.commits.front().is_some_and(|first| first.at_millis < horizon || self.bytes > self.keep_bytes)
            && self.commits.len() > 1
        {
            self.forget_first(touched);
        }
    }

    /// Forgets what is older than `revision`, as far as it is there.
    pub(crate) fn compact(&mut self, revision: Revision, touched: &mut Touched) {
        while self.base < revision && !self.commits.is_empty() {
            self.forget_first(touched);
        }
    }

    fn forget_first(&mut self, touched: &mut Touched) {
        let Some(first) = self.commits.pop_front() else { return };
        self.bytes -= first.bytes;
        self.base += 1;
        touched.lose(&first.events, self.base);
        if self.roots.front().is_some_and(|(revision, _)| *revision == self.base) {
            if let Some((_, keys)) = self.roots.pop_front() {
                self.base_keys = keys;
            }
        } else {
            replay(&mut self.base_keys, &first.events);
        }
    }

    /// The state at `revision`, which must not be newer than the newest.
    pub(crate) fn keys_at(&self, asked: Revision) -> Result<Keys, RevisionError> {
        if asked < self.base {
            return Err(RevisionError::Compacted { asked, oldest: self.base });
        }
        let root = self.roots.iter().rev().find(|(revision, _)| *revision <= asked);
        let (from, mut keys) =
            root.map_or_else(|| (self.base, self.base_keys.clone()), |(at, keys)| (*at, keys.clone()));
        let range = self.index(from)..self.index(asked);
        self.commits.range(range).for_each(|commit| replay(&mut keys, &commit.events));
        Ok(keys)
    }

    /// How many commits lie up to `revision`.
    fn index(&self, revision: Revision) -> usize {
        usize::try_from(revision.saturating_sub(self.base)).unwrap_or(usize::MAX).min(self.commits.len())
    }

    /// The first commit after `after` that touches the prefix, with its revision; or how far there is none.
    pub(crate) fn next(&self, prefix: &[u8], after: Revision) -> Result<Next, RevisionError> {
        if after < self.base {
            return Err(RevisionError::Compacted { asked: after, oldest: self.base });
        }
        let first = self.index(after);
        for (offset, commit) in self.commits.range(first..).enumerate() {
            let matching = commit.events.iter().filter(|event| event.key.starts_with(prefix)).count();
            if matching == 0 {
                continue;
            }
            let revision = self.base + (first + offset) as Revision + 1;
            let events = if matching == commit.events.len() {
                Arc::clone(&commit.events)
            } else {
                commit.events.iter().filter(|event| event.key.starts_with(prefix)).cloned().collect()
            };
            return Ok(Next::Events(revision, events));
        }
        Ok(Next::Nothing(self.newest().max(after)))
    }
}

/// What a watcher finds.
#[derive(Debug)]
pub(crate) enum Next {
    /// Changes, and their revision.
    Events(Revision, Arc<[Event]>),
    /// None up to this revision.
    Nothing(Revision),
}

fn replay(keys: &mut Keys, events: &[Event]) {
    for event in events {
        match &event.entry {
            Some(entry) => keys.insert(event.key.clone(), entry.clone()),
            None => keys.remove(&event.key),
        };
    }
}

/// Bytes that live only for history's sake, roughly.
fn size(event: &Event) -> usize {
    128 + event.key.len() + event.previous.as_ref().map_or(0, |entry| entry.value.len())
}
