//! Values of options, checked when they are read: a wrong one is wrong usage.

use clap::builder::RangedU64ValueParser;

/// A count: a whole number, at least 1.
pub fn count() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..)
}

/// A finite number above 0.
pub fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| "wanted a number above 0".to_owned())
}

/// A finite number, 0 or more.
pub fn not_negative(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0);
    number.ok_or_else(|| "wanted a number of 0 or more".to_owned())
}

/// A fraction: 0 or more, below 1.
pub fn fraction(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (0.0..1.0).contains(number));
    number.ok_or_else(|| "wanted a number of 0 or more, below 1".to_owned())
}

/// A percentage above 0, below 100.
pub fn share(text: &str) -> Result<f64, String> {
    let percent = text.parse().ok().filter(|percent| *percent > 0.0 && *percent < 100.0);
    percent.ok_or_else(|| "wanted a percentage above 0, below 100".to_owned())
}

#[cfg(test)]
mod tests {
    use super::{fraction, not_negative, positive, share};

    #[test]
    fn what_is_no_number_in_the_range_is_refused() {
        assert_eq!((positive("0.5"), share("99.5")), (Ok(0.5), Ok(99.5)));
        for text in ["0", "-1", "NaN", "inf", "fast", ""] {
            assert!(positive(text).is_err() && share(text).is_err(), "{text}");
        }
        assert!(share("100").is_err());
        assert_eq!((fraction("0"), not_negative("4e-5")), (Ok(0.0), Ok(4e-5)));
        for text in ["-0.1", "NaN", "inf", "much"] {
            assert!(fraction(text).is_err() && not_negative(text).is_err(), "{text}");
        }
        assert!(fraction("1").is_err());
    }
}
