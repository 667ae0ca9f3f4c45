//! What the gates are held against: random search and regularised evolution, on the same supernet within the same limits.

use std::collections::VecDeque;
use std::fmt;
use std::time::Instant;

use fleetfoot_space::Architecture;
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use crate::derive::Judge;
use crate::error::SearchError;
use crate::gates::{Gates, Path};
use crate::limits::Limits;
use crate::supernet::Supernet;
use crate::within::Within;

/// Networks of evolution's population, and those of them that compete for a child; of a small budget, a fifth and a quarter
/// of that.
const POPULATION: usize = 50;
const TOURNAMENT: usize = 12;
/// Mutations until one meets the limits.
const MUTATIONS: usize = 200;
/// Rivals stay within the limits; how little they may need is left to them.
const LEAST: f64 = 0.0;

/// A way to search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// What the gates led to.
    Gates,
    /// Networks drawn evenly.
    Random,
    /// Regularised evolution (Real et al., AAAI 2019): the best of a few of the population has a child with one candidate
    /// exchanged, and the oldest dies.
    Evolution,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Gates => "gates",
            Self::Random => "random search",
            Self::Evolution => "evolution",
        })
    }
}

/// What a rival may use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Allowance {
    /// Networks judged on a validation batch.
    Evaluations(usize),
    /// Seconds.
    Seconds(f64),
}

impl Allowance {
    fn is_left(self, evaluations: usize, start: Instant) -> bool {
        match self {
            Self::Evaluations(most) => evaluations < most,
            // At least one, lest there be no result.
            Self::Seconds(most) => evaluations == 0 || start.elapsed().as_secs_f64() < most,
        }
    }

    /// Evaluations that are to be expected, for the population's size.
    fn expected(self) -> usize {
        match self {
            Self::Evaluations(most) => most,
            Self::Seconds(_) => usize::MAX,
        }
    }
}

/// How a rival did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rival {
    /// How it searched.
    pub method: Method,
    /// What was equal to the gates': `evaluations` or `seconds`.
    pub budget: String,
    /// Networks that were judged on a validation batch.
    pub evaluations: usize,
    /// How long it took.
    pub seconds: f64,
    /// The network.
    pub architecture: String,
    /// What it needs of what is limited first.
    pub predicted: f64,
    /// Mean cross entropy along it on all validation images, by the supernet; or the loss that there is in its place.
    pub cross_entropy: f64,
    /// Its accuracy there, or its score, in percent.
    pub accuracy_percent: f64,
}

/// What rivals search in.
#[derive(Debug)]
pub struct Arena<'a> {
    /// The supernet.
    pub supernet: &'a Supernet,
    /// Which candidates are left.
    pub gates: &'a Gates,
    /// What networks may need.
    pub limits: &'a Limits,
    /// What they are judged by, all on one batch of validation images: on batches of their own, the network with the easiest
    /// batch would win.
    pub judge: &'a Judge<'a>,
}

impl Arena<'_> {
    /// The network that a rival ends with, and how many it judged.
    pub fn search(
        &self,
        method: Method,
        allowance: Allowance,
        rng: &mut impl Rng,
    ) -> Result<(Architecture, usize), SearchError> {
        let none = || SearchError::Settings("no network of what is left meets the limits".to_owned());
        let sampler = Within::new(self.limits, self.gates, LEAST, &self.gates.even()).ok_or_else(none)?;
        let start = Instant::now();
        let (mut evaluations, mut best): (usize, Option<(f64, Architecture)>) = (0, None);
        let mut population: VecDeque<(f64, Architecture)> = VecDeque::new();
        let size = POPULATION.min(allowance.expected() / 5).max(2);
        while allowance.is_left(evaluations, start) {
            let network = match method {
                Method::Evolution if population.len() >= size => self.child(&population, size, rng),
                _ => sampler.draw(rng).ok_or_else(none)?,
            };
            let loss = self.judge.score(&Path(network.choices().collect()))?.loss;
            evaluations += 1;
            if best.as_ref().is_none_or(|(least, _)| loss < *least) {
                best = Some((loss, network.clone()));
            }
            population.push_back((loss, network));
            if population.len() > size {
                population.pop_front();
            }
        }
        let (_, network) = best.ok_or_else(none)?;
        Ok((network, evaluations))
    }

    /// The best of a few, with one candidate exchanged so that it meets the limits; itself where none is found.
    fn child(&self, population: &VecDeque<(f64, Architecture)>, size: usize, rng: &mut impl Rng) -> Architecture {
        let few = TOURNAMENT.min(size / 4).max(2);
        let drawn = (0..few).map(|_| &population[rng.random_range(0..population.len())]);
        let Some((_, parent)) = drawn.min_by(|a, b| a.0.total_cmp(&b.0)) else { return population[0].1.clone() };
        let choices: Vec<usize> = parent.choices().collect();
        for _ in 0..MUTATIONS {
            let decision = rng.random_range(0..choices.len());
            let live: Vec<usize> = self.supernet.candidates(decision).filter(|&c| c != choices[decision]).collect();
            if live.is_empty() {
                continue;
            }
            let mut mutated = choices.clone();
            mutated[decision] = live[rng.random_range(0..live.len())];
            if let Some(child) = Architecture::new(mutated).filter(|child| self.limits.fit(child)) {
                return child;
            }
        }
        parent.clone()
    }
}
