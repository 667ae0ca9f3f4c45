//! The values of summary.json as they are shown: every number and name carries the pointer to where it stands in the file.

use anyhow::Result;
use serde_json::Value;

use super::markup::{Element, Markup, element};

/// What is shown where there is no value.
pub const NOTHING: &str = "–";

/// How a number is shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Format {
    /// With this many decimals.
    Fixed(usize),
    /// With at least this many significant digits: what a latency needs, be it microseconds or seconds.
    Significant(usize),
    /// Divided by `by`, with at least `digits` significant digits: what a count of millions needs.
    Scaled {
        /// A power of ten.
        by: f64,
        /// Digits.
        digits: usize,
    },
    /// With this many decimals and always a sign.
    Signed(usize),
    /// With this many decimals and a power of ten.
    Scientific(usize),
    /// As it stands in the file.
    Plain,
}

/// The content of summary.json.
#[derive(Debug)]
pub struct Facts(Value);

impl Facts {
    /// From the file's text.
    pub fn parse(json: &str) -> Result<Self> {
        Ok(Self(serde_json::from_str(json)?))
    }

    /// A value on the page: a `span` with `data-key`, the value's JSON pointer.
    pub fn show(&self, key: &str, format: Format) -> Markup {
        self.tagged("span", key, format).into()
    }

    /// A value in a drawing.
    pub fn draw(&self, key: &str, format: Format) -> Markup {
        self.tagged("tspan", key, format).into()
    }

    /// A text on the page, kept apart from its surroundings even where its letters run from right to left.
    pub fn name(&self, key: &str) -> Markup {
        self.tagged("bdi", key, Format::Plain).into()
    }

    fn tagged(&self, tag: &'static str, key: &str, format: Format) -> Element {
        let value = match self.0.pointer(key) {
            None | Some(Value::Null) => return element(tag).class("nothing").text(NOTHING),
            Some(value) => value,
        };
        let shown = element(tag).attribute("data-key", key);
        match (format, value.as_f64()) {
            (Format::Fixed(decimals), Some(number)) => {
                shown.attribute("data-decimals", decimals).text(&fixed(number, decimals))
            }
            (Format::Significant(digits), Some(number)) => {
                let decimals = decimals(number, digits);
                shown.attribute("data-decimals", decimals).text(&fixed(number, decimals))
            }
            (Format::Scaled { by, digits }, Some(number)) => {
                let decimals = decimals(number / by, digits);
                let shown = shown.attribute("data-decimals", decimals).attribute("data-divisor", by);
                shown.text(&fixed(number / by, decimals))
            }
            (Format::Signed(decimals), Some(number)) => {
                shown.attribute("data-decimals", decimals).attribute("data-signed", "").text(&signed(number, decimals))
            }
            (Format::Scientific(decimals), Some(number)) => shown
                .attribute("data-decimals", decimals)
                .attribute("data-scientific", "")
                .text(&format!("{number:.decimals$e}")),
            _ => match value {
                Value::String(text) => shown.text(text),
                other => shown.text(&other.to_string()),
            },
        }
    }
}

/// The decimals that show at least this many significant digits of a number.
fn decimals(number: f64, digits: usize) -> usize {
    if number == 0.0 || !number.is_finite() {
        return 0;
    }
    let exponent = number.abs().log10().floor();
    (digits as f64 - 1.0 - exponent).clamp(0.0, 12.0) as usize
}

/// A number with this many decimals, with a true minus sign, and none in front of zero.
pub fn fixed(number: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", number.abs());
    if number < 0.0 && !is_zero(&text) { format!("−{text}") } else { text }
}

/// The same with a sign in front of everything but zero, which has both.
pub fn signed(number: f64, decimals: usize) -> String {
    let text = fixed(number, decimals);
    match text.chars().next() {
        _ if is_zero(&text) => format!("±{text}"),
        Some('−') => text,
        _ => format!("+{text}"),
    }
}

fn is_zero(text: &str) -> bool {
    text.chars().all(|c| matches!(c, '0' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn significant_digits_are_kept_whatever_the_magnitude() {
        let shown = |number: f64| fixed(number, decimals(number, 3));
        assert_eq!(
            [0.00891, 0.0891, 0.145, 9.996, 48.73, 1234.5].map(shown),
            ["0.00891", "0.0891", "0.145", "10.00", "48.7", "1234"]
        );
        assert_eq!(shown(0.0), "0");
    }

    #[test]
    fn numbers_have_a_true_minus_and_zero_has_no_side() {
        assert_eq!(fixed(-0.126, 2), "−0.13");
        assert_eq!(fixed(-0.001, 2), "0.00");
        assert_eq!(signed(0.5, 1), "+0.5");
        assert_eq!(signed(-0.5, 1), "−0.5");
        assert_eq!(signed(-0.001, 2), "±0.00");
    }
}
