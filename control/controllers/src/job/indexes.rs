//! Sets of the indexes of a job, kept and written as intervals: `1,3-5,7`.

use std::fmt;

/// A set of indexes: intervals, first and last included, in order, with a gap before each next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Indexes(Vec<(i32, i32)>);

impl Indexes {
    /// Reads what a status says. What cannot be read is passed over, and so is what lies beyond the job's end, since a
    /// job may have shrunk.
    pub(super) fn parse(text: &str, completions: i32) -> Self {
        let mut intervals = Vec::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (Ok(first), Ok(last)) = (first.parse::<i32>(), last.parse::<i32>()) else { continue };
            let last = last.min(completions - 1);
            if 0 <= first && first <= last {
                intervals.push((first, last));
            }
        }
        Self::of(intervals)
    }

    /// Sorts and joins intervals.
    fn of(mut intervals: Vec<(i32, i32)>) -> Self {
        intervals.sort_unstable();
        let mut joined: Vec<(i32, i32)> = Vec::with_capacity(intervals.len());
        for (first, last) in intervals {
            match joined.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => joined.push((first, last)),
            }
        }
        Self(joined)
    }

    /// The set with more indexes in it.
    pub(super) fn with(&self, more: impl IntoIterator<Item = i32>) -> Self {
        let more = more.into_iter().map(|index| (index, index));
        Self::of(self.0.iter().copied().chain(more).collect())
    }

    /// What is in either set.
    pub(super) fn union(&self, other: &Self) -> Self {
        Self::of(self.0.iter().chain(&other.0).copied().collect())
    }

    pub(super) fn contains(&self, index: i32) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= index);
        after.checked_sub(1).is_some_and(|at| index <= self.0[at].1)
    }

    /// How many indexes there are.
    pub(super) fn total(&self) -> i32 {
        let total: i64 = self.0.iter().map(|(first, last)| i64::from(*last) - i64::from(*first) + 1).sum();
        i32::try_from(total).unwrap_or(i32::MAX)
    }

    /// How many indexes are in both sets.
    pub(super) fn common(&self, other: &Self) -> i32 {
        let (mut left, mut right, mut total) = (self.0.iter().peekable(), other.0.iter().peekable(), 0_i64);
        while let (Some(&&(a, b)), Some(&&(c, d))) = (left.peek(), right.peek()) {
            total += (i64::from(b.min(d)) - i64::from(a.max(c)) + 1).max(0);
            if b < d {
                left.next()
            } else {
                right.next()
            };
        }
        i32::try_from(total).unwrap_or(i32::MAX)
    }

    /// The least `count` indexes below `end` that are not in the set.
    pub(super) fn missing(&self, count: usize, end: i32) -> Vec<i32> {
        let mut found = Vec::new();
        let mut next = 0;
        for (first, last) in self.0.iter().copied().chain([(end, end)]) {
            let room = count - found.len();
            found.extend((next..first.min(end)).take(room));
            next = next.max(last.saturating_add(1));
        }
        found
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.0.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            match last - first {
                0 => write!(f, "{comma}{first}")?,
                1 => write!(f, "{comma}{first},{last}")?,
                _ => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_written_in_the_shortest_form_and_read_again() {
        for (indexes, text) in [
            (vec![], ""),
            (vec![3], "3"),
            (vec![4, 3], "3,4"),
            (vec![1, 3, 5, 4, 7], "1,3-5,7"),
            (vec![0, 1, 2, 2, 9, 8, 7], "0-2,7-9"),
        ] {
            let set = Indexes::default().with(indexes);
            assert_eq!(set.to_string(), text);
            assert_eq!(Indexes::parse(text, 10), set);
        }
        assert_eq!(Indexes::parse("0-2,x,5,7-9,-1", 8).to_string(), "0-2,5,7", "garbage, and a job that shrank");
    }

    #[test]
    fn sets_know_what_they_have_and_lack() {
        let set = Indexes::parse("1,3-5", 10);
        let inside: Vec<i32> = (0..8).filter(|index| set.contains(*index)).collect();
        assert_eq!(inside, [1, 3, 4, 5]);
        assert_eq!(set.total(), 4);
        assert_eq!(set.missing(3, 10), [0, 2, 6]);
        assert_eq!(set.missing(9, 8), [0, 2, 6, 7]);
        assert_eq!(set.missing(9, 4), [0, 2]);
        assert_eq!(Indexes::default().missing(2, 10), [0, 1]);
        assert_eq!(set.common(&Indexes::parse("0-3,5-9", 10)), 3);
        assert_eq!(set.union(&Indexes::parse("2,9", 10)).to_string(), "1-5,9");
        assert_eq!(Indexes::parse("0-2147483646", i32::MAX).total(), i32::MAX);
    }
}
