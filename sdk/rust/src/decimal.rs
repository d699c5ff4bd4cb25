//! Numbers in messages. The standard library prints reals exactly, with code that is a tenth of a small plugin; messages do
//! with nine digits.

use std::fmt::{Debug, Display, Formatter, Result};

/// Digits that are shown.
const DIGITS: i32 = 9;

/// A number as messages show it: up to nine significant digits, with an exponent where it is very large or small.
#[derive(Clone, Copy, PartialEq)]
pub struct Decimal(pub f64);

impl Display for Decimal {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let (number, size) = (self.0, self.0.abs());
        if number.is_nan() {
            return f.write_str("NaN");
        }
        if number.is_sign_negative() {
            f.write_str("-")?;
        }
        if size.is_infinite() || size == 0.0 {
            return f.write_str(if size == 0.0 { "0" } else { "inf" });
        }
        let (mut digits, mut exponent) = scientific(size);
        let mut count = DIGITS;
        while digits.is_multiple_of(10) {
            (digits, count) = (digits / 10, count - 1);
        }
        let shown = if (-5..16).contains(&exponent) { std::mem::take(&mut exponent) } else { 0 };
        // The point stands behind this many of the digits.
        let whole = shown + 1;
        if whole <= 0 {
            write!(f, "0.{:0>width$}{digits}", "", width = (-whole) as usize)?;
        } else if whole >= count {
            write!(f, "{digits}{:0>width$}", "", width = (whole - count) as usize)?;
        } else {
            let part = 10u64.pow((count - whole) as u32);
            write!(f, "{}.{:0width$}", digits / part, digits % part, width = (count - whole) as usize)?;
        }
        if exponent == 0 { Ok(()) } else { write!(f, "e{exponent}") }
    }
}

impl Debug for Decimal {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        Display::fmt(self, f)
    }
}

/// Nine digits, the first not 0, and the power of ten of the first.
fn scientific(mut size: f64) -> (u64, i32) {
    let mut exponent = 0;
    // Products stay finite: the largest real is near 1e308, the smallest near 1e-324.
    while size >= 10.0 {
        (size, exponent) = if size >= 1e16 { (size / 1e16, exponent + 16) } else { (size / 10.0, exponent + 1) };
    }
    while size < 1.0 {
        (size, exponent) = if size < 1e-16 { (size * 1e16, exponent - 16) } else { (size * 10.0, exponent - 1) };
    }
    let digits = (size * 1e8).round() as u64;
    // What rounds up to ten has a digit more.
    if digits >= 1_000_000_000 { (100_000_000, exponent + 1) } else { (digits, exponent) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_as_people_write_them() {
        let shown = [
            (0.0, "0"),
            (3.0, "3"),
            (-0.25, "-0.25"),
            (0.1, "0.1"),
            (0.05, "0.05"),
            (1234.5, "1234.5"),
            (1e9, "1000000000"),
            (100.0, "100"),
            (0.999_999_999_9, "1"),
            (99.999_999_999, "100"),
            (1.0 / 3.0, "0.333333333"),
            (1e-4, "0.0001"),
            (2.5e-10, "2.5e-10"),
            (6.02e23, "6.02e23"),
            (5e-324, "4.94065646e-324"),
            (f64::MAX, "1.79769313e308"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (number, words) in shown {
            assert_eq!(Decimal(number).to_string(), words);
        }
    }
}
