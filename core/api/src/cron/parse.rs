//! How schedules are written.

use super::{Fields, Schedule, Times, zone};

/// A field of a schedule: its least and largest number, and names for the numbers from the least on.
struct Field {
    least: u32,
    most: u32,
    names: &'static [&'static str],
}

const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const FIELDS: [Field; 5] = [
    Field { least: 0, most: 59, names: &[] },
    Field { least: 0, most: 23, names: &[] },
    Field { least: 1, most: 31, names: &[] },
    Field { least: 1, most: 12, names: MONTHS },
    Field { least: 0, most: 6, names: DAYS },
];
/// Names for schedules.
const DESCRIPTORS: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];
/// Units of durations, in nanoseconds.
const UNITS: [(&str, f64); 8] =
    [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("μs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9)];

pub(super) fn schedule(text: &str) -> Result<Schedule, String> {
    let (own, text) = match text.strip_prefix("TZ=").or_else(|| text.strip_prefix("CRON_TZ=")) {
        None => (None, text),
        Some(rest) => {
            let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            let own = zone(name).ok_or_else(|| format!("provided bad location {name}: unknown time zone {name}"))?;
            (Some(own), rest.trim())
        }
    };
    if text.is_empty() {
        return Err("empty spec string".to_owned());
    }
    let times = if text.starts_with('@') { descriptor(text)? } else { Times::At(fields(text)?) };
    Ok(Schedule { zone: own, times })
}

fn fields(text: &str) -> Result<Fields, String> {
    let parts: Vec<&str> = text.split_whitespace().collect();
    if parts.len() != FIELDS.len() {
        return Err(format!("expected exactly 5 fields, found {}: [{}]", parts.len(), parts.join(" ")));
    }
    let mut sets = [(0, false); FIELDS.len()];
    for ((set, field), part) in sets.iter_mut().zip(&FIELDS).zip(parts) {
        for range in part.split(',').filter(|range| !range.is_empty()) {
            let (numbers, any) = field.range(range)?;
            *set = (set.0 | numbers, set.1 || any);
        }
    }
    let [(minutes, _), (hours, _), (days, any_day), (months, _), (weekdays, any_weekday)] = sets;
    Ok(Fields { minutes, hours, days, months, weekdays, either_day: !any_day && !any_weekday })
}

fn descriptor(text: &str) -> Result<Times, String> {
    if let Some(duration) = text.strip_prefix("@every ") {
        let seconds = seconds(duration).map_err(|why| format!("failed to parse duration {text}: {why}"))?;
        return Ok(Times::Every(seconds));
    }
    match DESCRIPTORS.iter().find(|(name, _)| *name == text) {
        Some((_, meaning)) => Ok(Times::At(fields(meaning)?)),
        None => Err(format!("unrecognized descriptor: {text}")),
    }
}

/// Durations as Go writes them: `1h30m`, `1.5s`. At least a second, and whole ones.
fn seconds(text: &str) -> Result<u32, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Ok(1);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let after = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let number = &rest[..rest.len() - after.len()];
        if !number.contains(|c: char| c.is_ascii_digit()) || number.matches('.').count() > 1 {
            return Err(invalid());
        }
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let unit = &after[..end];
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {text:?}"));
        }
        let Some((_, size)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(format!("time: unknown unit {unit:?} in duration {text:?}"));
        };
        total += number.parse::<f64>().map_err(|_| invalid())? * size;
        rest = &after[end..];
    }
    // What is longer than Go's durations can be is none.
    if total >= 9_223_372_036_854_775_807.0 {
        return Err(invalid());
    }
    let whole = if text.starts_with('-') { 1.0 } else { (total / 1e9).floor().max(1.0) };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is whole, and casts saturate")]
    Ok(whole as u32)
}

impl Field {
    /// The numbers of `*`, `a`, `a-b` and each with a step, such as `*/5`; and whether any number will do.
    fn range(&self, text: &str) -> Result<(u64, bool), String> {
        let (range, step) = match text.split('/').collect::<Vec<_>>().as_slice() {
            [range] => (*range, None),
            [range, step] => (*range, Some(*step)),
            _ => return Err(format!("too many slashes: {text}")),
        };
        let ends: Vec<&str> = range.split('-').collect();
        let any = matches!(ends.as_slice(), ["*" | "?", ..]);
        let (from, mut to) = match ends.as_slice() {
            _ if any => (self.least, self.most),
            [one] => {
                let one = self.number(one)?;
                (one, one)
            }
            [from, to] => (self.number(from)?, self.number(to)?),
            _ => return Err(format!("too many hyphens: {text}")),
        };
        let step = step.map(number).transpose()?;
        if step.is_some() && ends.len() == 1 {
            to = self.most;
        }
        let (least, most) = (self.least, self.most);
        if from < least {
            return Err(format!("beginning of range ({from}) below minimum ({least}): {text}"));
        }
        if to > most {
            return Err(format!("end of range ({to}) above maximum ({most}): {text}"));
        }
        if from > to {
            return Err(format!("beginning of range ({from}) beyond end of range ({to}): {text}"));
        }
        if step == Some(0) {
            return Err(format!("step of range should be a positive number: {text}"));
        }
        let step = step.unwrap_or(1);
        let stride = usize::try_from(step).unwrap_or(usize::MAX);
        let set = (from..=to).step_by(stride).fold(0, |set, number| set | 1_u64 << number);
        Ok((set, any && step == 1))
    }

    fn number(&self, text: &str) -> Result<u32, String> {
        let lower = text.to_lowercase();
        match self.names.iter().position(|name| *name == lower).map(u32::try_from) {
            Some(Ok(index)) => Ok(self.least + index),
            _ => number(text),
        }
    }
}

fn number(text: &str) -> Result<u32, String> {
    match text.parse::<i64>() {
        Ok(number) if number < 0 => Err(format!("negative number ({number}) not allowed: {text}")),
        Ok(number) => Ok(u32::try_from(number).unwrap_or(u32::MAX)),
        Err(_) => Err(format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax")),
    }
}
