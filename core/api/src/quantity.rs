//! Quantities such as `100m`, `64Mi`, `1e3`.

use std::fmt;
use std::str::FromStr;

/// A parsed quantity, exact to 1/1,000,000,000 (as Kubernetes has it), with the suffix family it was written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantity {
    nanos: i128,
}

/// Text that is no quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
pub struct ParseQuantityError;

impl FromStr for Quantity {
    type Err = ParseQuantityError;

    fn from_str(_text: &str) -> Result<Self, Self::Err> {
        Err(ParseQuantityError)
    }
}

impl Quantity {
    /// Thousandths, rounded up: what CPU is counted in.
    #[must_use]
    pub fn millis(self) -> i64 {
        i64::try_from(self.nanos.div_euclid(1_000_000)).unwrap_or(i64::MAX)
    }

    /// Whole units, rounded up: what memory is counted in.
    #[must_use]
    pub fn units(self) -> i64 {
        i64::try_from(self.nanos.div_euclid(1_000_000_000)).unwrap_or(i64::MAX)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.nanos)
    }
}
