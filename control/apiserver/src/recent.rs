//! What was made of recent events, for all who watch them: each is encoded once a form, and parsed once.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use corten_store::Revision;

/// Values made of objects, by the object's key and revision and by what they are (`W`). Only the newest are kept:
/// watchers that are further behind make them anew.
pub(crate) struct Recent<W, V> {
    most_bytes: usize,
    inner: Mutex<Inner<W, V>>,
}

struct Inner<W, V> {
    made: HashMap<Revision, Vec<Made<W, V>>>,
    /// Oldest first, with the bytes that hang on each.
    order: VecDeque<(Revision, usize)>,
    bytes: usize,
}

struct Made<W, V> {
    key: Bytes,
    what: W,
    value: V,
}

impl<W, V> Default for Inner<W, V> {
    fn default() -> Self {
        Self { made: HashMap::new(), order: VecDeque::new(), bytes: 0 }
    }
}

impl<W: PartialEq, V: Clone> Recent<W, V> {
    /// Keeps so many bytes.
    pub(crate) fn new(most_bytes: usize) -> Self {
        Self { most_bytes, inner: Mutex::default() }
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        *self.inner.lock().unwrap_or_else(PoisonError::into_inner) = Inner::default();
    }

    /// The value, made now if nobody has made it. `size` is roughly what it holds in memory.
    pub(crate) fn get_or_make<E>(
        &self,
        revision: Revision,
        key: &Bytes,
        what: W,
        size: impl FnOnce(&V) -> usize,
        make: impl FnOnce() -> Result<V, E>,
    ) -> Result<V, E> {
        let find = |inner: &Inner<W, V>, what: &W| {
            let made = inner.made.get(&revision)?.iter().find(|made| made.what == *what && made.key == key)?;
            Some(made.value.clone())
        };
        if let Some(value) = find(&self.inner.lock().unwrap_or_else(PoisonError::into_inner), &what) {
            return Ok(value);
        }
        // Not under the lock: two watchers may both make it, and nobody waits.
        let value = make()?;
        let size = size(&value) + 128;
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if find(&inner, &what).is_none() {
            inner.add(revision, size, Made { key: key.clone(), what, value: value.clone() });
            inner.shrink(self.most_bytes);
        }
        Ok(value)
    }
}

impl<W, V> Inner<W, V> {
    fn add(&mut self, revision: Revision, size: usize, made: Made<W, V>) {
        self.bytes += size;
        let all = self.made.entry(revision).or_default();
        if all.is_empty() {
            self.order.push_back((revision, size));
        } else if let Some((_, sum)) = self.order.iter_mut().rev().find(|(known, _)| *known == revision) {
            *sum += size;
        }
        all.push(made);
    }

    fn shrink(&mut self, most_bytes: usize) {
        while self.bytes > most_bytes && self.order.len() > 1 {
            let Some((oldest, size)) = self.order.pop_front() else { return };
            self.made.remove(&oldest);
            self.bytes -= size;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn values_are_made_once_and_not_kept_for_ever() {
        let recent: Recent<u8, Bytes> = Recent::new(100 << 10);
        let mut made = 0;
        let mut get = |revision: Revision, key: &'static [u8], what| {
            let make = || {
                made += 1;
                Ok::<_, Infallible>(Bytes::from(vec![what; 1 << 10]))
            };
            let value = recent.get_or_make(revision, &Bytes::from_static(key), what, Bytes::len, make).expect("made");
            assert_eq!(value[0], what);
            made
        };
        assert_eq!(
            [get(1, b"a", 1), get(1, b"a", 1), get(1, b"b", 1), get(1, b"a", 2), get(2, b"a", 1)],
            [1, 1, 2, 3, 4]
        );
        for revision in 3..2000 {
            get(revision, b"a", 1);
        }
        let inner = recent.inner.lock().expect("whole");
        let kept = (100 << 10) / (1024 + 128);
        assert_eq!((inner.made.len(), inner.order.len(), inner.bytes), (kept, kept, kept * (1024 + 128)));
        drop(inner);
        recent.clear();
        assert!(recent.inner.lock().expect("whole").made.is_empty());
    }
}
