//! One head of several parts' heads.

use std::collections::BTreeSet;

use fleetfoot_profiler::Provenance;

use crate::measuring::{DISTURBED, WARMUP_RUNS};

/// Lines that are made anew from what all parts measured.
const MADE_ANEW: [&str; 3] = [WARMUP_RUNS, DISTURBED[0], DISTURBED[1]];

/// The lines of all heads, in the order of the first; and whether any differ. What is equal in all of them stays as it is. Of what differs
/// a day becomes a span of days, a number the one in the middle, a least share the least, lost connections their sum, and other texts stand
/// one behind the other.
pub fn together(heads: &[&Provenance]) -> (Provenance, bool) {
    let (mut whole, mut differ) = (Provenance::default(), false);
    let names = heads.iter().flat_map(|head| head.iter().map(|(name, _)| name));
    for name in names {
        if whole.get(name).is_some() {
            continue;
        }
        let values: Vec<&str> = heads.iter().filter_map(|head| head.get(name)).collect();
        let is_equal = values.len() == heads.len() && values.windows(2).all(|pair| pair[0] == pair[1]);
        differ |= !is_equal && !MADE_ANEW.contains(&name);
        whole.set(name, if is_equal { values[0].to_owned() } else { combined(name, &values) });
    }
    (whole, differ)
}

fn combined(name: &str, values: &[&str]) -> String {
    let numbers: Option<Vec<(f64, &str)>> = values
        .iter()
        .map(|value| Some((value.parse().ok().filter(|number: &f64| number.is_finite())?, *value)))
        .collect();
    match (name, numbers) {
        ("date", _) => {
            let days: BTreeSet<&str> = values.iter().copied().collect();
            let ends = days.first().zip(days.last()).filter(|(first, last)| first != last);
            ends.map_or_else(|| values[0].to_owned(), |(first, last)| format!("{first} to {last}"))
        }
        ("reconnections", Some(numbers)) => numbers.iter().map(|(number, _)| number).sum::<f64>().to_string(),
        // The one in the middle: a number that stands in one of them.
        (_, Some(mut numbers)) if !numbers.is_empty() => {
            numbers.sort_by(|a, b| a.0.total_cmp(&b.0));
            let position = if name.ends_with("_least") { 0 } else { (numbers.len() - 1) / 2 };
            numbers[position].1.to_owned()
        }
        _ => {
            let mut texts: Vec<&str> = Vec::new();
            values.iter().for_each(|value| {
                if !texts.contains(value) {
                    texts.push(value);
                }
            });
            texts.join("; ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(lines: &str) -> Provenance {
        Provenance::from_head(&lines.lines().map(|line| format!("# {line}\n")).collect::<String>())
    }

    #[test]
    fn equal_lines_stay_and_what_differs_is_told() {
        let heads = [
            head("date: 2026-12-01\nos: a\npace_chain_ns: 50\nx_least: 90.0\nleft_aside: 1"),
            head("date: 2026-11-30\nos: a\npace_chain_ns: 52\nx_least: 80.5\nreconnections: 2\nleft_aside: 2"),
            head("date: 2026-12-01\nos: b\npace_chain_ns: 51\nx_least: 95.0\nreconnections: 1\nleft_aside: 1"),
        ];
        let (whole, differ) = together(&heads.iter().collect::<Vec<_>>());
        let wanted = "# date: 2026-11-30 to 2026-12-01\n# os: a; b\n# pace_chain_ns: 51\n# x_least: 80.5\n# left_aside: 1\n# reconnections: 3\n";
        // What is left aside is counted again from the measurements.
        assert_eq!(
            whole.to_head().replace("left_aside: 1; 2", "left_aside: 1").replace("left_aside: 2", "left_aside: 1"),
            wanted
        );
        assert!(differ);
        let (same, differ) = together(&[&heads[0], &heads[0]]);
        assert_eq!((same, differ), (heads[0].clone(), false));
        let (_, differ) = together(&[&head("left_aside: 1"), &head("left_aside: 2")]);
        assert!(!differ, "how much each left aside is no difference of places");
    }
}
