//! How a campaign went: when the machine was slower than usual, what was measured again for it, and what that cost.

use std::time::Duration;

use fleetfoot_protocol::Sample;
use serde::{Deserialize, Serialize};

use crate::campaign::{Campaign, CampaignError, Plan};
use crate::journal::{Header, Records};
use crate::look::Look;
use crate::statistics::Sieve;
use crate::subject::Subject;

/// Time without a sample, between two visits, that still counts as spent: longer pauses are those of a campaign that
/// stopped and went on.
const PAUSE_NS: u64 = 5_000_000_000;

/// A visit, as the machine's timeline shows it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    /// Start of its first sample, in ns since the campaign began.
    pub at_ns: u64,
    /// End of its last sample, in ns since the campaign began.
    pub end_ns: u64,
    /// By what factor the machine was slower around it than it usually was at the core's best pace; `None` where that isn't known.
    pub slower: Option<f64>,
    /// Whether it was disturbed.
    pub disturbed: bool,
    /// Whether it counts, disturbed or not: all do where hardly any was quiet.
    pub counts: bool,
    /// Its samples.
    pub samples: usize,
}

/// The visits of a campaign in the order of time, warm-ups not among them, and what the system showed meanwhile.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Course {
    moments: Vec<Moment>,
    looks: Vec<Look>,
    sieve: Sieve,
}

/// What a campaign spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    /// Samples of visits that were left aside, so that others were taken in their place.
    pub samples_taken_again: usize,
    /// Time of the visits that count.
    pub seconds_measuring: f64,
    /// Time of the visits that were left aside: the machine was waited for.
    pub seconds_waiting: f64,
    /// Stretches of visits in a row that were disturbed, whether they were left aside or not.
    pub disturbed_windows: usize,
}

impl Spent {
    /// Time of all visits.
    pub fn seconds(&self) -> f64 {
        self.seconds_measuring + self.seconds_waiting
    }
}

impl Course {
    /// Of visits in the order of time.
    pub(crate) fn new(moments: Vec<Moment>, looks: Vec<Look>, sieve: Sieve) -> Self {
        Self { moments, looks, sieve }
    }

    /// That of a campaign that is over, from its journal.
    pub fn recall(header: &Header, records: Records) -> Result<Self, CampaignError> {
        // What the subjects are doesn't matter any more.
        let subject =
            |name: &String| Subject { name: name.clone(), onnx: Vec::new().into(), evict_bytes: 0, reference: None };
        let subjects: Vec<Subject> = header.subjects.iter().map(subject).collect();
        let mut campaign = Campaign::new(Plan::of(header), &subjects, records, header.conditions.computes_in_caller());
        campaign.measurements()?;
        Ok(campaign.course())
    }

    /// The visits.
    pub fn moments(&self) -> &[Moment] {
        &self.moments
    }

    /// Which of a visit's samples count, in their order, if the visit does.
    pub fn counted(&self, samples: &[Sample]) -> Vec<bool> {
        self.sieve.counted(samples)
    }

    /// The looks at the machine, one a round.
    pub fn looks(&self) -> &[Look] {
        &self.looks
    }

    /// What was spent on them.
    pub fn spent(&self) -> Spent {
        let mut spent = Spent::default();
        let mut end_ns = None;
        for moment in &self.moments {
            // What lies between two visits (the call, evictions, loading a model) belongs to the second.
            let from = end_ns.filter(|&end| end <= moment.at_ns && moment.at_ns - end < PAUSE_NS);
            let seconds =
                Duration::from_nanos(moment.end_ns.saturating_sub(from.unwrap_or(moment.at_ns))).as_secs_f64();
            end_ns = Some(moment.end_ns);
            if !moment.counts {
                spent.seconds_waiting += seconds;
                spent.samples_taken_again += moment.samples;
            } else {
                spent.seconds_measuring += seconds;
            }
        }
        let stretches = self.moments.chunk_by(|a, b| a.disturbed == b.disturbed);
        spent.disturbed_windows = stretches.filter(|stretch| stretch[0].disturbed).count();
        spent
    }

    /// The timeline in at most so many steps: each from the first visit's start on, slower by the median of its visits,
    /// and disturbed where most of them are.
    pub fn steps(&self, most: usize) -> Vec<Moment> {
        let size = self.moments.len().div_ceil(most.max(1)).max(1);
        let step = |visits: &[Moment]| Moment {
            at_ns: visits[0].at_ns,
            end_ns: visits[visits.len() - 1].end_ns,
            slower: crate::statistics::median(visits.iter().filter_map(|visit| visit.slower)),
            disturbed: 2 * visits.iter().filter(|visit| visit.disturbed).count() > visits.len(),
            counts: 2 * visits.iter().filter(|visit| visit.counts).count() >= visits.len(),
            samples: visits.iter().map(|visit| visit.samples).sum(),
        };
        self.moments.chunks(size).map(step).collect()
    }
}

#[cfg(test)]
mod tests {
    use fleetfoot_protocol::{Pace, Sample, VectorPace, Whole};

    use super::*;
    use crate::journal::Visit;

    fn moment(second: u64, disturbed: bool) -> Moment {
        let (at_ns, end_ns) = (second * 1_000_000_000, second * 1_000_000_000 + 600_000_000);
        Moment {
            at_ns,
            end_ns,
            slower: Some(if disturbed { 1.2 } else { 1.0 }),
            disturbed,
            counts: !disturbed,
            samples: 5,
        }
    }

    #[test]
    fn time_is_split_between_measuring_and_waiting_and_pauses_count_for_neither() {
        let mut moments: Vec<Moment> = (0..10).map(|second| moment(second, [3, 4, 7].contains(&second))).collect();
        // Went on an hour later.
        moments.push(moment(3600, false));
        let spent = Course::new(moments, Vec::new(), Sieve::default()).spent();
        assert_eq!((spent.disturbed_windows, spent.samples_taken_again), (2, 15));
        assert!((spent.seconds_waiting - 3.0).abs() < 1e-9, "{spent:?}");
        assert!((spent.seconds_measuring - (0.6 + 6.0 + 0.6)).abs() < 1e-9, "{spent:?}");
        assert_eq!(Course::default().spent(), Spent::default());
    }

    #[test]
    fn where_every_round_is_disturbed_all_count_and_none_is_waiting() {
        let subjects = [Subject { name: "a".to_owned(), onnx: Vec::new().into(), evict_bytes: 0, reference: None }];
        let visit = |round: u32| {
            let at_ns = u64::from(round) * 1_000_000;
            // Somebody else had the core half of the time, between the samples.
            let samples = vec![Sample { at_ns, wall_ns: 100_000, cpu_ns: 100_000 }];
            let whole = Whole { wall_ns: 200_000, cpu_ns: 100_000 };
            let pace = Pace { chain_ns: 5_000, wide_ns: 2_000, talk_ns: 0 };
            Visit {
                round,
                subject: 0,
                batch: 1,
                unix_ms: u64::from(round),
                samples,
                whole,
                paces: [pace; 2],
                vectors: VectorPace::default(),
            }
        };
        let spent = |rounds| {
            let records = Records { visits: (0..=rounds).map(visit).collect(), ..Records::default() };
            let mut campaign = Campaign::new(Plan::default(), &subjects, records, true);
            let measured = campaign.measurements().unwrap();
            assert_eq!((measured[0].disturbed, campaign.pace().map(|pace| pace.wide_ns)), (0, Some(2_000)));
            assert_eq!(campaign.never_quiet(), 1, "which is said");
            campaign.course().spent()
        };
        for rounds in [3, 10] {
            let Spent { samples_taken_again, seconds_measuring, seconds_waiting, disturbed_windows } = spent(rounds);
            assert_eq!((samples_taken_again, seconds_waiting, disturbed_windows), (0, 0.0, 1));
            assert!(seconds_measuring > 0.0);
        }
    }

    #[test]
    fn a_long_timeline_is_shown_in_few_steps() {
        let course = Course::new(
            (0..1000).map(|second| moment(second, (500..800).contains(&second))).collect(),
            Vec::new(),
            Sieve::default(),
        );
        let steps = course.steps(100);
        assert_eq!((steps.len(), steps[0].samples, steps[99].end_ns), (100, 50, 999_600_000_000));
        assert!(steps[50..80].iter().all(|step| step.disturbed && step.slower == Some(1.2)));
        assert_eq!(steps.iter().filter(|step| step.disturbed).count(), 30);
        assert_eq!(Course::default().steps(10), []);
    }
}
