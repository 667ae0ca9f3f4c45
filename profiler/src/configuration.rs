//! What decides a result, so that parts of one result are told from parts of another.

use std::fmt;

use fleetfoot_protocol::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Everything that decides a result, by name, but for which part of it is made and what may differ between identical machines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration(Vec<(String, String)>);

/// A value that is longer is told by its beginning.
const SHOWN: usize = 60;

impl Configuration {
    /// Adds what is decided by this.
    pub fn set(&mut self, name: &str, value: impl fmt::Display) {
        self.0.push((name.to_owned(), value.to_string()));
    }

    /// A value by its name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// SHA-256 over all names and values, in hexadecimal.
    pub fn sha256(&self) -> String {
        let mut hash = Sha256::new();
        for text in self.0.iter().flat_map(|(name, value)| [name, value]) {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        }
        hex(&hash.finalize())
    }

    /// What differs, in words: name, ours, the other's. `None` where nothing does.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let mut differing: Vec<String> = Vec::new();
        let names = self.0.iter().chain(other.0.iter().filter(|(name, _)| self.get(name).is_none()));
        for (name, _) in names {
            let (ours, theirs) = (self.get(name), other.get(name));
            if ours != theirs {
                differing.push(format!("{name}: {} against {}", shown(ours), shown(theirs)));
            }
        }
        // A name that stands twice, or another order: nobody writes that.
        let unsaid = || (self != other).then(|| "other names of what decides it".to_owned());
        if differing.is_empty() { unsaid() } else { Some(differing.join("; ")) }
    }
}

/// SHA-256 of bytes, in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn shown(value: Option<&str>) -> String {
    match value {
        None => "nothing".to_owned(),
        Some(long) if long.chars().count() > SHOWN => {
            format!("'{}…'", long.chars().take(SHOWN).collect::<String>())
        }
        Some(value) => format!("'{value}'"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Configuration {
        let mut configuration = Configuration::default();
        pairs.iter().for_each(|(name, value)| configuration.set(name, value));
        configuration
    }

    #[test]
    fn what_differs_is_named_with_both_values() {
        let ours = of(&[("space", "a"), ("seed", "0")]);
        assert_eq!(ours.difference(&ours.clone()), None);
        assert_eq!(ours.difference(&of(&[("space", "a"), ("seed", "1")])).unwrap(), "seed: '0' against '1'");
        assert_eq!(ours.difference(&of(&[("space", "a")])).unwrap(), "seed: '0' against nothing");
        assert_eq!(of(&[]).difference(&of(&[("x", "1")])).unwrap(), "x: nothing against '1'");
        assert!(ours.difference(&of(&[("seed", "0"), ("space", "a")])).is_some(), "order is part of the digest");
        let long = of(&[("space", &"ä".repeat(100))]).difference(&ours).unwrap();
        assert!(long.chars().count() < 120 && long.contains('…'), "{long}");
    }

    #[test]
    fn the_digest_tells_where_names_and_values_end() {
        assert_ne!(of(&[("ab", "c")]).sha256(), of(&[("a", "bc")]).sha256());
        assert_ne!(of(&[("a", "")]).sha256(), of(&[]).sha256());
        assert_eq!(of(&[("a", "b")]).sha256(), of(&[("a", "b")]).sha256());
    }
}
