//! Which visits a disturbance spoilt: another process on the core, a host that is busy with others, a clock that slows
//! down. Such episodes last from fractions of a second to minutes, begin and end when they like, and often leave no trace
//! but the slowness itself.
//!
//! Somebody else on the units of a core, such as another guest of a virtual machine's host on the sibling thread, shows in its
//! pace by itself: independent operations become slower, dependent ones don't. Visits with more *contention* than the machine has
//! at its best are disturbed, as long as the times bear it out and a fifth of the visits is left: else the fifth with the least
//! contention has to do, and the table says so. On a machine with such a neighbour for half
//! to four fifths of the time, whose visits took 27 % longer then, networks differed between two of ten campaigns by 0.1 to
//! 0.4 % in the median; by levels alone nine of them did, and the tenth took the slow state for the usual one: 18 %.
//!
//! Visits to many subjects are interleaved, so that an episode slows all of them alike: the logarithm of a visit's time
//! over its subject's usual time, smoothed by a running median over neighbouring visits, is the machine's *level*. Medians
//! keep edges where they are and don't heed single outliers. The lowest band of levels, [`WIDTH`] wide, in which the machine
//! spends [`SHARE`] of the time that it has for itself, moved up a little to where it is fullest, is its quiet state; what lies
//! above is disturbed. The fastest moments aren't taken for it. Where a clock has two states, one of them is taken for the usual one in
//! one campaign and the other in another, if that hangs on which of them lasts longer: with two fifths of the time wanted, one of five
//! campaigns was 2.5 % slower than the others, with a quarter all of them agree within 0.5 %. Of three profiles on a machine whose level wandered by ±10 %, compared
//! in pairs, the units differed in the median by 1.0 to 2.7 % by the lowest tenth (band 2.5 % wide), by 0.8 to 1.2 % by such a
//! band of two fifths (not moved up yet), by 1.1 to 2.4 % without selection; on a quieter stretch by 1.2 to 2.5 %, 0.6 to 1.2 % and 0.7 to
//! 0.9 %.
//!
//! Speed that changes for longer than a campaign lasts shows only against another one: subjects that were measured there,
//! too, are references, and what counts is then what was measured at their speed.

use std::collections::BTreeMap;

use fleetfoot_protocol::{Pace, VectorPace};

use crate::pace::{HARMFUL, Paces, contention, most_alone, settled};
use crate::statistics::{Z, around, finite, mean, over_parts};
use crate::vectors::{Halts, Vectors};

/// A visit to a subject.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Visited {
    /// The subject's number.
    pub subject: usize,
    /// What a run took, in any unit; not a number where every sample was interrupted.
    pub time: f64,
    /// Share of its time that interruptions of the process took.
    pub interrupted: f64,
    /// The core's pace before and behind it.
    pub paces: [Pace; 2],
    /// That of dense vector arithmetic behind it, where it tells of the visit.
    pub vectors: VectorPace,
}

/// Visits on either side that the level is smoothed over.
const NEIGHBOURS: usize = 7;
/// Share of the visits that a quiet state has at least: a short spurt of turbo is not what is usual.
const SHARE: f64 = 0.25;
/// Width of the quiet state's band, as a logarithm.
const WIDTH: f64 = 0.05;
/// By how much a visit's ends differ, as levels, where its own time tells them apart in spite of its noise.
const STEP: f64 = 0.025;
/// Share of the time lost to interruptions, over neighbouring visits, that shows somebody else on the core.
const INTERRUPTED: f64 = 0.05;
/// Share of the visits that suffices for a measurement: those nearest to the references' speed, or with the least contention.
const FOUND: f64 = 0.2;
/// Turns after which subjects' times and levels hardly change any more.
const TURNS: usize = 5;

/// At what pace of the core times are told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Best {
    /// At whatever pace there was.
    Untold,
    /// At its best in vector arithmetic, of what is so in times; in ns, where it is known from elsewhere.
    Of {
        /// What halts do to times.
        halts: Halts,
        /// The best.
        ns: Option<f64>,
    },
}

/// What the visits of a campaign tell of the machine.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Judgement {
    /// Which visits were disturbed.
    pub disturbed: Vec<bool>,
    /// By how much the machine was slower at a visit than it usually is in those that count, as a logarithm; not a number
    /// where that isn't known.
    pub levels: Vec<f64>,
    /// By how much visits took longer than at the core's best pace, as a logarithm, where dense vector arithmetic tells it: levels are
    /// above that.
    pub over_the_best: Vec<f64>,
    /// The best, in ns; `None` where it isn't known.
    pub best_ns: Option<f64>,
    /// Half of the 99 % interval of what another campaign finds at the best, besides its levels, as a logarithm.
    pub best_wander: f64,
    /// Half of the 99 % interval of what is usual, as a logarithm, as more visits would narrow it: it is common to all subjects.
    pub doubt: f64,
    /// Half of the 99 % interval of what another campaign finds usual, as a logarithm: speeds that wander for longer than a campaign
    /// lasts don't average out in it.
    pub wander: f64,
    /// By how much the machine was slower in the visits that count than the references say, as a logarithm.
    pub slower: Option<f64>,
    /// How often somebody else was on the core's units.
    pub sharing: Sharing,
}

/// How often somebody else was on the units of the core that measures.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sharing {
    /// Share of the visits.
    pub share: f64,
    /// Whether there were so few others that those with the least contention had to do: what they took is too long, likely.
    pub is_crowded: bool,
}

/// Judges visits, given in the order of time. `references` are times of a run of some subjects, by number, from another
/// campaign: where there are any, visits at the speed that they stand for count and others are disturbed. With `yielding`,
/// the visits that come nearest to it count where the machine was hardly ever that fast, or that slow.
/// `in_bursts`: the visits' times are of what lies between the bursts of somebody who shares the core.
pub(crate) fn judge(
    visits: &[Visited],
    references: &BTreeMap<usize, f64>,
    yielding: bool,
    in_bursts: bool,
    best: Best,
) -> Judgement {
    let at_any_pace = || judge_at_the_best(visits, references, yielding, in_bursts);
    let Best::Of { halts, ns } = best else { return at_any_pace() };
    if visits.iter().all(|visit| visit.vectors == VectorPace::default()) {
        return at_any_pace();
    }
    // Somebody else on the core's units slows vectors down, too, but not as networks: there the visits around tell.
    let Alone { levels: Levels { mut levels, .. }, shared, .. } = levels_of_the_core_alone(visits, in_bursts);
    let told =
        visits.iter().zip(&shared).map(|(visit, shared)| if *shared { VectorPace::default() } else { visit.vectors });
    // How often the core halts isn't told from bursts.
    let halts = if in_bursts && halts == Halts::Counted { Halts::Usual } else { halts };
    let Some(vectors) = Vectors::of(told, halts, ns) else { return at_any_pace() };
    levels.iter_mut().zip(&shared).filter(|(_, shared)| **shared).for_each(|(level, _)| *level = f64::NAN);
    let over_the_best = vectors.followed(&levels);
    let at_the_best = visits.iter().zip(&over_the_best);
    let at_the_best: Vec<Visited> =
        at_the_best.map(|(visit, over)| Visited { time: visit.time / over.exp(), ..*visit }).collect();
    let judgement = judge_at_the_best(&at_the_best, references, yielding, in_bursts);
    // Where there are references, their speed is what counts.
    let best_wander = if references.is_empty() { vectors.wander() } else { 0.0 };
    Judgement { over_the_best, best_ns: Some(vectors.best_ns()), best_wander, ..judgement }
}

fn judge_at_the_best(
    visits: &[Visited],
    references: &BTreeMap<usize, f64>,
    yielding: bool,
    in_bursts: bool,
) -> Judgement {
    let shares: Vec<f64> = visits.iter().map(|visit| visit.interrupted).collect();
    let is_foreign = |shares: &[f64]| mean(shares.iter().copied()).is_some_and(|share| share > INTERRUPTED);
    let foreign = around(&shares, NEIGHBOURS, is_foreign);
    let Alone { mut levels, share, shared, is_crowded } = levels_of_the_core_alone(visits, in_bursts);
    levels.settle(visits);
    let Levels { mut levels, edges, usual, .. } = levels;
    let offset = offset(&usual, references);
    if let Some(offset) = offset {
        levels.iter_mut().for_each(|level| *level += offset);
    }
    let alone = |values: &[f64]| -> Vec<f64> {
        values.iter().zip(&shared).filter(|(_, shared)| !**shared).map(|(value, _)| *value).collect()
    };
    let (low, high) = match offset {
        Some(_) => {
            let distances: Vec<f64> = levels.iter().map(|level| level.abs()).collect();
            let nearest = if yielding { quantile(&distances, FOUND) } else { 0.0 };
            let far = nearest.max(WIDTH / 2.0);
            (-far, far)
        }
        None => (f64::NEG_INFINITY, quiet_below(&alone(&levels))),
    };
    let mark = |index: usize| {
        let (visit, level) = (&visits[index], levels[index]);
        // Where there are references, their speed is the measure, whoever shares the core.
        let shared = shared[index] && offset.is_none();
        // A level that isn't known, for want of times around it, is no reproach.
        visit.time.is_nan() || foreign[index] || shared || level + edges[index] > high || level < low
    };
    let disturbed: Vec<bool> = (0..visits.len()).map(mark).collect();
    let known = disturbed.iter().zip(&levels).filter(|(disturbed, level)| !**disturbed && level.is_finite());
    let mut known: Vec<f64> = known.map(|(_, level)| *level).collect();
    if known.is_empty() && yielding {
        // Then what is disturbed counts, too.
        known = finite(&levels).collect();
    }
    let middle = if known.is_empty() { 0.0 } else { quantile(&known, 0.5) };
    let doubt = doubt(&known);
    // Where there are references, their speed is what counts.
    let wander = if offset.is_some() { doubt } else { doubt.max(wander(&alone(&levels))) };
    levels.iter_mut().for_each(|level| *level -= middle);
    let slower = offset.filter(|_| !known.is_empty()).map(|_| middle);
    let (over_the_best, sharing) = (vec![0.0; visits.len()], Sharing { share, is_crowded });
    Judgement { disturbed, levels, over_the_best, best_ns: None, best_wander: 0.0, doubt, wander, slower, sharing }
}

/// The machine's levels, and at which visits somebody else shared the core.
struct Alone {
    levels: Levels,
    /// Share of the visits whose paces show it.
    share: f64,
    /// Those that don't count for it.
    shared: Vec<bool>,
    is_crowded: bool,
}

/// Its paces tell who shares the core, and the times bear it out.
fn levels_of_the_core_alone(visits: &[Visited], in_bursts: bool) -> Alone {
    let contention = contention(&settled(&visits.iter().map(|visit| visit.paces).collect::<Vec<_>>()));
    // Nobody else, or, where somebody nearly always is there, as little as ever.
    let (most, found) = (most_alone(&contention), quantile(&contention, FOUND));
    let (most, is_crowded) = (most.max(found), found > most);
    let shared: Vec<bool> = contention.iter().map(|contention| *contention > most).collect();
    let part = |wanted: bool| -> Vec<usize> { (0..visits.len()).filter(|index| shared[*index] == wanted).collect() };
    let (alone, others) = (part(false), part(true));
    let share = others.len() as f64 / visits.len().max(1) as f64;
    if others.is_empty() {
        return Alone { levels: levels(visits), share, shared, is_crowded: false };
    }
    if in_bursts {
        return between_bursts(visits, &contention, (most, is_crowded), share);
    }
    // The clock may have been lower meanwhile, by chance: that isn't their doing.
    let clocked = by_the_clock(visits);
    let found = levels(&alone.iter().map(|index| clocked[*index]).collect::<Vec<_>>());
    let harm = found.beyond_the_pace(&clocked, &others) - found.beyond_the_pace(&clocked, &alone);
    if harm.is_nan() || harm <= HARMFUL {
        return Alone { levels: levels(visits), share: 0.0, shared: vec![false; visits.len()], is_crowded: false };
    }
    let found = levels(&alone.iter().map(|index| visits[*index]).collect::<Vec<_>>());
    let slower = smooth(&others.iter().map(|index| found.level_of(&visits[*index])).collect::<Vec<_>>());
    let mut own = vec![f64::NAN; visits.len()];
    others.into_iter().zip(slower).for_each(|(index, level)| own[index] = level);
    Alone { levels: found.among(&alone, own), share, shared, is_crowded }
}

/// The same where somebody else is there in bursts that are shorter than a visit, and the visits' times are those between them: what
/// the paces at a visit's ends show says little of its middle, and it counts where it took no longer than the clock lets expect.
/// It still is hardly ever alone where the least contended visits had to begin with, and few others were found.
fn between_bursts(visits: &[Visited], contention: &[f64], (most, is_hardly_alone): (f64, bool), share: f64) -> Alone {
    let is_alone = |index: &usize| contention[*index] <= most;
    let visits = by_the_clock(visits);
    let members = |accepted: &[usize]| accepted.iter().map(|index| visits[*index]).collect::<Vec<_>>();
    let mut accepted: Vec<usize> = (0..visits.len()).filter(is_alone).collect();
    let mut own = Vec::new();
    for _ in 0..ACCEPTED_IN {
        let found = levels(&members(&accepted));
        let most = found.beyond_the_pace(&visits, &accepted) + HARMFUL;
        let is_unharmed = |index: &usize| found.beyond_the_pace(&visits, &[*index]) <= most;
        own = visits.iter().map(|visit| found.level_of(visit)).collect();
        accepted = (0..visits.len()).filter(|index| is_alone(index) || is_unharmed(index)).collect();
    }
    let mut shared = vec![true; visits.len()];
    accepted.iter().for_each(|index| shared[*index] = false);
    let is_crowded = is_hardly_alone && (accepted.len() as f64) < 2.0 * FOUND * visits.len() as f64;
    Alone { levels: levels(&members(&accepted)).among(&accepted, own), share, shared, is_crowded }
}

/// The visits with what their paces tell of the clock alone: what others leave of the core's units then is no matter.
fn by_the_clock(visits: &[Visited]) -> Vec<Visited> {
    let clock = |pace: Pace| Pace { wide_ns: pace.chain_ns, ..pace };
    let paces = settled(&visits.iter().map(|visit| visit.paces).collect::<Vec<_>>());
    visits.iter().zip(paces).map(|(visit, ends)| Visited { paces: ends.map(clock), ..*visit }).collect()
}

/// Turns in which the visits that count are found.
const ACCEPTED_IN: usize = 2;

/// By how much the subjects' usual times exceed the references, as a logarithm: the median over the references.
fn offset(usual: &[f64], references: &BTreeMap<usize, f64>) -> Option<f64> {
    let offsets = references.iter().filter_map(|(&subject, time)| Some(usual.get(subject)? - time.ln()));
    let offset = quantile(&offsets.collect::<Vec<_>>(), 0.5);
    offset.is_finite().then_some(offset)
}

/// Half of the 99 % interval of the median of levels that follow each other: neighbours are alike, so that `n` of them are
/// worth `n (1 - r) / (1 + r)` independent ones, `r` being the correlation of neighbours (a process that is autoregressive
/// of first order). The running median lets neighbours share their window, and every window counts once.
fn doubt(levels: &[f64]) -> f64 {
    let windows: Vec<f64> = levels.iter().copied().step_by(2 * NEIGHBOURS + 1).collect();
    if windows.len() < 3 {
        return 0.0;
    }
    let middle = mean(windows.iter().copied()).unwrap_or_default();
    let square = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / windows.len() as f64;
    let variance = square(&mut windows.iter().map(|level| (level - middle).powi(2)));
    let covariance = square(&mut windows.windows(2).map(|pair| (pair[0] - middle) * (pair[1] - middle)));
    if variance == 0.0 {
        return 0.0;
    }
    let correlation = (covariance / variance).clamp(0.0, 0.99);
    let independent = windows.len() as f64 * (1.0 - correlation) / (1.0 + correlation);
    // A median's standard error is sqrt(pi / 2) times a mean's.
    Z * (std::f64::consts::FRAC_PI_2 * variance / independent).sqrt()
}

/// Half of the 99 % interval of a campaign's usual level: what wanders from minute to minute (a clock that a host shares among its
/// guests) does so from one campaign to the next, and by no less. It shows in how the usual levels of the campaign's parts
/// differ, each of them judged as if it were a campaign, and in how what is usual changes without one of them (the jackknife's error,
/// twice, as is that of one of four parts). A part that lacks the quiet state altogether makes the first too large, and one without
/// which there is too little of it the second: the smaller one counts.
fn wander(levels: &[f64]) -> f64 {
    let [apart, jackknife] = over_parts(levels, usual_level);
    if apart.is_nan() || jackknife.is_nan() { 0.0 } else { Z * apart.min(2.0 * jackknife) }
}

/// The median of the levels in the quiet state's band.
fn usual_level(levels: &[f64]) -> f64 {
    let high = quiet_below(levels);
    quantile(&levels.iter().copied().filter(|level| *level <= high).collect::<Vec<f64>>(), 0.5)
}

/// The upper end of the quiet state's band: of the lowest band that has its share of the levels, else of the fullest. Strays
/// below the quiet state would make it end within that state: up to half its width further up it is where it is fullest.
fn quiet_below(levels: &[f64]) -> f64 {
    let mut sorted: Vec<f64> = finite(levels).collect();
    sorted.sort_by(f64::total_cmp);
    // Bands that begin at each level: their beginnings, and how many they hold.
    let mut end = 0;
    let count = |(start, low): (usize, &f64)| {
        while sorted.get(end).is_some_and(|level| *level <= low + WIDTH) {
            end += 1;
        }
        (*low, end - start)
    };
    let bands: Vec<(f64, usize)> = sorted.iter().enumerate().map(count).collect();
    let quiet = match bands.iter().position(|band| band.1 as f64 >= SHARE * sorted.len() as f64) {
        Some(first) => &bands[first..bands.partition_point(|band| band.0 <= bands[first].0 + WIDTH / 2.0)],
        None => &bands,
    };
    // The lowest of those that are alike.
    quiet.iter().rev().max_by_key(|band| band.1).map_or(0.0, |band| band.0) + WIDTH
}

/// Logarithms: the machine's level at every visit, what its slower end is above that as the paces tell, and every subject's
/// usual time where the level is 0; and how levels follow the paces.
struct Levels {
    levels: Vec<f64>,
    edges: Vec<f64>,
    usual: Vec<f64>,
    paces: Paces,
    weights: [f64; 2],
}

impl Levels {
    /// By how much a visit that they weren't made of took longer than is usual for its subject.
    fn level_of(&self, visit: &Visited) -> f64 {
        visit.time.ln() - self.usual.get(visit.subject).copied().unwrap_or(f64::NAN)
    }

    /// Where the paces at a visit's ends tell of two speeds, its own time tells which of them it was.
    fn settle(&mut self, visits: &[Visited]) {
        for (index, visit) in visits.iter().enumerate() {
            let (level, edge) = (self.levels[index], self.edges[index]);
            let over_the_mean = self.level_of(visit) - level;
            if 2.0 * edge > STEP && over_the_mean.is_finite() {
                self.levels[index] = level + if over_the_mean > 0.0 { edge } else { -edge };
                self.edges[index] = 0.0;
            }
        }
    }

    /// By how much more some visits took than their paces let expect, in the median; only differences tell.
    fn beyond_the_pace(&self, visits: &[Visited], some: &[usize]) -> f64 {
        let beyond = |visit: &Visited| self.level_of(visit) - self.paces.level_at(self.weights, &visit.paces);
        quantile(&some.iter().map(|index| beyond(&visits[*index])).collect::<Vec<f64>>(), 0.5)
    }

    /// Of visits of which some are left out: a level is known of those that aren't, others have their own.
    fn among(mut self, members: &[usize], own: Vec<f64>) -> Self {
        let edges = std::mem::replace(&mut self.edges, vec![0.0; own.len()]);
        let levels = std::mem::replace(&mut self.levels, own);
        for (place, &index) in members.iter().enumerate() {
            (self.levels[index], self.edges[index]) = (levels[place], edges[place]);
        }
        self
    }
}

/// The machine's level at every visit: `ln time = subject's + level + noise`, both fitted by medians in turns (Tukey's
/// median polish, with a running median in place of columns). What the paces explain isn't smoothed.
fn levels(visits: &[Visited]) -> Levels {
    let times: Vec<f64> = visits.iter().map(|visit| visit.time.ln()).collect();
    let subjects = visits.iter().map(|visit| visit.subject + 1).max().unwrap_or(0);
    let mut levels = vec![0.0; visits.len()];
    let mut edges = vec![0.0; visits.len()];
    let mut usual = vec![f64::NAN; subjects];
    let mut weights = [0.0; 2];
    let paces = Paces::new(visits.iter().map(|visit| visit.paces), smooth);
    for turn in 0..TURNS {
        // Of a machine that is slow half of the time, subjects' medians lie now on this side, now on that; the faster
        // quarter is a beginning that they have in common.
        let start = if turn == 0 { 0.25 } else { 0.5 };
        let mut of_subjects = vec![Vec::new(); subjects];
        for ((visit, time), level) in visits.iter().zip(&times).zip(&levels) {
            of_subjects[visit.subject].push(time - level);
        }
        usual = of_subjects.iter().map(|times| quantile(times, start)).collect();
        let residuals: Vec<f64> = visits.iter().zip(&times).map(|(visit, time)| time - usual[visit.subject]).collect();
        weights = paces.weights(&smooth(&residuals));
        let (followed, worst) = paces.follow(weights);
        let rest: Vec<f64> = residuals.iter().zip(&followed).map(|(residual, followed)| residual - followed).collect();
        levels = smooth(&rest).iter().zip(&followed).map(|(rest, followed)| rest + followed).collect();
        edges = worst.iter().zip(&followed).map(|(worst, followed)| worst - followed).collect();
    }
    Levels { levels, edges, usual, paces, weights }
}

/// A quantile of those values that are numbers; not a number where none is.
fn quantile(values: &[f64], q: f64) -> f64 {
    let mut known: Vec<f64> = finite(values).collect();
    known.sort_by(f64::total_cmp);
    known.get((q * known.len() as f64) as usize).copied().unwrap_or(f64::NAN)
}

/// The running median.
fn smooth(values: &[f64]) -> Vec<f64> {
    around(values, NEIGHBOURS, |window| quantile(window, 0.5))
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Visits to 50 subjects in rounds, with noise of about 1 % and now and then an outlier; `slow` is the machine's
    /// factor at a visit's number.
    fn visits(rounds: usize, seed: u64, slow: impl Fn(usize) -> f64) -> Vec<Visited> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let visit = |index: usize| {
            let subject = index % 50;
            let noise: f64 = (0..3).map(|_| rng.random_range(-0.01..0.01)).sum();
            let outlier = if rng.random_bool(0.02) { rng.random_range(0.0..1.0) } else { 0.0 };
            let time = (1.0 + subject as f64) * slow(index) * (1.0 + noise + outlier);
            Visited { subject, time, interrupted: 0.0, paces: STEADY, vectors: VectorPace::default() }
        };
        (0..50 * rounds).map(visit).collect()
    }

    const BEST: Best = Best::Of { halts: Halts::Counted, ns: None };

    fn judged(visits: &[Visited], references: &BTreeMap<usize, f64>, yielding: bool, in_bursts: bool) -> Judgement {
        judge(visits, references, yielding, in_bursts, BEST)
    }

    const STEADY: [Pace; 2] = [Pace { chain_ns: 5_000, wide_ns: 2_000, talk_ns: 0 }; 2];

    #[test]
    fn a_clock_that_changes_for_a_few_visits_is_seen_at_each_of_them() {
        // Shorter than the window that levels are smoothed over.
        let slow = |index: usize| index % 100 < 5;
        let mut all = visits(40, 8, |index| if slow(index) { 1.12 } else { 1.0 });
        for (index, visit) in all.iter_mut().enumerate().filter(|(index, _)| slow(*index)) {
            let slower = Pace { chain_ns: 5_600 + index as u64 % 7, wide_ns: 2_240, talk_ns: 0 };
            visit.paces = [slower; 2];
        }
        let (found, alarms) = shares(&disturbed(&all), slow);
        let blind: Vec<Visited> = all.iter().map(|visit| Visited { paces: STEADY, ..*visit }).collect();
        let (blindly, _) = shares(&disturbed(&blind), slow);
        assert!(found > 0.98 && alarms < 0.02 && blindly < 0.5, "{found} {alarms} {blindly}");
    }

    /// What somebody else on the core's units makes of the pace.
    fn shared(factor: f64) -> Pace {
        Pace { wide_ns: (2_000.0 * factor) as u64, ..STEADY[0] }
    }

    #[test]
    fn a_machine_that_is_hardly_ever_alone_is_measured_while_it_is() {
        // Three quarters of the time somebody shares the core's units, in stretches of a few visits to hundreds; visits take
        // 27 % longer then, however much the paces show.
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        let mut busy = Vec::new();
        while busy.len() < 2500 {
            let mut stretch = |busy_now, lengths| busy.extend(vec![busy_now; rng.random_range(lengths)]);
            stretch(true, 30..500);
            stretch(false, 10..170);
        }
        let mut all = visits(50, 11, |index| if busy[index] { 1.27 } else { 1.0 });
        for (visit, _) in all.iter_mut().zip(&busy).filter(|(_, busy)| **busy) {
            visit.paces = [(); 2].map(|()| shared(rng.random_range(1.05..2.0)));
        }
        let judgement = judged(&all, &BTreeMap::new(), true, false);
        let (found, alarms) = shares(&judgement.disturbed, |index| busy[index]);
        assert!(found > 0.98 && alarms < 0.02, "{found} {alarms}");
        let of_busy = judgement.levels.iter().zip(&busy).filter(|(_, busy)| **busy).map(|(level, _)| *level);
        let slower = quantile(&of_busy.collect::<Vec<_>>(), 0.5);
        assert!((slower - 1.27f64.ln()).abs() < 0.01, "{slower}");
        // Without the paces the slow state would pass for the usual one.
        all.iter_mut().for_each(|visit| visit.paces = STEADY);
        let (blindly, _) = shares(&disturbed(&all), |index| busy[index]);
        assert!(blindly < 0.5, "{blindly}");
    }

    /// What a chunk of vector arithmetic takes, so many times as long as at best.
    fn vectors(slower: f64) -> VectorPace {
        VectorPace { best_ns: (1_600.0 * slower) as u64, mean_ns: (1_640.0 * slower) as u64 }
    }

    #[test]
    fn a_neighbour_that_slows_vectors_down_is_still_seen() {
        for in_bursts in [false, true] {
            let busy = |index: usize| index % 700 < 400;
            let mut all = visits(50, 21, |index| if busy(index) { 1.27 } else { 1.0 });
            for (index, visit) in all.iter_mut().enumerate() {
                visit.vectors = vectors(if busy(index) { 1.8 } else { 1.0 });
                if busy(index) {
                    visit.paces = [shared(1.5); 2];
                }
            }
            let judgement = judged(&all, &BTreeMap::new(), true, in_bursts);
            let (found, alarms) = shares(&judgement.disturbed, busy);
            assert!(found > 0.98 && alarms < 0.02, "{found} {alarms}");
            // Halts of a fortieth, and nothing of the neighbour's.
            let (least, most) = judgement
                .over_the_best
                .iter()
                .fold((f64::INFINITY, 0.0f64), |(least, most), over| (least.min(*over), most.max(*over)));
            assert!(least > 0.02 && most < 0.035, "{least} {most}");
        }
    }

    #[test]
    fn a_clock_that_vectors_tell_of_is_taken_off_and_nothing_left_aside() {
        // In two states, for seconds each, which neither of the other loads shows.
        let is_slow = |index: usize| index % 1_000 >= 350;
        let mut all = visits(60, 22, |index| if is_slow(index) { 1.1 } else { 1.0 });
        let blindly = judged(&all, &BTreeMap::new(), true, false);
        all.iter_mut().enumerate().for_each(|(index, visit)| {
            visit.vectors = vectors(if is_slow(index) { 1.1 } else { 1.0 });
        });
        let told = judged(&all, &BTreeMap::new(), true, false);
        let share = |judgement: &Judgement| shares(&judgement.disturbed, |_| true).0;
        assert!(share(&told) < 0.05 && share(&blindly) > 0.5, "{} {}", share(&told), share(&blindly));
        let total = |index: usize| told.levels[index] + told.over_the_best[index];
        assert!((total(700) - total(200) - 1.1f64.ln()).abs() < 0.015, "{} {}", total(200), total(700));
        assert!(told.best_ns.is_some_and(|ns| (ns - 1_600.0).abs() < 1.0) && blindly.best_ns.is_none(), "{told:?}");
    }

    #[test]
    fn cores_that_a_host_has_moved_apart_do_not_pass_for_the_usual_ones() {
        // Two thirds of the time; what a word takes between them differs by a tenth from one look to the next.
        let mut rng = ChaCha8Rng::seed_from_u64(15);
        let far = |index: usize| index % 900 >= 300;
        let mut all = visits(50, 15, |index| if far(index) { 1.5 } else { 1.0 });
        for (index, visit) in all.iter_mut().enumerate() {
            let talk_ns = if far(index) { 250.0 } else { 60.0 } * rng.random_range(0.95..1.05);
            visit.paces = [Pace { talk_ns: talk_ns as u64, ..STEADY[0] }; 2];
        }
        let (found, alarms) = shares(&disturbed(&all), far);
        assert!(found > 0.98 && alarms < 0.02, "{found} {alarms}");
    }

    #[test]
    fn one_pace_that_an_interrupt_hit_is_no_contention() {
        // A neighbour now and then, so that contention does harm; between, single paces that look like one.
        let busy = |index: usize| index % 500 < 100;
        let mut all = visits(40, 12, |index| if busy(index) { 1.3 } else { 1.0 });
        (0..2000).filter(|index| busy(*index)).for_each(|index| all[index].paces = [shared(1.5); 2]);
        (110..2000).step_by(20).filter(|index| !busy(*index)).for_each(|index| all[index].paces[1] = shared(1.5));
        let judgement = judged(&all, &BTreeMap::new(), true, false);
        let (found, alarms) = shares(&judgement.disturbed, busy);
        assert!(found > 0.98 && alarms < 0.005, "{found} {alarms}");
        assert!((judgement.sharing.share - 0.2).abs() < 0.005 && !judgement.sharing.is_crowded, "{judgement:?}");
    }

    #[test]
    fn a_clock_that_happens_to_be_low_while_paces_differ_is_no_contention() {
        // Two readings of the same, one of them mostly while the clock is low.
        let mut rng = ChaCha8Rng::seed_from_u64(18);
        let is_low = |index: usize| index % 400 < 160;
        let mut all = visits(40, 18, |index| if is_low(index) { 1.08 } else { 1.0 });
        for (index, visit) in all.iter_mut().enumerate() {
            let (chain_ns, wide) = (if is_low(index) { 5_165 } else { 5_000 }, if is_low(index) { 0.8 } else { 0.1 });
            let wide_ns = if rng.random_bool(wide) { 2_200 } else { 2_000 };
            visit.paces = [Pace { chain_ns, wide_ns, talk_ns: 0 }; 2];
        }
        let judgement = judged(&all, &BTreeMap::new(), true, false);
        let (found, alarms) = shares(&judgement.disturbed, is_low);
        assert!(found > 0.95 && alarms < 0.02 && judgement.sharing.share == 0.0, "{found} {alarms} {judgement:?}");
    }

    #[test]
    fn paces_that_differ_while_times_do_not_are_no_contention() {
        // As a clock with coarse steps shows them.
        let mut rng = ChaCha8Rng::seed_from_u64(13);
        let mut all = visits(40, 13, |_| 1.0);
        for visit in &mut all {
            visit.paces = [(); 2].map(|()| shared(if rng.random_bool(0.5) { 1.0 } else { 1.25 }));
        }
        let (_, alarms) = shares(&disturbed(&all), |_| false);
        assert!(alarms < 0.005, "{alarms}");
    }

    #[test]
    fn a_machine_that_is_never_alone_is_measured_where_it_is_least_disturbed() {
        // Contention wanders from 10 to 60 %, and times with it.
        let contention = |index: usize| 1.35 + 0.25 * (index as f64 / 200.0).sin();
        let mut all = visits(40, 14, contention);
        for (index, visit) in all.iter_mut().enumerate() {
            visit.paces = [shared(contention(index)); 2];
        }
        let Judgement { disturbed: marks, sharing, .. } = judged(&all, &BTreeMap::new(), true, false);
        assert!(sharing.is_crowded && (sharing.share - 0.8).abs() < 0.01, "{sharing:?}");
        let (found, _) = shares(&marks, |index| contention(index) > 1.3);
        let counted = marks.iter().filter(|mark| !**mark).count() as f64 / marks.len() as f64;
        assert!(found == 1.0 && counted > 0.08, "{found} {counted}");
        // No bursts leave it alone either.
        assert!(judged(&all, &BTreeMap::new(), true, true).sharing.is_crowded);
    }

    fn disturbed(visits: &[Visited]) -> Vec<bool> {
        judged(visits, &BTreeMap::new(), true, false).disturbed
    }

    /// Shares of the visits within and outside of an episode that are marked.
    fn shares(marks: &[bool], within: impl Fn(usize) -> bool) -> (f64, f64) {
        let (inside, outside): (Vec<_>, Vec<_>) = marks.iter().enumerate().partition(|(index, _)| within(*index));
        let share = |part: Vec<(usize, &bool)>| {
            part.iter().filter(|(_, mark)| **mark).count() as f64 / part.len().max(1) as f64
        };
        (share(inside), share(outside))
    }

    #[test]
    fn bursts_shorter_than_a_visit_leave_what_lies_between_them() {
        // Times are those between the bursts, so that paces at the ends of visits say nothing of them; now and then
        // somebody is there all the time.
        let mut rng = ChaCha8Rng::seed_from_u64(21);
        let busy = |index: usize| index % 1000 < 350;
        let mut all = visits(40, 21, |index| if busy(index) { 1.5 } else { 1.0 });
        for (index, visit) in all.iter_mut().enumerate() {
            let is_there = |rng: &mut ChaCha8Rng| busy(index) || rng.random_bool(0.5);
            visit.paces =
                [(); 2].map(|()| if is_there(&mut rng) { shared(rng.random_range(1.2..1.8)) } else { STEADY[0] });
        }
        let judgement = judged(&all, &BTreeMap::new(), true, true);
        let (found, alarms) = shares(&judgement.disturbed, busy);
        assert!(found > 0.98 && alarms < 0.05, "{found} {alarms}");
        assert!(!judgement.sharing.is_crowded && judgement.sharing.share > 0.6, "{:?}", judgement.sharing);
        // By the ends alone most of what can be used is left aside.
        let (_, wasted) = shares(&judged(&all, &BTreeMap::new(), true, false).disturbed, busy);
        assert!(wasted > 0.4, "{wasted}");
    }

    #[test]
    fn a_speed_that_wanders_from_part_to_part_does_so_between_campaigns() {
        let noise = |index: usize| 0.004 * ((index * 7919) % 101) as f64 / 101.0;
        let steady: Vec<f64> = (0..2000).map(noise).collect();
        assert!(wander(&steady) < 0.001, "{}", wander(&steady));
        let drifting: Vec<f64> = (0..2000).map(|index| noise(index) + 0.01 * (index / 500) as f64).collect();
        // Of 0, 1, 2 and 3 % the standard deviation is 1.29 %.
        assert!((wander(&drifting) - 0.0129 * Z).abs() < 0.001, "{}", wander(&drifting));
        assert_eq!(wander(&[]), 0.0);
        // What is slow for a while in one part is left aside there.
        let disturbed: Vec<f64> =
            (0..2000).map(|index| noise(index) + if (500..750).contains(&index) { 0.12 } else { 0.0 }).collect();
        assert!(wander(&disturbed) < 0.001, "{}", wander(&disturbed));
        // A state that is quiet enough is missing from one part only.
        let absent: Vec<f64> =
            (0..2000).map(|index| noise(index) + 0.06 * f64::from(u8::from(index / 500 == 2))).collect();
        assert!(wander(&absent) < 0.001, "{}", wander(&absent));
        // It is there in one part only, for just as long as it must be.
        let once: Vec<f64> =
            (0..2000).map(|index| noise(index) + 0.06 * f64::from(u8::from(index / 501 != 2))).collect();
        assert!(wander(&once) > 0.05, "{}", wander(&once));
    }

    #[test]
    fn a_quiet_machine_is_not_suspected() {
        for seed in 0..20 {
            let (_, alarms) = shares(&disturbed(&visits(25, seed, |_| 1.0)), |_| false);
            assert!(alarms < 0.005, "seed {seed}: {alarms}");
        }
    }

    #[test]
    fn a_slow_episode_is_found_wherever_it_lies_and_however_long_it_is() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        for seed in 0..40 {
            let rounds = 40;
            let length = rng.random_range(60..50 * rounds / 2);
            let start = rng.random_range(0..50 * rounds - length);
            let factor = rng.random_range(1.08..1.4);
            let within = |index: usize| (start..start + length).contains(&index);
            let marks = disturbed(&visits(rounds, seed, |index| if within(index) { factor } else { 1.0 }));
            let (found, alarms) = shares(&marks, within);
            assert!(found > 0.95 && alarms < 0.02, "{length} from {start}, x {factor:.2}: {found} {alarms}");
        }
    }

    #[test]
    fn a_machine_that_is_disturbed_half_of_the_time_is_measured_while_it_is_quiet() {
        // Half of the time slow, by changing amounts.
        let slow = |index: usize| match (index / 400) % 4 {
            0 | 2 => 1.0,
            1 => 1.1,
            _ => 1.25,
        };
        let marks = disturbed(&visits(80, 3, slow));
        let (found, alarms) = shares(&marks, |index| slow(index) > 1.0);
        assert!(found > 0.95 && alarms < 0.05, "{found} {alarms}");
    }

    #[test]
    fn a_slow_drift_of_a_percent_is_no_disturbance() {
        let (_, alarms) = shares(&disturbed(&visits(40, 1, |index| 1.0 + 0.01 * index as f64 / 2000.0)), |_| false);
        assert!(alarms < 0.005, "{alarms}");
    }

    #[test]
    fn spurts_of_turbo_cast_no_suspicion_on_what_is_usual() {
        // The machine wanders by 1 % and is faster by 4 % for a tenth of the time.
        let slow = |index: usize| if index % 1000 < 100 { 0.96 } else { 1.0 + 0.01 * (index as f64 / 150.0).sin() };
        for seed in 0..10 {
            let (_, alarms) = shares(&disturbed(&visits(40, seed, slow)), |_| false);
            assert!(alarms < 0.02, "seed {seed}: {alarms}");
        }
    }

    #[test]
    fn somebody_else_on_the_core_is_seen_by_interruptions_though_other_samples_are_as_fast_as_ever() {
        let mut all = visits(20, 9, |_| 1.0);
        let within = |index: usize| (300..700).contains(&index);
        for (index, visit) in all.iter_mut().enumerate().filter(|(index, _)| within(*index)) {
            visit.interrupted = if index % 3 == 0 { 0.5 } else { 0.0 };
        }
        let (found, alarms) = shares(&disturbed(&all), within);
        assert!(found > 0.95 && alarms < 0.02, "{found} {alarms}");
    }

    #[test]
    fn visits_without_a_time_are_disturbed_and_harm_nothing() {
        let mut all = visits(10, 2, |_| 1.0);
        (0..40).for_each(|index| all[index].time = f64::NAN);
        let marks = disturbed(&all);
        assert!(marks[..40].iter().all(|&mark| mark) && marks[50..].iter().filter(|&&mark| mark).count() < 5);
        assert_eq!(disturbed(&[]), Vec::<bool>::new());
        let vectors = VectorPace::default();
        let visited = |time, interrupted| [Visited { subject: 3, time, interrupted, paces: STEADY, vectors }];
        assert_eq!((disturbed(&visited(f64::NAN, 1.0)), disturbed(&visited(1.0, 0.0))), (vec![true], vec![false]));
    }

    /// References of 10 of the 50 subjects, taken while the machine was slower by this factor.
    fn references(slower: f64) -> BTreeMap<usize, f64> {
        (0..10).map(|index| (5 * index, (1.0 + 5.0 * index as f64) * slower)).collect()
    }

    #[test]
    fn the_level_is_known_within_a_fraction_of_the_noise() {
        let slow = |index: usize| if (400..900).contains(&index) { 1.02 } else { 1.0 };
        let judgement = judged(&visits(40, 2, slow), &BTreeMap::new(), true, false);
        assert!(judgement.disturbed.iter().all(|mark| !mark));
        let errors = judgement.levels.iter().enumerate().map(|(index, level)| (level - slow(index).ln()).abs());
        let errors: Vec<f64> = errors.collect();
        assert!(quantile(&errors, 0.9) < 0.006, "{}", quantile(&errors, 0.9));
        assert!(judgement.doubt < 0.01 && judgement.slower.is_none());
    }

    #[test]
    fn only_visits_at_the_references_speed_count() {
        // Of four stretches, one is as slow as the machine was with the references; the others are faster.
        let slow = |index: usize| if index / 500 == 2 { 1.12 } else { 1.0 };
        let judgement = judged(&visits(40, 4, slow), &references(1.12), true, false);
        let (found, alarms) = shares(&judgement.disturbed, |index| slow(index) == 1.0);
        assert!(found > 0.95 && alarms < 0.05, "{found} {alarms}");
        assert!(judgement.slower.unwrap().abs() < 0.005, "{judgement:?}");
        assert!((quantile(&judgement.levels[..400], 0.5) + 1.12f64.ln()).abs() < 0.01);
    }

    #[test]
    fn what_comes_nearest_to_the_references_speed_counts_in_the_end() {
        // A quarter of the time the machine is slower by 20 %, else by 30 %, and never as fast as for the references.
        let slow = |index: usize| if (index / 100).is_multiple_of(4) { 1.2 } else { 1.3 };
        let all = visits(40, 6, slow);
        let waiting = judged(&all, &references(1.0), false, false);
        assert!(waiting.disturbed.iter().all(|&mark| mark) && waiting.slower.is_none());
        let last = judged(&all, &references(1.0), true, false);
        let (found, alarms) = shares(&last.disturbed, |index| slow(index) == 1.3);
        assert!(found > 0.95 && alarms < 0.3, "{found} {alarms}");
        assert!((last.slower.unwrap() - 1.2f64.ln()).abs() < 0.01, "{last:?}");
    }

    #[test]
    fn how_slow_a_machine_is_that_is_never_left_alone_is_known() {
        let mut all = visits(40, 17, |_| 4.0);
        all.iter_mut().for_each(|visit| visit.interrupted = 0.5);
        let judgement = judged(&all, &references(1.0), true, false);
        assert!(judgement.disturbed.iter().all(|&mark| mark));
        assert!((judgement.slower.unwrap() - 4f64.ln()).abs() < 0.01, "{judgement:?}");
        assert_eq!(judged(&all, &references(1.0), false, false).slower, None);
    }

    #[test]
    fn the_doubt_of_a_wandering_machine_is_larger_than_that_of_a_noisy_one() {
        let levels = |period: usize| -> Vec<f64> {
            (0..3000).map(|index| if (index / period).is_multiple_of(2) { 0.02 } else { 0.0 }).collect()
        };
        let (wandering, noisy) = (doubt(&levels(500)), doubt(&levels(15)));
        assert!(wandering > 2.5 * noisy && noisy > 0.0, "{wandering} {noisy}");
        assert_eq!((doubt(&[]), doubt(&[0.01; 100])), (0.0, 0.0));
    }
}
