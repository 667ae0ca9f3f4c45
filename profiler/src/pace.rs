//! What the core's pace around a visit says of the machine's level there. The pace is known within a tenth of a percent at
//! every visit, and the level, smoothed over neighbours, only within some: where the one follows the other, an episode's
//! edges are seen as sharp as they are, and what a visit took can be put right by the pace around it. How they follow each
//! other depends on what slows a machine down (its clock, a sibling on the core's units), so it is fitted anew each time.

use fleetfoot_protocol::Pace;

use crate::statistics::{median, quantile};

/// By how much the same work took longer at the second pace than at the first, in percent: what the clock does (dependent
/// operations), and what others leave of the core (independent ones).
pub fn paces_apart(first: Option<Pace>, second: Option<Pace>) -> Option<[f64; 2]> {
    let percent = |of: fn(Pace) -> u64| Some(100.0 * (of(second?) as f64 / of(first?) as f64 - 1.0));
    Some([percent(|pace| pace.chain_ns)?, percent(|pace| pace.wide_ns)?])
}

/// How much of the time that a word takes between two cores counts as contention. From one look to the next it differs by a
/// tenth or two, and by several times where a host moves the cores away from each other.
const FAR: f64 = 0.1;

/// The contention at one pace.
pub(crate) fn contended(pace: Pace) -> f64 {
    let over_chain = |ns: u64| (ns as f64 / pace.chain_ns as f64).ln();
    let far = if pace.talk_ns > 0 { FAR * over_chain(pace.talk_ns) } else { 0.0 };
    let contended = over_chain(pace.wide_ns) + far;
    if contended.is_finite() { contended } else { f64::NAN }
}

/// Share of the time that a core has nobody else on its units at least, and by how much contention exceeds what it is then, as
/// a logarithm, where somebody is there.
const ALONE: f64 = 0.05;
const CONTENDED: f64 = 0.03;

/// By how much runs take longer, as a logarithm, where contention harms them: that which harms nothing, such as another kind of core,
/// or a clock's coarse steps, is none.
pub(crate) const HARMFUL: f64 = 0.025;

/// The most contention that a core has for itself, as all of it tells.
pub(crate) fn most_alone(contention: &[f64]) -> f64 {
    let mut known: Vec<f64> = contention.iter().copied().filter(|value| value.is_finite()).collect();
    known.sort_by(f64::total_cmp);
    quantile(&known, ALONE).map_or(f64::NAN, |least| least + CONTENDED)
}

/// By how much the independent operations took longer at each visit than the dependent ones let expect, as a logarithm: the
/// clock slows both alike, somebody else on the core's units, such as another guest of the host on a sibling thread, the
/// independent ones alone. At a visit's slower end; 0 is any level. Not a number where it isn't known.
pub(crate) fn contention(paces: &[[Pace; 2]]) -> Vec<f64> {
    // `max` leaves aside what is not a number.
    paces.iter().map(|ends| contended(ends[0]).max(contended(ends[1]))).collect()
}

/// The paces before and behind visits that follow each other: what ends one and begins the next is known twice, and the faster
/// counts, since an interrupt only ever adds.
pub(crate) fn settled(paces: &[[Pace; 2]]) -> Vec<[Pace; 2]> {
    let faster = |a: Pace, b: Option<Pace>| match b.filter(|b| b.chain_ns > 0 && b.wide_ns > 0) {
        Some(b) => Pace {
            chain_ns: a.chain_ns.min(b.chain_ns),
            wide_ns: a.wide_ns.min(b.wide_ns),
            // 0 isn't known.
            talk_ns: [a.talk_ns, b.talk_ns].into_iter().filter(|ns| *ns > 0).min().unwrap_or_default(),
        },
        None => a,
    };
    let settle = |index: usize| {
        let before = index.checked_sub(1).map(|before| paces[before][1]);
        let behind = paces.get(index + 1).map(|behind| behind[0]);
        [faster(paces[index][0], before), faster(paces[index][1], behind)]
    };
    (0..paces.len()).map(settle).collect()
}

/// Changes of the pace below this, as a logarithm, tell nothing: a ridge in the fit.
const TRUSTED: f64 = 0.002;
/// The most that a level follows a pace.
const STEEPEST: f64 = 4.0;

/// Logarithms of paces, over what is usual.
#[derive(Clone, Debug)]
pub(crate) struct Paces {
    /// What is usual.
    usual: [f64; 2],
    /// Mean of before and behind.
    means: Vec<[f64; 2]>,
    /// The same, each load by itself, smoothed over neighbouring visits.
    smooth: [Vec<f64>; 2],
    /// The slower of before and behind.
    worst: Vec<[f64; 2]>,
}

impl Paces {
    /// `smooth` takes a running median.
    pub(crate) fn new(paces: impl Iterator<Item = [Pace; 2]>, smooth: impl Fn(&[f64]) -> Vec<f64>) -> Self {
        let paces: Vec<[Pace; 2]> = paces.collect();
        let usual = [0, 1].map(|load| {
            let all = paces.iter().flatten().map(|pace| logarithm(pace, load)).filter(|pace| pace.is_finite());
            median(all).unwrap_or(f64::NAN)
        });
        let combine = |how: fn(f64, f64) -> f64| {
            let of =
                |ends: &[Pace; 2]| [0, 1].map(|load| how(over(&ends[0], usual, load), over(&ends[1], usual, load)));
            paces.iter().map(of).collect()
        };
        let means: Vec<[f64; 2]> = combine(|before, behind| (before + behind) / 2.0);
        let smooth = [0, 1].map(|load| smooth(&means.iter().map(|pace| pace[load]).collect::<Vec<f64>>()));
        Self { usual, means, smooth, worst: combine(f64::max) }
    }

    /// The level that goes with other paces than these.
    pub(crate) fn level_at(&self, weights: [f64; 2], ends: &[Pace; 2]) -> f64 {
        let follow = |load: usize| {
            let mean = (over(&ends[0], self.usual, load) + over(&ends[1], self.usual, load)) / 2.0;
            weights[load] * mean
        };
        follow(0) + follow(1)
    }

    /// How levels follow the loads. `residuals` are what visits took over what is usual, as logarithms, smoothed likewise.
    pub(crate) fn weights(&self, residuals: &[f64]) -> [f64; 2] {
        fit(&self.smooth, residuals)
    }

    /// What levels these paces go with: at every visit, and at its slower end.
    pub(crate) fn follow(&self, weights: [f64; 2]) -> (Vec<f64>, Vec<f64>) {
        let at = |paces: &[[f64; 2]]| paces.iter().map(|pace| weights[0] * pace[0] + weights[1] * pace[1]).collect();
        (at(&self.means), at(&self.worst))
    }
}

/// What a load took, as a logarithm.
fn logarithm(pace: &Pace, load: usize) -> f64 {
    ([pace.chain_ns, pace.wide_ns][load] as f64).ln()
}

/// By how much a load took longer than is usual, as a logarithm. What isn't known says nothing.
fn over(pace: &Pace, usual: [f64; 2], load: usize) -> f64 {
    let over = logarithm(pace, load) - usual[load];
    if over.is_finite() { over } else { 0.0 }
}

/// Weights of the two loads, not negative, by least squares over deviations from the medians.
fn fit(loads: &[Vec<f64>; 2], levels: &[f64]) -> [f64; 2] {
    let middle = |values: &[f64]| median(values.iter().copied().filter(|value| value.is_finite())).unwrap_or(0.0);
    let (usual, middles) = (middle(levels), [middle(&loads[0]), middle(&loads[1])]);
    let mut products = [[0.0; 2]; 2];
    let mut responses = [0.0; 2];
    let mut count = 0.0;
    for (index, level) in levels.iter().enumerate().filter(|(_, level)| level.is_finite()) {
        let deviations = [0, 1].map(|load| loads[load][index] - middles[load]);
        for a in 0..2 {
            responses[a] += deviations[a] * (level - usual);
            for b in 0..2 {
                products[a][b] += deviations[a] * deviations[b];
            }
        }
        count += 1.0;
    }
    if count == 0.0 {
        return [0.0; 2];
    }
    (0..2).for_each(|load| products[load][load] += count * TRUSTED * TRUSTED);
    let determinant = products[0][0] * products[1][1] - products[0][1] * products[1][0];
    let both = [
        (responses[0] * products[1][1] - responses[1] * products[0][1]) / determinant,
        (responses[1] * products[0][0] - responses[0] * products[1][0]) / determinant,
    ];
    let weights = if both.iter().all(|weight| *weight >= 0.0) {
        both
    } else {
        // One load alone explains responses² / products of the squares.
        let explained = |load: usize| responses[load].max(0.0).powi(2) / products[load][load];
        let load = usize::from(explained(1) > explained(0));
        let mut alone = [0.0; 2];
        alone[load] = (responses[load] / products[load][load]).max(0.0);
        alone
    };
    weights.map(|weight| weight.min(STEEPEST))
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn pace(slower: f64) -> Pace {
        Pace { chain_ns: (1e5 * slower) as u64, wide_ns: 40_000, talk_ns: 0 }
    }

    #[test]
    fn a_level_that_follows_the_clock_is_known_at_every_visit() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let slow = |index: usize| if (40..47).contains(&index) { 0.03 } else { 0.0 };
        let paces = Paces::new((0..200).map(|index| [pace(1.0 + slow(index)); 2]), <[f64]>::to_vec);
        let residuals: Vec<f64> = (0..200).map(|index| 2.0 * slow(index) + rng.random_range(-0.01..0.01)).collect();
        let (at, _) = paces.follow(paces.weights(&residuals));
        let errors = at.iter().enumerate().map(|(index, level)| (level - 2.0 * slow(index)).abs());
        assert!(errors.fold(0.0, f64::max) < 0.015, "{at:?}");
    }

    #[test]
    fn a_pace_that_levels_do_not_follow_is_left_aside() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let paces = Paces::new(
            (0..500).map(|_| [pace(1.0 + rng.random_range(0.0..0.001)); 2]).collect::<Vec<_>>().into_iter(),
            <[f64]>::to_vec,
        );
        let residuals: Vec<f64> = (0..500).map(|index| if index < 250 { 0.0 } else { 0.02 }).collect();
        let (at, _) = paces.follow(paces.weights(&residuals));
        assert!(at.iter().all(|level| level.abs() < 0.001), "{at:?}");
        let unknown = Paces::new((0..500).map(|_| [Pace::default(); 2]), <[f64]>::to_vec);
        assert_eq!(unknown.follow(unknown.weights(&residuals)).0, vec![0.0; 500]);
    }

    #[test]
    fn a_visit_that_ends_slower_than_it_began_is_told_from_one_that_does_not() {
        let ends = |index: usize| {
            if index == 50 { [pace(1.0), pace(1.1)] } else { [pace(if index > 50 { 1.1 } else { 1.0 }); 2] }
        };
        let paces = Paces::new((0..100).map(ends), <[f64]>::to_vec);
        let residuals: Vec<f64> = (0..100).map(|index| if index > 50 { 0.1 } else { 0.0 }).collect();
        let (at, worst) = paces.follow(paces.weights(&residuals));
        assert!(worst[50] > at[50] + 0.03 && (worst[40] - at[40]).abs() < 1e-12, "{} {}", at[50], worst[50]);
    }
}
