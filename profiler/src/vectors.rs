//! At what speed a core computes with vectors, and what visits took at its best.
//!
//! The clock of a core that computes with its widest vectors is another one than that of a core that doesn't, and it hangs, with how
//! often the core is halted meanwhile, on what a whole package of cores does. It moves over seconds and minutes, by a tenth and
//! more, so that no part of a campaign is like another campaign: the usual speed of either is no measure. The best one is, since
//! it is the processor's own: nearly every campaign sees its fastest clock for a while, and halts have a least number. What visits took is
//! therefore told *at the best*, by how much slower dense vector arithmetic was around them.
//!
//! On 2 virtual cores of an Intel Xeon (family 6, model 167) the mean time of such arithmetic explains 0.92 to 0.98 (correlation) of how
//! the levels of 100 visits differ. Four campaigns without it, within twelve minutes, differed by up to 7 % in all rows; ten with it, within
//! 55 minutes, all 45 pairs, by 0.8 % in the median (rows), at most by 2.0 %.

use fleetfoot_protocol::VectorPace;

use crate::statistics::{Z, around, finite, mean, median, over_parts, squares};

/// The best is the mean of so many of the readings, the fastest: clocks have steps, of which the fastest may be seen rarely or hardly ever.
const BEST: f64 = 0.1;
/// Share of the visits whose readings tell, at least.
const KNOWN: f64 = 0.1;
/// Visits on either side over which the pace is taken: halts are few in each reading, and what changes faster levels tell better. Each
/// visit's own readings in place of that left its time as uncertain as 1.8 % (`fashion-28`) and 4.8 % (`proxyless-224`), and so 1.5 and 2.2 %.
const AROUND: usize = 15;
/// Visits of which the levels and the pace are compared together, so that the noise of neither counts, and such blocks at least.
const BLOCK: usize = 100;
const BLOCKS: usize = 8;
/// What visits take follows the pace so closely, as far as they bear it out: within so many standard errors of what they say. Something else
/// may move them meanwhile by so much, as a logarithm: where the pace hardly changes, what it went along with says little.
const USUAL_WEIGHT: f64 = 1.1;
const ERRORS: f64 = 2.0;
const MOVED: f64 = 0.0075;
/// By how much that may be off, as a standard deviation.
const WEIGHT_OFF: f64 = 0.15;

/// By how much dense vector arithmetic was slower at visits, in the order of time, than at its best.
#[derive(Clone, Debug)]
pub(crate) struct Vectors {
    /// As logarithms.
    slower: Vec<f64>,
    /// That of every reading's fastest chunk, in ns; not a number where it isn't known.
    clocks: Vec<f64>,
    /// The best.
    best: f64,
    /// Whether it is known from elsewhere.
    is_told: bool,
}

/// What the core's halts do to times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Halts {
    /// They are in them.
    Counted,
    /// They are in them, but how many there were isn't told from what somebody else on the core does: as many as usual.
    Usual,
    /// They aren't: the fastest of short samples saw none.
    None,
}

impl Vectors {
    /// `None` where hardly any is known. `best` is what to tell it over, in ns, where that is known from elsewhere.
    pub(crate) fn of(paces: impl Iterator<Item = VectorPace>, halts: Halts, best: Option<f64>) -> Option<Self> {
        let log = |ns: u64| if ns > 0 { (ns as f64).ln() } else { f64::NAN };
        let (clocks, means): (Vec<f64>, Vec<f64>) = paces.map(|pace| (log(pace.best_ns), log(pace.mean_ns))).unzip();
        let known = finite(&clocks).count();
        if known == 0 || (known as f64) < KNOWN * clocks.len() as f64 {
            return None;
        }
        let over = match halts {
            Halts::Counted => means,
            Halts::Usual => {
                let halted: Vec<f64> = means.iter().zip(&clocks).map(|(mean, clock)| mean - clock).collect();
                let halted = median(finite(&halted)).unwrap_or_default();
                clocks.iter().map(|clock| clock + halted).collect()
            }
            Halts::None => clocks.clone(),
        };
        let told = best.map(f64::ln);
        let (best, usual) = (told.unwrap_or_else(|| best_of(&clocks)), median(finite(&over))?);
        let slower = around(&over, AROUND, |paces| mean(finite(paces)).unwrap_or(usual) - best);
        Some(Self { slower, clocks, best, is_told: told.is_some() })
    }

    /// By how much slower each visit was for it, as a logarithm, given the machine's levels there.
    pub(crate) fn followed(&self, levels: &[f64]) -> Vec<f64> {
        let weight = self.weight(levels);
        self.slower.iter().map(|slower| weight * slower).collect()
    }

    /// How levels follow the pace.
    fn weight(&self, levels: &[f64]) -> f64 {
        // What is left over behind the last whole block is left out.
        let blocks = levels.chunks_exact(BLOCK).zip(self.slower.chunks_exact(BLOCK));
        let of = |(levels, slower): (&[f64], &[f64])| Some((mean(finite(levels))?, mean(slower.iter().copied())?));
        let blocks: Vec<(f64, f64)> = blocks.filter_map(of).collect();
        if blocks.len() < BLOCKS {
            return USUAL_WEIGHT;
        }
        let n = blocks.len() as f64;
        let (levels, slowers): (Vec<f64>, Vec<f64>) = blocks.into_iter().unzip();
        let spread = squares(&slowers);
        if spread <= 0.0 {
            return USUAL_WEIGHT;
        }
        let [level, slower] = [&levels, &slowers].map(|values| values.iter().sum::<f64>() / n);
        let pairs = || levels.iter().zip(&slowers).map(|(of_level, of_pace)| (of_level - level, of_pace - slower));
        let slope = pairs().map(|(level, slower)| level * slower).sum::<f64>() / spread;
        let rests: Vec<f64> = pairs().map(|(level, slower)| level - slope * slower).collect();
        let missed = squares(&rests);
        let neighbours = rests.windows(2).map(|pair| pair[0] * pair[1]).sum::<f64>();
        // Rests that follow each other are alike, so that there are fewer of them than there seem to be.
        let alike = if missed > 0.0 { (neighbours / missed).clamp(0.0, 0.9) } else { 0.0 };
        let by_chance = (missed / (n - 2.0) / spread * (1.0 + alike) / (1.0 - alike)).sqrt();
        let error = by_chance.hypot(MOVED / (spread / n).sqrt());
        USUAL_WEIGHT.clamp(slope - ERRORS * error, slope + ERRORS * error).max(0.0)
    }

    /// The best, in ns.
    pub(crate) fn best_ns(&self) -> f64 {
        self.best.exp()
    }

    /// Half of the 99 % interval of what another campaign finds at the best, as a logarithm, as far as it hangs on this pace: on
    /// how far the best of this one hangs on its parts (the jackknife's error), or differs among them (the smaller one counts), and on what
    /// the weight may be off, where another campaign's pace differs from this one's as this one's blocks do.
    pub(crate) fn wander(&self) -> f64 {
        let [apart, jackknife] = over_parts(&self.clocks, best_of);
        let best = if self.is_told { 0.0 } else { apart.min(jackknife) };
        let blocks: Vec<f64> = self.slower.chunks(BLOCK).filter_map(|slower| mean(slower.iter().copied())).collect();
        let pace = (squares(&blocks) / blocks.len().max(1) as f64).sqrt();
        let wander = Z * best.hypot(WEIGHT_OFF * pace);
        if wander.is_finite() { wander } else { 0.0 }
    }
}

fn best_of(clocks: &[f64]) -> f64 {
    let mut known: Vec<f64> = finite(clocks).collect();
    known.sort_by(f64::total_cmp);
    known.truncate(((BEST * known.len() as f64).ceil() as usize).max(1));
    mean(known).unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn pace(clock: f64, halted: f64) -> VectorPace {
        VectorPace { best_ns: (1600.0 * clock) as u64, mean_ns: (1600.0 * clock * (1.0 + halted)) as u64 }
    }

    /// A campaign whose clock is in one of three states for some seconds each, with halts that come and go, and the levels of visits that
    /// follow it so closely.
    fn campaign(seed: u64, share: f64, weight: f64) -> (Vectors, Vec<f64>) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (mut paces, mut levels) = (Vec::new(), Vec::new());
        while paces.len() < 4_000 {
            let clock = if rng.random_bool(share) { 1.0 } else { [1.03, 1.09][rng.random_range(0..2)] };
            let halts = rng.random_range(0.02..0.08);
            for _ in 0..rng.random_range(50..300) {
                let counted = halts * rng.random_range(0.0..2.0);
                paces.push(pace(clock, counted));
                levels.push(weight * (clock.ln() + f64::ln(1.0 + halts)) + rng.random_range(-0.02..0.02));
            }
        }
        (Vectors::of(paces.into_iter(), Halts::Counted, None).unwrap(), levels)
    }

    #[test]
    fn campaigns_that_saw_the_best_clock_rarely_and_often_tell_the_same_at_the_best() {
        for weight in [1.0, 1.3] {
            let at_best = |seed, share| {
                let (vectors, levels) = campaign(seed, share, weight);
                let rests = levels.iter().zip(vectors.followed(&levels)).map(|(level, followed)| level - followed);
                median(rests).unwrap()
            };
            let (rarely, often) = (at_best(1, 0.2), at_best(2, 0.7));
            // Its usual pace is a tenth slower.
            assert!(rarely.abs() < 0.025 && (rarely - often).abs() < 0.01, "{weight}: {rarely} {often}");
        }
    }

    #[test]
    fn what_does_not_follow_the_pace_is_hardly_changed_and_a_pace_that_hardly_moves_says_little() {
        let (vectors, levels) = campaign(3, 0.5, 0.0);
        assert!(vectors.weight(&levels) < 0.5, "{}", vectors.weight(&levels));
        // By chance levels move twice as much as a pace that wanders by a hundredth.
        let wave = |index: usize| 0.01 * (index as f64 / 300.0).sin();
        let vectors = Vectors::of((0..4_000).map(|index| pace(1.0 + wave(index), 0.0)), Halts::Counted, None).unwrap();
        let levels: Vec<f64> = (0..4_000).map(|index| 2.0 * wave(index)).collect();
        assert_eq!(vectors.weight(&levels), USUAL_WEIGHT);
    }

    #[test]
    fn a_best_that_only_one_part_of_a_campaign_saw_leaves_a_doubt() {
        let of = |is_best: &dyn Fn(usize) -> bool| {
            let paces = (0..1_000).map(|index| pace(if is_best(index) { 1.0 } else { 1.05 }, 0.0));
            Vectors::of(paces, Halts::Counted, None).unwrap().wander()
        };
        assert!(of(&|index| index % 5 == 0) < 0.001);
        assert!(of(&|index| index < 40) > 0.03);
    }

    #[test]
    fn halts_count_where_times_hold_them_and_a_best_that_is_told_is_the_measure() {
        let of = |halts, best| {
            let paces = (0..400).map(|index| pace(1.02, if index < 200 { 0.02 } else { 0.08 }));
            Vectors::of(paces, halts, best).unwrap()
        };
        let ends = |vectors: &Vectors| [50, 350].map(|index| (100.0 * vectors.slower[index]).round());
        assert_eq!(ends(&of(Halts::Counted, None)), [2.0, 8.0]);
        assert_eq!(ends(&of(Halts::Usual, None)), [5.0, 5.0]);
        assert_eq!(ends(&of(Halts::None, None)), [0.0, 0.0]);
        assert_eq!(ends(&of(Halts::None, Some(1600.0))), [2.0, 2.0]);
        assert!(of(Halts::None, Some(1600.0)).wander() < 1e-9);
    }

    #[test]
    fn what_is_not_known_changes_nothing() {
        assert!(Vectors::of([VectorPace::default(); 9].into_iter(), Halts::Counted, None).is_none());
        assert!(Vectors::of(std::iter::empty(), Halts::Counted, None).is_none());
        // One visit without a reading among others.
        let mut paces = [pace(1.0, 0.01); 9];
        paces[4] = VectorPace::default();
        let vectors = Vectors::of(paces.into_iter(), Halts::Counted, None).unwrap();
        let followed = vectors.followed(&[0.0; 9]);
        assert!(followed.iter().all(|followed| (followed - 0.01).abs() < 1e-3), "{followed:?}");
    }
}
