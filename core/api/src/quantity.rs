//! Quantities such as `100m`, `64Mi`, `1e3`: fixed-point numbers with a suffix.
//!
//! Spec: <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>
//! Invariant: no floating point anywhere; values are exact to one billionth, and finer ones round away from zero.

use std::cmp::Ordering;
use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::str::FromStr;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

const NANOS: i128 = 1_000_000_000;

/// A parsed quantity, exact to 1/1,000,000,000 (as Kubernetes has it), with the suffix family it was written in.
///
/// Compares by value alone: `1Ki` equals `1024`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    nanos: i128,
    family: Family,
}

/// Which suffixes a quantity is written with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Family {
    /// `n u m k M G T P E`
    #[default]
    Decimal,
    /// `e3`
    Exponent,
    /// `Ki Mi Gi Ti Pi Ei`
    Binary,
}

/// Text that is no quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseQuantityError {
    /// Neither a number nor a number with something like a suffix.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// A number with a suffix that does not exist.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

impl FromStr for Quantity {
    type Err = ParseQuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = Parts::split(text)?;
        let (family, exponent) = suffix(parts.suffix)?;
        let magnitude = match family {
            Family::Binary => binary_nanos(&parts, exponent).min(i128::from(i64::MAX) * NANOS),
            Family::Decimal | Family::Exponent => decimal_nanos(&parts, exponent),
        };
        // Less than one cannot be shown with a binary suffix.
        let family = if family == Family::Binary && magnitude < NANOS { Family::Decimal } else { family };
        Ok(Self { nanos: if parts.negative { -magnitude } else { magnitude }, family })
    }
}

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self { nanos: 0, family: Family::Decimal };

    /// So many thousandths, such as millicores.
    #[must_use]
    pub fn from_millis(millis: i64) -> Self {
        Self { nanos: i128::from(millis) * 1_000_000, family: Family::Decimal }
    }

    /// So many whole units, such as pods.
    #[must_use]
    pub fn from_units(units: i64) -> Self {
        Self { nanos: i128::from(units) * NANOS, family: Family::Decimal }
    }

    /// So many bytes, written with binary suffixes.
    #[must_use]
    pub fn from_bytes(bytes: i64) -> Self {
        Self { nanos: i128::from(bytes) * NANOS, family: Family::Binary }
    }

    /// Thousandths, rounded up: what CPU is counted in.
    #[must_use]
    pub fn millis(self) -> i64 {
        saturate(ceil(self.nanos, 1_000_000))
    }

    /// Whole units, rounded up: what memory is counted in.
    #[must_use]
    pub fn units(self) -> i64 {
        saturate(ceil(self.nanos, NANOS))
    }

    /// Whether this is exactly nothing.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// Whether nothing is left after the decimal point.
    #[must_use]
    pub fn is_whole(self) -> bool {
        self.nanos % NANOS == 0
    }

    /// Whether this is less than nothing.
    #[must_use]
    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// Parses what a typed object holds.
    pub fn of(text: &Text) -> Result<Self, ParseQuantityError> {
        text.0.parse()
    }
}

/// Puts text into the form in which Kubernetes writes it back: `0.5` becomes `500m`, `1024Mi` becomes `1Gi`.
/// As upstream, text that already needs no suffix change is kept letter by letter (`1.500` stays).
pub fn canonical(text: &str) -> Result<String, ParseQuantityError> {
    let quantity: Quantity = text.parse()?;
    let parts = Parts::split(text)?;
    let (family, exponent) = suffix(parts.suffix)?;
    let digits = parts.whole.len() + parts.fraction.len();
    let scale = i64::from(exponent) - i64::try_from(parts.fraction.len()).unwrap_or(i64::MAX);
    let fits = digits <= 18;
    let keep = match family {
        Family::Binary => {
            let last: u32 =
                parts.whole.get(parts.whole.len().saturating_sub(3)..).map_or(0, |tail| tail.parse().unwrap_or(0));
            let precise = 14 - i64::try_from(digits).unwrap_or(i64::MAX) - i64::from(exponent) * 3 / 10;
            parts.fraction.is_empty() && precise >= 0 && !last.is_multiple_of(8)
        }
        Family::Decimal | Family::Exponent => {
            let (whole, fraction) = (parts.whole, parts.fraction);
            let tail = format!("{whole}{fraction}");
            fits && scale >= -9
                && scale % 3 == 0
                && !tail.ends_with("000")
                && !whole.is_empty()
                && !tail.starts_with('0')
        }
    };
    Ok(if keep { text.to_owned() } else { quantity.to_string() })
}

/// The parts of a quantity's text, leading zeros removed.
struct Parts<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    suffix: &'a str,
}

impl<'a> Parts<'a> {
    fn split(text: &'a str) -> Result<Self, ParseQuantityError> {
        if text.is_empty() {
            return Err(ParseQuantityError::Format);
        }
        let (negative, rest) = match text.as_bytes()[0] {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (whole, mut rest) = rest.split_at(digits(rest));
        let whole = whole.trim_start_matches('0');
        let mut fraction = "";
        if let Some(after) = rest.strip_prefix('.') {
            (fraction, rest) = after.split_at(digits(after));
        }
        let letters = rest.bytes().take_while(|byte| b"eEinumkKMGTP".contains(byte)).count();
        let mut end = &rest[letters..];
        end = end.strip_prefix(['-', '+']).unwrap_or(end);
        if digits(end) != end.len() {
            return Err(ParseQuantityError::Format);
        }
        Ok(Self { negative, whole, fraction, suffix: rest })
    }
}

/// How many digits `text` begins with.
fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

/// The family and exponent (of ten, or of two for the binary family) of a suffix.
fn suffix(text: &str) -> Result<(Family, i32), ParseQuantityError> {
    let found = match text {
        "" => (Family::Decimal, 0),
        "n" => (Family::Decimal, -9),
        "u" => (Family::Decimal, -6),
        "m" => (Family::Decimal, -3),
        "k" => (Family::Decimal, 3),
        "M" => (Family::Decimal, 6),
        "G" => (Family::Decimal, 9),
        "T" => (Family::Decimal, 12),
        "P" => (Family::Decimal, 15),
        "E" => (Family::Decimal, 18),
        "Ki" => (Family::Binary, 10),
        "Mi" => (Family::Binary, 20),
        "Gi" => (Family::Binary, 30),
        "Ti" => (Family::Binary, 40),
        "Pi" => (Family::Binary, 50),
        "Ei" => (Family::Binary, 60),
        _ => {
            let number = text.strip_prefix(['e', 'E']).ok_or(ParseQuantityError::Suffix)?;
            (Family::Exponent, number.parse().map_err(|_| ParseQuantityError::Suffix)?)
        }
    };
    Ok(found)
}

/// Digits as a number: what was kept, how many places after the point it has, whether anything that is not zero was cut.
struct Mantissa {
    value: i128,
    places: i64,
    cut: bool,
}

impl Mantissa {
    fn read(parts: &Parts<'_>) -> Self {
        let mut mantissa = Self { value: 0, places: 0, cut: false };
        let mut full = false;
        let places = std::iter::repeat_n(0, parts.whole.len()).chain(std::iter::repeat_n(1, parts.fraction.len()));
        for (digit, place) in parts.whole.bytes().chain(parts.fraction.bytes()).zip(places) {
            let digit = i128::from(digit - b'0');
            match mantissa.value.checked_mul(10).and_then(|value| value.checked_add(digit)) {
                Some(value) if !full => {
                    mantissa.value = value;
                    mantissa.places += place;
                }
                _ => {
                    full = true;
                    mantissa.cut |= digit != 0;
                    mantissa.places += place - 1;
                }
            }
        }
        mantissa
    }

    /// The value without its last digit.
    fn shorten(&mut self) {
        self.cut |= self.value % 10 != 0;
        self.value /= 10;
        self.places -= 1;
    }
}

fn decimal_nanos(parts: &Parts<'_>, exponent: i32) -> i128 {
    let mantissa = Mantissa::read(parts);
    if mantissa.value == 0 {
        return i128::from(mantissa.cut);
    }
    let power = i64::from(exponent) - mantissa.places + 9;
    let factor = u32::try_from(power.unsigned_abs()).ok().and_then(|power| 10i128.checked_pow(power));
    match (power >= 0, factor) {
        (true, Some(factor)) => mantissa.value.saturating_mul(factor),
        (true, None) => i128::MAX,
        (false, Some(factor)) => round_up(mantissa.value, factor, mantissa.cut),
        (false, None) => 1,
    }
}

/// `mantissa · 2^exponent` in billionths, where tens are split into twos and fives so that little overflows.
fn binary_nanos(parts: &Parts<'_>, exponent: i32) -> i128 {
    let mut mantissa = Mantissa::read(parts);
    if mantissa.places < 0 {
        return i128::MAX;
    }
    loop {
        let twos = i64::from(exponent) + 9 - mantissa.places;
        let fives = 9 - mantissa.places;
        let up = power(2, twos).and_then(|up| up.checked_mul(power(5, fives)?));
        let down = power(2, -twos).and_then(|down| down.checked_mul(power(5, -fives)?));
        if let (Some(up), Some(down)) = (up, down)
            && let Some(value) = mantissa.value.checked_mul(up)
        {
            return round_up(value, down, mantissa.cut);
        }
        if mantissa.places == 0 {
            return i128::MAX;
        }
        mantissa.shorten();
    }
}

/// `base^exponent`, 1 for negative exponents, nothing on overflow.
fn power(base: i128, exponent: i64) -> Option<i128> {
    base.checked_pow(u32::try_from(exponent.max(0)).ok()?)
}

/// Division of what is not negative, rounding up; `more` says that the value is a little larger than given.
fn round_up(value: i128, by: i128, more: bool) -> i128 {
    value / by + i128::from(more || value % by != 0)
}

/// Division rounding up.
fn ceil(value: i128, by: i128) -> i128 {
    value.div_euclid(by) + i128::from(value.rem_euclid(by) != 0)
}

fn saturate(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

/// The canonical form: no fraction, the largest suffix of the family that loses nothing.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        if self.family == Family::Binary
            && self.nanos.unsigned_abs() >= 1024 * NANOS.unsigned_abs()
            && self.nanos % NANOS == 0
        {
            let mut value = self.nanos / NANOS;
            let mut steps = 0;
            while value % 1024 == 0 && steps < 6 {
                value /= 1024;
                steps += 1;
            }
            return write!(f, "{value}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][steps]);
        }
        let mut value = self.nanos;
        let mut exponent = -9;
        while value % 1000 == 0 {
            value /= 1000;
            exponent += 3;
        }
        match (self.family, exponent) {
            (_, 0) => write!(f, "{value}"),
            (Family::Decimal | Family::Binary, -9..=18) => {
                let suffix =
                    ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"][usize::try_from(exponent / 3 + 3).unwrap_or(3)];
                write!(f, "{value}{suffix}")
            }
            _ => write!(f, "{value}e{exponent}"),
        }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

/// Keeps the family of the left side, unless that is zero.
impl Add for Quantity {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let family = if self.nanos == 0 { other.family } else { self.family };
        Self { nanos: self.nanos.saturating_add(other.nanos), family }
    }
}

impl Sub for Quantity {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        let family = if self.nanos == 0 { other.family } else { self.family };
        Self { nanos: self.nanos.saturating_sub(other.nanos), family }
    }
}

impl AddAssign for Quantity {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Quantity {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(quantities: I) -> Self {
        quantities.fold(Self::ZERO, Add::add)
    }
}

impl TryFrom<&Text> for Quantity {
    type Error = ParseQuantityError;

    fn try_from(text: &Text) -> Result<Self, Self::Error> {
        Self::of(text)
    }
}

impl From<Quantity> for Text {
    fn from(quantity: Quantity) -> Self {
        Self(quantity.to_string())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_is_written_back_as_upstream_writes_it() {
        for (text, want) in [
            ("0", "0"),
            ("0.0", "0"),
            ("0Ki", "0"),
            ("-0", "0"),
            ("0.5", "500m"),
            ("1500m", "1500m"),
            ("1.5", "1500m"),
            ("1000m", "1"),
            ("100m", "100m"),
            ("0.1m", "100u"),
            ("1n", "1n"),
            ("0.9n", "1n"),
            ("1", "1"),
            ("1000", "1k"),
            ("1024", "1024"),
            ("1500k", "1500k"),
            ("1k", "1k"),
            ("12e6", "12e6"),
            ("1e3", "1e3"),
            ("10e2", "1e3"),
            ("1000E", "1e21"),
            ("1E", "1E"),
            ("1Ki", "1Ki"),
            ("1024Ki", "1Mi"),
            ("1536Mi", "1536Mi"),
            ("1.5Gi", "1536Mi"),
            ("1024Mi", "1Gi"),
            ("0.5Ki", "512"),
            ("0.001Ki", "1024m"),
            ("1.0001Ki", "1024102400u"),
            ("8Ei", "9223372036854775807"),
            ("100Ei", "9223372036854775807"),
            ("-1.5", "-1500m"),
            ("-1Gi", "-1Gi"),
            ("1.", "1."),
            (".5", "500m"),
            ("1.234", "1.234"),
            ("1.500", "1.500"),
            ("0.250", "250m"),
            ("18446744073709551616", "18446744073709551616"),
            ("1.2345", "1234500u"),
        ] {
            assert_eq!(canonical(text).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn bad_text_is_told_apart() {
        for text in ["", "1.1.M", "1+1.0M", "aoeu", " 1", "1 ", "0.1am", "1Ki5x", "1KI", "ü", "1ü"] {
            assert_eq!(text.parse::<Quantity>(), Err(ParseQuantityError::Format), "{text:?}");
        }
        for text in ["0.1mi", ".5i", "1i", "-3.01i", "-3.01e-", "1K", "1ee3", "1e99999999999"] {
            assert_eq!(text.parse::<Quantity>(), Err(ParseQuantityError::Suffix), "{text:?}");
        }
    }

    #[test]
    fn counts_round_up_and_saturate() {
        let parse = |text: &str| text.parse::<Quantity>().unwrap();
        assert_eq!(parse("0.1m").millis(), 1);
        assert_eq!(parse("1.5").units(), 2);
        assert_eq!(parse("-1.5").units(), -1);
        assert_eq!(parse("64Mi").units(), 64 << 20);
        assert_eq!(parse("1e40").units(), i64::MAX);
        assert_eq!(parse("-1e4000000").millis(), i64::MIN);
        assert_eq!(parse("1e-4000000"), parse("1n"));
        assert_eq!(parse("8.0000000000000000000000000000000000001Ei").units(), i64::MAX);
        assert_eq!(parse("0.99999999999999999999999999999999999999999999Ki").units(), 1024);
    }

    #[test]
    fn sums_keep_the_family() {
        let sum: Quantity = ["64Mi", "1Gi"].iter().map(|text| text.parse::<Quantity>().unwrap()).sum();
        assert_eq!(sum.to_string(), "1088Mi");
        assert_eq!((sum - sum).to_string(), "0");
        assert!("1Ki".parse::<Quantity>().unwrap() == "1024".parse().unwrap());
        assert!("1Ki".parse::<Quantity>().unwrap() > "1k".parse().unwrap());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[-+]?[0-9.]{0,60}[eEinumkKMGTP]{0,2}[-+]?[0-9]{0,12}") {
            if let Ok(once) = canonical(&text) {
                let back: Quantity = once.parse().unwrap();
                let first: Quantity = text.parse().unwrap();
                // Text beyond what fits saturates, and then its own text may differ.
                if first.nanos.unsigned_abs() < 1 << 120 {
                    prop_assert_eq!(back, first);
                }
            }
        }

        #[test]
        fn display_reads_back(nanos in any::<i64>(), binary in any::<bool>()) {
            let quantity = Quantity { nanos: i128::from(nanos), family: if binary { Family::Binary } else { Family::Decimal } };
            prop_assert_eq!(quantity.to_string().parse::<Quantity>().unwrap(), quantity);
        }
    }
}
