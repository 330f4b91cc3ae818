//! Numbers that may be percents.

use corten_api::IntOrString;

/// The amount out of `total`. Percents are rounded up or down; text that is no percent counts as nothing.
pub(crate) fn of(total: i32, amount: Option<&IntOrString>, round_up: bool) -> i32 {
    match amount {
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(text)) => {
            let percent: i64 = text.strip_suffix('%').and_then(|text| text.parse().ok()).unwrap_or(0);
            let product = percent.saturating_mul(i64::from(total));
            let amount = if round_up { product.saturating_add(99).div_euclid(100) } else { product.div_euclid(100) };
            i32::try_from(amount).unwrap_or(i32::MAX)
        }
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percents_are_rounded_as_asked() {
        let percent = |text: &str| IntOrString::String(text.to_owned());
        for (total, amount, up, wanted) in [
            (10, IntOrString::Int(3), true, 3),
            (10, percent("25%"), true, 3),
            (10, percent("25%"), false, 2),
            (i32::MAX, percent("100%"), true, i32::MAX),
            (10, percent("x"), true, 0),
        ] {
            assert_eq!(of(total, Some(&amount), up), wanted, "{amount:?} of {total}");
        }
    }
}
