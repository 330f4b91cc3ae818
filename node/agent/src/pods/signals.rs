//! Signals by their names in image configs.

/// The number of `SIGQUIT`, `QUIT` or `3`; `None` for an empty or unknown name.
pub(crate) fn number(name: &str) -> Option<i32> {
    if let Ok(number) = name.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let number = match name.to_uppercase().trim_start_matches("SIG") {
        "HUP" => 1,
        "INT" => 2,
        "QUIT" => 3,
        "ABRT" => 6,
        "KILL" => 9,
        "USR1" => 10,
        "USR2" => 12,
        "TERM" => 15,
        "WINCH" => 28,
        "PWR" => 30,
        "RTMIN+3" => 37,
        _ => return None,
    };
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        let numbers = ["SIGQUIT", "quit", "3", "", "SIGNONE", "0", "SIGRTMIN+3"].map(number);
        assert_eq!(numbers, [Some(3), Some(3), Some(3), None, None, None, Some(37)]);
    }
}
