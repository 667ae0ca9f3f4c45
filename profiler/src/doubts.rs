//! What speaks against a number that somebody else has published.

use std::fmt;
use std::str::FromStr;

/// Why a row may be no measurement, or a bad one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Doubt {
    /// It takes next to no time for what it computes.
    NearZero,
    /// It takes far longer than the other rows let expect.
    FarOff,
    /// It is rounded so coarsely that the rounding matters.
    Coarse,
    /// It stands among the first rows, which differ from all behind them: the device wasn't settled.
    FirstRows,
    /// It lies exactly on the line between its neighbours in one extent.
    Interpolated,
    /// It is, to the last digit, that of another row.
    Copied,
}

impl Doubt {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::NearZero, Self::FarOff, Self::Coarse, Self::FirstRows, Self::Interpolated, Self::Copied];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NearZero => "near-zero",
            Self::FarOff => "far-off",
            Self::Coarse => "coarse",
            Self::FirstRows => "first-rows",
            Self::Interpolated => "interpolated",
            Self::Copied => "copied",
        }
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// All doubts about a row; as a text their names, with spaces between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Doubts(u8);

impl Doubts {
    /// None.
    pub const NONE: Self = Self(0);

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Adds one.
    pub const fn insert(&mut self, doubt: Doubt) {
        self.0 |= 1 << doubt as u8;
    }

    /// Takes one away, where it is there.
    pub const fn remove(&mut self, doubt: Doubt) {
        self.0 &= !(1 << doubt as u8);
    }

    /// Whether this is one of them.
    pub const fn contains(self, doubt: Doubt) -> bool {
        self.0 & (1 << doubt as u8) != 0
    }

    /// Both together.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// One by one.
    pub fn iter(self) -> impl Iterator<Item = Doubt> {
        Doubt::ALL.into_iter().filter(move |doubt| self.contains(*doubt))
    }

    /// How many rows are in doubt and why, such as `3 of 120 rows (2 near-zero, 1 coarse)`; `None` where none is.
    pub fn summary(rows: impl Iterator<Item = Self>) -> Option<String> {
        let (mut all, mut doubted, mut counts) = (0, 0, [0; Doubt::ALL.len()]);
        for doubts in rows {
            all += 1;
            doubted += usize::from(!doubts.is_empty());
            doubts.iter().for_each(|doubt| counts[doubt as usize] += 1);
        }
        let named = Doubt::ALL.into_iter().filter(|doubt| counts[*doubt as usize] > 0);
        let named: Vec<String> = named.map(|doubt| format!("{} {doubt}", counts[doubt as usize])).collect();
        (doubted > 0).then(|| format!("{doubted} of {all} rows ({})", named.join(", ")))
    }
}

impl fmt::Display for Doubts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.iter().map(Doubt::name).collect::<Vec<_>>().join(" "))
    }
}

/// A text that is no doubt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is no doubt that fleetfoot knows: wanted near-zero, far-off, coarse, first-rows, interpolated or copied"
)]
pub struct DoubtParseError(String);

impl FromStr for Doubt {
    type Err = DoubtParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|doubt| doubt.name() == text);
        known.ok_or_else(|| DoubtParseError(text.to_owned()))
    }
}

impl FromStr for Doubts {
    type Err = DoubtParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut doubts = Self::NONE;
        for name in text.split_ascii_whitespace() {
            doubts.insert(name.parse()?);
        }
        Ok(doubts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubts_read_back_and_are_counted() {
        let both: Doubts = "coarse near-zero".parse().unwrap();
        assert_eq!(both.to_string(), "near-zero coarse");
        assert!(both.contains(Doubt::Coarse) && !both.contains(Doubt::Copied));
        assert!("coarse strange".parse::<Doubts>().unwrap_err().to_string().contains("'strange' is no doubt"));
        assert!(Doubts::NONE.to_string().is_empty() && "".parse::<Doubts>().unwrap().is_empty());
        let rows = [both, Doubts::NONE, "coarse".parse().unwrap()];
        assert_eq!(Doubts::summary(rows.into_iter()).unwrap(), "2 of 3 rows (1 near-zero, 2 coarse)");
        assert_eq!(Doubts::summary([Doubts::NONE].into_iter()), None);
    }
}
