//! Indexes of the pods of a job, written as intervals: `1,3-5,7`.

/// First and last index of an interval.
type Interval = (i32, i32);

/// How many indexes there are, all of them below `completions`.
pub(super) fn count(text: &str, completions: i32) -> Result<i64, String> {
    let mut total = 0;
    let mut last = None;
    for interval in text.split(',').filter(|_| !text.is_empty()) {
        let (from, to) = parse(interval, completions)?;
        if let Some(last) = last.filter(|last| *last >= from) {
            return Err(format!("non-increasing order, previous: {last}, current: {from}"));
        }
        total += i64::from(to) - i64::from(from) + 1;
        last = Some(to);
    }
    Ok(total)
}

/// The first index that is in both lists; intervals that cannot be read are passed over.
pub(super) fn common(left: &str, right: &str, completions: i32) -> Option<i32> {
    let intervals = |text: &str| -> Vec<Interval> {
        text.split(',').filter_map(|interval| parse(interval, completions).ok()).collect()
    };
    let (left, right) = (intervals(left), intervals(right));
    let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
    while let (Some(&&(a, b)), Some(&&(c, d))) = (left.peek(), right.peek()) {
        if a <= d && c <= b {
            return Some(a.max(c));
        }
        if a <= c {
            left.next()
        } else {
            right.next()
        };
    }
    None
}

fn parse(interval: &str, completions: i32) -> Result<Interval, String> {
    let number = |text: &str| -> Result<i32, String> {
        let number: i64 = text.parse().map_err(|_| format!("cannot convert string to integer for index: {text:?}"))?;
        match i32::try_from(number) {
            Ok(number) if number < completions => Ok(number),
            _ => Err(format!("too large index: {text:?}")),
        }
    };
    let parts: Vec<&str> = interval.split('-').collect();
    match parts.as_slice() {
        [one] => number(one).map(|one| (one, one)),
        [from, to] => match (number(from)?, number(to)?) {
            (from, to) if from >= to => Err(format!("non-increasing order, previous: {from}, current: {to}")),
            interval => Ok(interval),
        },
        _ => Err(format!(
            "the fragment {interval:?} violates the requirement that an index interval can have at most two parts separated by '-'"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_read_strictly() {
        assert_eq!(count("", 5), Ok(0));
        assert_eq!(count("0,2-4", 5), Ok(4));
        assert_eq!(count("0-2147483646", i32::MAX), Ok(2_147_483_647));
        for (text, why) in [
            ("5", "too large index: \"5\""),
            ("1,1", "non-increasing order, previous: 1, current: 1"),
            ("3-2", "non-increasing order, previous: 3, current: 2"),
            ("a", "cannot convert string to integer for index: \"a\""),
            ("1,,2", "cannot convert string to integer for index: \"\""),
        ] {
            assert_eq!(count(text, 5), Err(why.to_owned()), "{text}");
        }
    }

    #[test]
    fn lists_have_the_first_common_index_in_common() {
        assert_eq!(common("0,2-4", "1,4", 5), Some(4));
        assert_eq!(common("0-1", "2,3", 5), None);
        assert_eq!(common("x,2", "2", 5), Some(2));
        assert_eq!(common("", "1", 5), None);
    }
}
