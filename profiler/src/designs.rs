//! Designs: which architectures to measure so that every candidate stands in every decision equally often.
//!
//! A decision with n candidates runs through all of them in every n architectures in a row, a column of a cyclic Latin
//! square: candidate `(a i + o) mod n` in the i-th of them, with a step `a` and an offset `o` of its own in each such
//! block. Steps and offsets are chosen so that two decisions don't move together: of each pair of candidates in two
//! decisions there are as equally many as can be had.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Seed of the steps and offsets: a space has one design, so that evaluations can leave its architectures out.
const SEED: u64 = 0;
/// Columns that are tried for a decision.
const TRIES: usize = 200;
/// The longest period that is kept. Where the numbers of candidates have a longer one in common, columns are cut short, and
/// candidates stand equally often but for one.
const LONGEST: usize = 128;

/// The smallest number of architectures, at least as many as asked for, in which the candidates of decisions with so many
/// of them can stand equally often.
fn length(candidates: &[usize], at_least: usize) -> usize {
    let common = candidates.iter().fold(1, |period, &n| lcm(period, n).min(LONGEST + 1));
    let at_least = at_least.max(candidates.iter().copied().max().unwrap_or(1));
    if common > LONGEST { at_least } else { common * at_least.div_ceil(common) }
}

fn lcm(a: usize, b: usize) -> usize {
    a / gcd(a, b) * b
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// A design's architectures, each a choice for every decision. `candidates` are the numbers of candidates, each above 0.
pub(crate) fn balanced(candidates: &[usize], at_least: usize) -> Vec<Vec<usize>> {
    let length = length(candidates, at_least);
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let mut columns: Vec<Vec<usize>> = Vec::new();
    for &n in candidates {
        let tries = (0..TRIES).map(|_| column(n, length, &mut rng));
        let confounding = |column: &[usize]| {
            columns.iter().zip(candidates).map(|(other, &m)| clumping(column, n, other, m)).sum::<usize>()
        };
        let best = tries.map(|column| (confounding(&column), column)).min_by_key(|(confounding, _)| *confounding);
        columns.extend(best.map(|(_, column)| column));
    }
    (0..length).map(|row| columns.iter().map(|column| column[row]).collect()).collect()
}

/// A decision's choices.
fn column(n: usize, length: usize, rng: &mut impl Rng) -> Vec<usize> {
    let mut column = Vec::with_capacity(length);
    while column.len() < length {
        let offset = rng.random_range(0..n);
        let step = loop {
            let step = rng.random_range(1..=n);
            if gcd(step, n) == 1 {
                break step;
            }
        };
        let rest = (length - column.len()).min(n);
        column.extend((0..rest).map(|index| (step * index + offset) % n));
    }
    column
}

/// Sum of the squared numbers of each pair of candidates in two decisions: the smaller, the more evenly they meet.
fn clumping(first: &[usize], n: usize, second: &[usize], m: usize) -> usize {
    let mut meetings = vec![0; n * m];
    first.iter().zip(second).for_each(|(&a, &b)| meetings[a * m + b] += 1);
    meetings.iter().map(|count| count * count).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counts(design: &[Vec<usize>], decision: usize, n: usize) -> Vec<usize> {
        let mut counts = vec![0; n];
        design.iter().for_each(|choices| counts[choices[decision]] += 1);
        counts
    }

    proptest! {
        #[test]
        fn every_candidate_stands_in_every_decision_equally_often(
            candidates in prop::collection::vec(1usize..=9, 1..24),
            at_least in 1usize..120,
        ) {
            let design = balanced(&candidates, at_least);
            prop_assert!(design.len() >= at_least);
            let common = candidates.iter().copied().fold(1, lcm);
            for (decision, &n) in candidates.iter().enumerate() {
                let counts = counts(&design, decision, n);
                let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
                prop_assert!(most - least <= usize::from(common > LONGEST), "decision {decision}: {counts:?}");
            }
            if common <= LONGEST {
                prop_assert!(design.len() < at_least.max(9) + common, "{} architectures", design.len());
            }
        }
    }

    #[test]
    fn no_two_decisions_move_together() {
        // The decisions of fashion-28 and of proxyless-224.
        for (sevens, sixes) in [(7, 3), (15, 6)] {
            let candidates = [vec![7; sevens], vec![6; sixes]].concat();
            let design = balanced(&candidates, 84);
            for first in 0..candidates.len() {
                for second in 0..first {
                    let pairs: std::collections::HashSet<(usize, usize)> =
                        design.iter().map(|choices| (choices[first], choices[second])).collect();
                    let possible = candidates[first] * candidates[second];
                    assert!(10 * pairs.len() > 6 * possible, "{first} and {second}: {} of {possible}", pairs.len());
                }
            }
        }
    }
}
