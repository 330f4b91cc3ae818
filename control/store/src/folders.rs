//! Who is woken by what: watchers wait for changes in their folder, not for every change.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use tokio::sync::watch;

use crate::model::{Event, Revision};

/// Folders that nobody watches any more are forgotten once there are more than so many.
const MOST_IDLE: usize = 256;

/// Name of the folder of a key or prefix: up to its third slash, such as `/registry/pods/`. None if it has fewer.
pub(crate) fn name(key: &[u8]) -> Option<&[u8]> {
    let third = key.iter().enumerate().filter(|(_, byte)| **byte == b'/').nth(2)?.0;
    Some(&key[..=third])
}

/// A part of the keys, and when it changed.
#[derive(Debug)]
pub(crate) struct Folder {
    /// No change is newer. Set together with the state; watchers are woken a moment later.
    last: AtomicU64,
    /// No change that history has forgotten is newer.
    lost: AtomicU64,
    wake: watch::Sender<Revision>,
}

impl Folder {
    pub(crate) fn new(last: Revision, lost: Revision) -> Arc<Self> {
        Arc::new(Self { last: AtomicU64::new(last), lost: AtomicU64::new(lost), wake: watch::Sender::new(last) })
    }

    /// No change of the folder is newer than this.
    pub(crate) fn last(&self) -> Revision {
        self.last.load(Ordering::Acquire)
    }

    /// No change that history has forgotten is newer than this.
    pub(crate) fn lost(&self) -> Revision {
        self.lost.load(Ordering::Acquire)
    }

    /// Sets the newest change, which nobody is told yet.
    pub(crate) fn touch(&self, revision: Revision) {
        self.last.store(revision, Ordering::Release);
    }

    /// Sets the newest change that is forgotten.
    pub(crate) fn forget(&self, revision: Revision) {
        self.lost.store(revision, Ordering::Release);
    }

    /// Wakes those who wait.
    pub(crate) fn wake(&self) {
        let last = self.last();
        self.wake.send_if_modified(|seen| std::mem::replace(seen, last) != last);
    }

    /// The newest change that was told.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Revision> {
        self.wake.subscribe()
    }
}

/// The folders that are or were watched, by name.
#[derive(Debug, Default)]
pub(crate) struct Folders(RwLock<HashMap<Box<[u8]>, Arc<Folder>>>);

impl Folders {
    /// The folder of this name; a new one may have changed as late as `last`, and have lost as much as up to `lost`.
    pub(crate) fn get(&self, name: &[u8], last: Revision, lost: Revision) -> Arc<Folder> {
        let mut folders = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if folders.len() > MOST_IDLE {
            folders.retain(|_, folder| Arc::strong_count(folder) > 1);
        }
        Arc::clone(folders.entry(name.into()).or_insert_with(|| Folder::new(last, lost)))
    }

    /// Notes what became of folders, as far as they are known; returns those that changed.
    pub(crate) fn note(&self, touched: &Touched, revision: Revision) -> Vec<Arc<Folder>> {
        let folders = self.0.read().unwrap_or_else(PoisonError::into_inner);
        for (name, revision) in &touched.lost {
            if let Some(folder) = folders.get(&name[..]) {
                folder.forget(*revision);
            }
        }
        let changed = touched.changed.iter().filter_map(|name| folders.get(&name[..]).cloned());
        changed.inspect(|folder| folder.touch(revision)).collect()
    }
}

/// Names of folders that a few commits are about.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    changed: BTreeSet<Bytes>,
    /// With the newest change that history has forgotten.
    lost: BTreeMap<Bytes, Revision>,
}

impl Touched {
    /// These changes are new.
    pub(crate) fn change(&mut self, events: &[Event]) {
        for event in events {
            if let Some(name) = name(&event.key)
                && !self.changed.contains(name)
            {
                self.changed.insert(event.key.slice(..name.len()));
            }
        }
    }

    /// These changes, of this revision, can no longer be read.
    pub(crate) fn lose(&mut self, events: &[Event], revision: Revision) {
        for event in events {
            if let Some(name) = name(&event.key) {
                match self.lost.get_mut(name) {
                    Some(newest) => *newest = revision,
                    None => drop(self.lost.insert(event.key.slice(..name.len()), revision)),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_end_at_the_third_slash() {
        assert_eq!(name(b"/registry/pods/default/a"), Some(&b"/registry/pods/"[..]));
        assert_eq!(name(b"/registry/pods/"), Some(&b"/registry/pods/"[..]));
        assert_eq!(name(b"/registry/pods"), None);
        assert_eq!(name(b""), None);
    }

    #[test]
    fn only_those_concerned_are_woken() {
        let folders = Folders::default();
        let (pods, nodes) = (folders.get(b"/registry/pods/", 1, 0), folders.get(b"/registry/nodes/", 1, 0));
        let (for_pods, for_nodes) = (pods.subscribe(), nodes.subscribe());
        let event = |key| Event { key: Bytes::from_static(key), entry: None, previous: None, revision: 7 };
        let mut touched = Touched::default();
        touched.change(&[event(b"/registry/pods/a/b"), event(b"x"), event(b"/registry/unknown/a")]);
        touched.lose(&[event(b"/registry/nodes/a")], 3);
        folders.note(&touched, 7).iter().for_each(|folder| folder.wake());
        assert!(for_pods.has_changed().expect("open") && !for_nodes.has_changed().expect("open"));
        assert_eq!((pods.last(), nodes.last(), pods.lost(), nodes.lost()), (7, 1, 0, 3));
    }

    #[test]
    fn what_nobody_watches_is_forgotten() {
        let folders = Folders::default();
        let kept = folders.get(b"/a/kept/", 1, 0);
        for number in 0..2 * MOST_IDLE {
            folders.get(format!("/a/{number}/").as_bytes(), 1, 0);
        }
        assert!(folders.0.read().expect("lock").len() <= MOST_IDLE + 1);
        assert!(Arc::ptr_eq(&kept, &folders.get(b"/a/kept/", 9, 0)));
    }
}
