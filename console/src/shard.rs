//! One of the parts that a list is dealt out in.

use std::fmt;
use std::str::FromStr;

/// The most parts that a list is dealt out in.
const MOST: usize = 9999;

/// Part I of N, as `--shard I/N` names it: I from 1 to N.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard {
    index: usize,
    of: usize,
}

impl Shard {
    /// Part `index` of `of`, from 1; `None` where there is no such part.
    pub fn new(index: usize, of: usize) -> Option<Self> {
        ((1..=MOST).contains(&of) && (1..=of).contains(&index)).then_some(Self { index, of })
    }

    /// Which one, from 1.
    pub fn index(self) -> usize {
        self.index
    }

    /// How many there are.
    pub fn of(self) -> usize {
        self.of
    }

    /// Whether it has what stands at this position of a list, from 0: parts take turns.
    pub fn has(self, position: usize) -> bool {
        position % self.of == self.index - 1
    }

    /// What the name of its file adds to the result's: `.3of8`.
    pub fn suffix(self) -> String {
        format!(".{}of{}", self.index, self.of)
    }

    /// Read back from a file's name: the result's, and the part.
    pub fn from_name(name: &str) -> Option<(&str, Self)> {
        let (result, suffix) = name.rsplit_once('.')?;
        let (index, of) = suffix.split_once("of")?;
        let shard = Self::new(number(index)?, number(of)?)?;
        Some((result, shard))
    }
}

/// Digits alone, without zeros in front: a number that has one form.
fn number(text: &str) -> Option<usize> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    is_plain.then(|| text.parse().ok()).flatten()
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

/// What was wanted of a text that is no part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardParseError;

impl fmt::Display for ShardParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wanted I/N, part I of N, I from 1 to N and N at most {MOST}, such as 3/8")
    }
}

impl std::error::Error for ShardParseError {}

impl FromStr for Shard {
    type Err = ShardParseError;

    fn from_str(text: &str) -> Result<Self, ShardParseError> {
        let (index, of) = text.split_once('/').ok_or(ShardParseError)?;
        // Schedulers count with zeros in front, too.
        let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        number(index).zip(number(of)).and_then(|(index, of)| Self::new(index, of)).ok_or(ShardParseError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_counted_from_one_and_take_turns() {
        let shard: Shard = "3/8".parse().unwrap();
        assert_eq!((shard.index(), shard.of(), shard.to_string().as_str()), (3, 8, "3/8"));
        assert_eq!((0..20).filter(|&position| shard.has(position)).collect::<Vec<_>>(), [2, 10, 18]);
        assert_eq!("03/08".parse(), Ok(shard));
        for wrong in ["0/8", "9/8", "1/0", "a/b", "1", "1/", "/8", "-1/8", "+1/8", "1/8/8", " 1/8", "1/10000", ""] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_part_s_file_says_which_it_is() {
        let shard = Shard::new(3, 8).unwrap();
        assert_eq!(shard.suffix(), ".3of8");
        assert_eq!(Shard::from_name("T.csv.3of8"), Some(("T.csv", shard)));
        for other in ["T.csv", "T.csv.3of8.journal", "T.csv.9of8", "T.csv.03of8", "T.csv.of8", "3of8"] {
            assert_eq!(Shard::from_name(other), None, "{other}");
        }
    }
}
