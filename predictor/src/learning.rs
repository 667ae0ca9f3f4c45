//! How good predictions are as a function of the number of networks that were measured.

use std::collections::HashSet;
use std::thread;

use fleetfoot_space::{Architecture, SearchSpace};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::evaluation::{Coverage, Evaluation};
use crate::evidence::Evidence;
use crate::network_model::{NetworkModel, NetworkModelError};
use crate::whole::{WholeNetwork, WholeNetworks};

/// How measured networks are divided: the last `test` are predicted, by models of so many consecutive ones of the others. Windows begin
/// evenly spaced, the first one `seed` networks behind the first, and go on at the beginning where they reach the end; networks that are among
/// the last, too, are left out of them. Consecutive ones,
/// since that is how a device is measured: what drifts drifts within a window. Where all were measured in turns and their order says nothing,
/// they can be shuffled: then every window has an order of its own, its last networks are predicted, and its first ones fitted to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Protocol {
    /// Networks that are fitted to.
    pub samples: Vec<usize>,
    /// Networks that are predicted.
    pub test: usize,
    /// How often each number of samples is tried, with other networks.
    pub windows: usize,
    /// Where the first window begins, or what the first one's order comes of.
    pub seed: usize,
    /// Whether every window has an order of its own.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub shuffle: bool,
}

/// How the networks of a window are divided.
struct Split<'a> {
    /// What is fitted to comes of these, one behind the other, from the first on.
    pool: Vec<&'a WholeNetwork>,
    first: usize,
    test: Vec<&'a WholeNetwork>,
}

impl Protocol {
    /// A window's networks; `None` where there are too few.
    fn split<'a>(&self, networks: &'a [WholeNetwork], window: usize) -> Option<Split<'a>> {
        let mut order: Vec<&WholeNetwork> = networks.iter().collect();
        if self.shuffle {
            let mut rng = ChaCha8Rng::seed_from_u64(self.seed as u64);
            rng.set_stream(window as u64);
            order.shuffle(&mut rng);
        }
        let test = order.split_off(order.len().checked_sub(self.test).filter(|_| self.test > 0)?);
        // What was measured twice must not be fitted to and predicted.
        let tested: HashSet<&Architecture> = test.iter().map(|network| &network.architecture).collect();
        order.retain(|network| !tested.contains(&network.architecture));
        let most = self.samples.iter().copied().max()?;
        if !(1..=order.len()).contains(&most) {
            return None;
        }
        let begin = (self.seed % order.len() + window * order.len() / self.windows.max(1)) % order.len();
        Some(Split { first: if self.shuffle { 0 } else { begin }, pool: order, test })
    }
}

/// A figure over the windows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Its mean.
    pub mean: f64,
    /// The least.
    pub low: f64,
    /// The largest.
    pub high: f64,
}

/// How good models of so many networks are.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CurvePoint {
    /// Networks that they were fitted to.
    pub samples: usize,
    /// Root of the mean squared error, in ms.
    pub rmse_ms: Spread,
    /// Root of the mean squared relative error, in percent.
    pub rmspe_percent: Spread,
    /// Mean absolute relative error, in percent.
    pub mape_percent: Spread,
    /// Share of predictions within 5 % of the measured value, in percent.
    pub within_5_percent: Spread,
    /// Share of predictions within 10 % of the measured value, in percent.
    pub within_10_percent: Spread,
    /// Spearman's rank correlation; absent where it can't be told in any window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spearman: Option<Spread>,
    /// Kendall's tau-b; absent where it can't be told in any window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kendall: Option<Spread>,
    /// Share of measured values within their 90 % interval, in percent.
    pub covered_percent: Spread,
    /// Half of that interval, in percent of the prediction, the median over networks.
    pub half_width_percent: Spread,
}

/// Networks that can't be divided so, or not be fitted to.
#[derive(Debug, thiserror::Error)]
pub enum CurveError {
    /// Too few.
    #[error(
        "{networks} networks are too few for {test} to predict and {samples} to fit to: measure more, or ask for fewer"
    )]
    TooFew {
        /// Those that there are.
        networks: usize,
        /// To be predicted.
        test: usize,
        /// To be fitted to, at most.
        samples: usize,
    },
    /// A window that no model can be fitted to.
    #[error("{samples} networks {which}: {source}")]
    Fit {
        /// Their number.
        samples: usize,
        /// Which of them, for people.
        which: String,
        /// Why.
        source: Box<NetworkModelError>,
    },
}

/// What one window gave.
type Outcome = (Evaluation, Coverage);

/// How good models are by the number of networks that they are fitted to. The
/// evidence must know nothing of those that are predicted.
pub fn learning_curve(
    space: &SearchSpace,
    measured: &WholeNetworks,
    evidence: &Evidence,
    protocol: &Protocol,
) -> Result<Vec<CurvePoint>, CurveError> {
    let networks = measured.networks();
    let windows = protocol.windows.max(1);
    let too_few = || CurveError::TooFew {
        networks: networks.len(),
        test: protocol.test,
        samples: protocol.samples.iter().copied().max().unwrap_or_default(),
    };
    let splits = (0..windows).map(|window| protocol.split(networks, window).ok_or_else(too_few));
    let splits: Vec<Split<'_>> = splits.collect::<Result<_, _>>()?;
    let jobs: Vec<(usize, &Split<'_>)> =
        protocol.samples.iter().flat_map(|&samples| splits.iter().map(move |split| (samples, split))).collect();
    let threads = thread::available_parallelism().map_or(1, usize::from).min(jobs.len()).max(1);
    let outcome = |&(samples, split): &(usize, &Split<'_>)| -> Result<Outcome, CurveError> {
        let Split { pool, first, test } = split;
        let window: Vec<WholeNetwork> =
            pool.iter().cycle().skip(*first).take(samples).map(|network| (*network).clone()).collect();
        let window = WholeNetworks::new(measured.provenance().clone(), window);
        let outcome = NetworkModel::fit(space, &window, evidence).and_then(|model| judge(&model, test));
        outcome.map_err(|source| {
            let which = match protocol.shuffle {
                true => "of a random order".to_owned(),
                false => format!("from number {} on", first + 1),
            };
            CurveError::Fit { samples, which, source: Box::new(source) }
        })
    };
    // Jobs are dealt out in turns, so that every thread gets some of every size.
    let results = thread::scope(|scope| {
        let deal = |thread: usize| {
            let (jobs, outcome) = (&jobs, &outcome);
            scope.spawn(move || jobs.iter().skip(thread).step_by(threads).map(outcome).collect::<Vec<_>>())
        };
        let handles: Vec<_> = (0..threads).map(deal).collect();
        handles
            .into_iter()
            .map(|handle| handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect::<Vec<_>>()
    });
    let mut results: Vec<_> = results.into_iter().map(Vec::into_iter).collect();
    let outcomes =
        (0..jobs.len()).filter_map(|job| results[job % threads].next()).collect::<Result<Vec<Outcome>, _>>()?;
    let points = protocol.samples.iter().zip(outcomes.chunks(windows));
    Ok(points.map(|(&samples, outcomes)| point(samples, outcomes)).collect())
}

fn judge(model: &NetworkModel, test: &[&WholeNetwork]) -> Result<Outcome, NetworkModelError> {
    let pair = |network: &&WholeNetwork| Ok((model.predict(&network.architecture)?, network.latency.ms()));
    let pairs = test.iter().map(pair).collect::<Result<Vec<_>, NetworkModelError>>()?;
    let means: Vec<(f64, f64)> = pairs.iter().map(|(estimate, measured)| (estimate.ms, *measured)).collect();
    Ok((Evaluation::new(&means)?, Coverage::new(&pairs)))
}

fn point(samples: usize, outcomes: &[Outcome]) -> CurvePoint {
    let some = |of: &dyn Fn(&Outcome) -> Option<f64>| {
        let values: Vec<f64> = outcomes.iter().filter_map(of).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let (low, high) = (values.iter().copied().reduce(f64::min)?, values.iter().copied().reduce(f64::max)?);
        Some(Spread { mean, low, high })
    };
    let all = |of: &dyn Fn(&Outcome) -> f64| {
        some(&|outcome| Some(of(outcome))).unwrap_or(Spread { mean: f64::NAN, low: f64::NAN, high: f64::NAN })
    };
    CurvePoint {
        samples,
        rmse_ms: all(&|outcome| outcome.0.rmse.unwrap_or(f64::NAN)),
        rmspe_percent: all(&|outcome| outcome.0.rmspe_percent),
        mape_percent: all(&|outcome| outcome.0.mape_percent),
        within_5_percent: all(&|outcome| outcome.0.within_5_percent),
        within_10_percent: all(&|outcome| outcome.0.within_10_percent),
        spearman: some(&|outcome| outcome.0.spearman),
        kendall: some(&|outcome| outcome.0.kendall),
        covered_percent: all(&|outcome| outcome.1.covered_percent),
        half_width_percent: all(&|outcome| outcome.1.half_width_percent),
    }
}
