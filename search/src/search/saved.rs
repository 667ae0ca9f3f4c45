//! What of a search is in its checkpoint.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Search, Sums};
use crate::checkpoint::{Checkpoint, RngState};
use crate::error::SearchError;
use crate::gates::{Cut, Gates};
use crate::learning::{Learning as _, Stopwatch, checkpoint_path, difference};
use crate::limits::Limits;
use crate::loss::CrossEntropy;
use crate::settings::{GatePoint, SearchPoint, SearchSettings};

/// What changes from step to step, tensors aside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    settings: SearchSettings,
    #[serde(default = "CrossEntropy::default_name")]
    criterion: String,
    space: String,
    dataset: String,
    limits: Limits,
    step: usize,
    lambda: Vec<f64>,
    gates: Gates,
    baseline: Option<f64>,
    gate_rng: RngState,
    sums: Sums,
    curve: Vec<SearchPoint>,
    history: Vec<GatePoint>,
    cuts: Vec<Cut>,
}

impl Search {
    pub(super) fn state(&self) -> State {
        State {
            settings: self.settings.clone(),
            criterion: self.criterion.name(),
            space: self.space.signature(),
            dataset: self.dataset.clone(),
            limits: self.limits.clone(),
            step: self.step,
            lambda: self.lambda.clone(),
            gates: self.gates.clone(),
            baseline: self.baseline,
            gate_rng: RngState::of(&self.gate_rng),
            sums: self.sums,
            curve: self.curve.clone(),
            history: self.history.clone(),
            cuts: self.cuts.clone(),
        }
    }

    pub(super) fn checkpoint(&self) -> Result<Checkpoint, SearchError> {
        let mut checkpoint = Checkpoint::of(self.account());
        self.supernet.modules().try_for_each(|(name, module)| checkpoint.add(&name, module))?;
        Ok(checkpoint)
    }

    /// Goes on from a folder's checkpoint, which must belong to the same settings, space and limits.
    pub fn restore(&mut self, folder: &Path) -> Result<(), SearchError> {
        let path = checkpoint_path(folder);
        let broken = |what: &str| SearchError::Checkpoint { path: path.clone(), what: what.to_owned() };
        let (checkpoint, state) = Checkpoint::read::<State>(&path, &self.group)?;
        let ours = self.state();
        let differing = [
            ("other settings", state.settings != ours.settings),
            ("another loss", state.criterion != ours.criterion),
            ("another space", state.space != ours.space),
            ("another data set", state.dataset != ours.dataset),
            ("another table or target", state.limits != ours.limits),
        ];
        if let Some(difference) = difference(&differing) {
            return Err(broken(&format!("it belongs to {difference}")));
        }
        if !state.gates.fit(&self.space) || state.lambda.len() != ours.lambda.len() {
            return Err(broken("its gates aren't those of the space"));
        }
        for (decision, row) in state.gates.live().iter().enumerate() {
            let gone = row.iter().enumerate().filter(|(_, live)| !**live);
            gone.for_each(|(candidate, _)| self.supernet.cut(decision, candidate));
        }
        for (name, module) in self.supernet.modules_mut() {
            checkpoint.restore(&name, module)?;
        }
        self.gate_rng = state.gate_rng.generator().ok_or_else(|| broken("its random state can't be read"))?;
        (self.gates, self.lambda, self.baseline) = (state.gates, state.lambda, state.baseline);
        (self.step, self.sums, self.curve) = (state.step, state.sums, state.curve);
        (self.history, self.cuts) = (state.history, state.cuts);
        self.stopwatch = Stopwatch::after(&checkpoint.account);
        self.train.source().images.remember(&checkpoint.account.corrupt);
        self.train.rewind();
        self.validation.rewind();
        Ok(())
    }

    /// SHA-256 over weights, BN's statistics, momentum, gates, Adam, multipliers and random state.
    pub fn hash(&self) -> Result<String, SearchError> {
        Ok(self.checkpoint()?.hash(&self.state()))
    }
}
