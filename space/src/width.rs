//! Width multipliers: a network's channels, scaled.

use std::fmt;
use std::str::FromStr;

/// The largest that is taken seriously.
const MOST: f64 = 64.0;

/// A factor for the channels of stem, first block, stages and head, above 0 and at most 64 (MobileNetV2, Sandler et al.,
/// CVPR 2018). Products are rounded to the nearest multiple of 8, never below 90 % of the value. As in MobileNetV2, and in
/// ProxylessNAS's code, the head's 1x1 convolution keeps its width for factors below 1: it would cost small networks
/// accuracy, and its share of the computation is small.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WidthMultiplier(f64);

impl WidthMultiplier {
    /// Channels as they are.
    pub const ONE: Self = Self(1.0);

    /// `None` where it isn't in the range.
    pub fn new(factor: f64) -> Option<Self> {
        (factor > 0.0 && factor <= MOST).then_some(Self(factor))
    }

    /// The factor.
    pub fn factor(self) -> f64 {
        self.0
    }

    /// Channels under it; unchanged where it is 1.
    pub(crate) fn channels(self, channels: usize) -> usize {
        if self == Self::ONE { channels } else { round_channels(channels as f64 * self.0) }
    }

    /// Channels of the head's convolution under it.
    pub(crate) fn head_channels(self, channels: usize) -> usize {
        if self.0 < 1.0 { channels } else { self.channels(channels) }
    }
}

impl fmt::Display for WidthMultiplier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A text that is no width multiplier.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("'{0}' is no width multiplier: wanted a number above 0, at most 64, such as 0.75")]
pub struct WidthMultiplierParseError(pub String);

impl FromStr for WidthMultiplier {
    type Err = WidthMultiplierParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let factor = text.parse().ok().filter(|_| plain).and_then(Self::new);
        factor.ok_or_else(|| WidthMultiplierParseError(text.to_owned()))
    }
}

/// Rounds to the nearest multiple of 8, never below 90 % of the value (the rule of MobileNetV2's authors).
fn round_channels(value: f64) -> usize {
    let rounded = ((value / 8.0 + 0.5).floor() * 8.0).max(8.0);
    if rounded < 0.9 * value { rounded as usize + 8 } else { rounded as usize }
}

/// Digits or a name, and how wide: `k3e6@0.75`. Equal networks in equal words: a multiplier of 1 isn't written.
#[derive(Clone, Debug, PartialEq)]
pub struct WidthText {
    /// Digits, or a name that the space's file gives.
    pub base: String,
    /// The width multiplier.
    pub multiplier: WidthMultiplier,
}

impl fmt::Display for WidthText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.multiplier {
            WidthMultiplier::ONE => f.pad(&self.base),
            multiplier => f.pad(&format!("{}@{multiplier}", self.base)),
        }
    }
}

impl FromStr for WidthText {
    type Err = WidthMultiplierParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (base, multiplier) = match text.rsplit_once('@') {
            Some((base, multiplier)) => (base, multiplier.parse()?),
            None => (text, WidthMultiplier::ONE),
        };
        Ok(Self { base: base.to_owned(), multiplier })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_round_to_eights_but_never_below_ninety_percent() {
        assert_eq!(round_channels(24.0 * 1.4), 32);
        assert_eq!(round_channels(16.0 * 1.4), 24);
        assert_eq!(round_channels(32.0 * 0.35), 16);
        assert_eq!(round_channels(3.0), 8);
    }

    #[test]
    fn widths_read_back_what_they_write() {
        for text in ["k3e6", "k3e6@0.75", "0123@1.4", "k3e6@2", "a@b@0.5"] {
            assert_eq!(text.parse::<WidthText>().unwrap().to_string(), text);
        }
        for (text, plain) in
            [("k3e6@1", "k3e6"), ("k3e6@1.0", "k3e6"), ("k3e6@0.750", "k3e6@0.75"), ("k3e6@.5", "k3e6@0.5")]
        {
            assert_eq!(text.parse::<WidthText>().unwrap().to_string(), plain);
        }
        for text in
            ["k3e6@", "k3e6@0", "k3e6@-1", "k3e6@NaN", "k3e6@inf", "k3e6@1e-1", "k3e6@65", "k3e6@wide", "k3e6@0.5x"]
        {
            assert!(text.parse::<WidthText>().is_err(), "{text}");
        }
    }
}
