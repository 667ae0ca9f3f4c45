//! What networks of a space look like to a model of whole networks: groups of features, each a sum over the space's decisions.

use fleetfoot_space::{Architecture, Candidate, Layer, Network, NetworkError, Precision, SearchSpace};
use ndarray::{Array2, Axis, s};

use crate::evidence::{Costs, Deviations};

/// Totals that describe a network, in the order of [`totals`].
const TOTALS: [&str; 5] = ["macs", "parameters", "activations", "depth", "convolutions"];

/// Groups of features of a space's networks. Every feature is a sum over decisions of what the chosen candidate has there, centred and
/// scaled by the mean and the spread of networks that are drawn at random, so that no data is needed to know it.
#[derive(Clone, Debug)]
pub(crate) struct Design {
    names: Vec<&'static str>,
    /// Each group's features of every candidate of every decision: (n_cells x n_features).
    cells: Vec<Array2<f64>>,
    /// Each decision's first cell, and one behind the last one's.
    first: Vec<usize>,
}

type Totals = [f64; TOTALS.len()];

/// A candidate's share of a network's totals: multiply-accumulates, parameters, elements that are written, whether it is a block at
/// all, convolutions.
fn totals(network: &Network) -> Totals {
    let written: usize = network.walk().map(|(_, out)| out.elements()).sum();
    let convolutions = network.nodes().iter().filter(|node| matches!(node.layer, Layer::Conv { .. })).count();
    [
        network.macs() as f64,
        network.params() as f64,
        written as f64,
        f64::from(u8::from(!network.nodes().is_empty())),
        convolutions as f64,
    ]
}

impl Design {
    /// The groups, the coarsest first: the totals, one each; operators by their number, their multiply-accumulates and what they write;
    /// operators by stage; operators by decision.
    pub(crate) fn of(space: &SearchSpace) -> Result<Self, NetworkError> {
        let decisions = space.decisions();
        let mut first = vec![0];
        let mut kinds: Vec<Candidate> = Vec::new();
        let mut cells: Vec<(usize, Candidate, Totals)> = Vec::new();
        for (index, decision) in decisions.iter().enumerate() {
            for &candidate in &decision.candidates {
                let network = Network::of_unit(&decision.key(candidate, Precision::Fp32), space.bn_eps())?;
                cells.push((index, candidate, totals(&network)));
                if !kinds.contains(&candidate) {
                    kinds.push(candidate);
                }
            }
            first.push(cells.len());
        }
        let kind = |candidate: Candidate| kinds.iter().position(|known| *known == candidate).unwrap_or_default();
        let group = |width: usize, of: &dyn Fn(usize, Candidate, &Totals) -> (usize, f64)| {
            let mut group = Array2::zeros((cells.len(), width));
            for (cell, (decision, candidate, totals)) in cells.iter().enumerate() {
                let (feature, value) = of(*decision, *candidate, totals);
                group[[cell, feature]] = value;
            }
            group
        };
        let stages = decisions.iter().map(|decision| decision.stage).max().map_or(0, |last| last + 1);
        let mut design = Self { names: Vec::new(), cells: Vec::new(), first: first.clone() };
        for (index, name) in TOTALS.into_iter().enumerate() {
            design.push(name, group(1, &|_, _, totals| (0, totals[index])), true);
        }
        design.push("operators", group(kinds.len(), &|_, candidate, _| (kind(candidate), 1.0)), false);
        for (name, total) in [("operators' macs", 0), ("operators' activations", 2)] {
            design.push(name, group(kinds.len(), &|_, candidate, totals| (kind(candidate), totals[total])), true);
        }
        let by_stage = |decision: usize, candidate| decisions[decision].stage * kinds.len() + kind(candidate);
        design.push(
            "operators by stage",
            group(stages * kinds.len(), &|decision, candidate, _| (by_stage(decision, candidate), 1.0)),
            false,
        );
        let by_decision = |decision: usize, candidate: Candidate| {
            let own = decisions[decision].candidates.iter().position(|known| *known == candidate);
            first[decision] + own.unwrap_or_default()
        };
        design.push(
            "operators by decision",
            group(cells.len(), &|decision, candidate, _| (by_decision(decision, candidate), 1.0)),
            false,
        );
        Ok(design)
    }

    /// Adds what a piece of evidence says of every candidate, as a group of one feature.
    pub(crate) fn push_costs(&mut self, name: &'static str, of: &[&Costs]) {
        let mut group = Array2::zeros((self.first.last().copied().unwrap_or_default(), of.len()));
        for (mut column, costs) in group.columns_mut().into_iter().zip(of) {
            column.iter_mut().zip(costs.rows_ms.iter().flatten()).for_each(|(cell, ms)| *cell = *ms);
        }
        self.push(name, group, true);
    }

    /// Adds by how much a table's units may be wrong, each for itself, as a group.
    pub(crate) fn push_deviations(&mut self, name: &'static str, deviations: &Deviations) {
        let mut group = Array2::zeros((self.first.last().copied().unwrap_or_default(), deviations.units));
        let cells = deviations.unit.iter().flatten().zip(deviations.ms.iter().flatten());
        cells.enumerate().for_each(|(cell, (unit, ms))| group[[cell, *unit]] = *ms);
        self.push(name, group, false);
    }

    /// Adds a group, centred and scaled: each feature by its own spread, or all together by that of their sum of squares. Features that
    /// never vary are left out.
    fn push(&mut self, name: &'static str, mut group: Array2<f64>, each: bool) {
        let mut variances = vec![0.0; group.ncols()];
        for decision in self.first.windows(2) {
            let mut own = group.slice_mut(s![decision[0]..decision[1], ..]);
            let Some(mean) = own.mean_axis(Axis(0)) else { continue };
            own -= &mean;
            let squares = own.mapv(|value| value * value).mean_axis(Axis(0)).unwrap_or_default();
            variances.iter_mut().zip(squares).for_each(|(variance, own)| *variance += own);
        }
        let whole: f64 = variances.iter().sum();
        let varies: Vec<usize> = (0..variances.len()).filter(|&feature| variances[feature] > 1e-12 * whole).collect();
        if varies.is_empty() || whole.is_nan() || whole <= 0.0 {
            return;
        }
        let mut group = group.select(Axis(1), &varies);
        for (mut column, &feature) in group.columns_mut().into_iter().zip(&varies) {
            column /= if each { (variances[feature] * varies.len() as f64).sqrt() } else { whole.sqrt() };
        }
        self.names.push(name);
        self.cells.push(group);
    }

    /// The groups' names.
    pub(crate) fn names(&self) -> &[&'static str] {
        &self.names
    }

    /// How many of the groups are totals.
    pub(crate) fn coarse(&self) -> usize {
        self.names.iter().filter(|name| TOTALS.contains(name)).count()
    }

    /// Each group's features of every candidate of every decision.
    pub(crate) fn cells(&self) -> &[Array2<f64>] {
        &self.cells
    }

    /// Each decision's first cell, and one behind the last one's.
    pub(crate) fn first(&self) -> &[usize] {
        &self.first
    }

    /// Each group's features of networks: (n_networks x n_features).
    pub(crate) fn features(&self, architectures: &[Architecture]) -> Vec<Array2<f64>> {
        let of_group = |cells: &Array2<f64>| {
            let mut features = Array2::zeros((architectures.len(), cells.ncols()));
            for (mut row, architecture) in features.rows_mut().into_iter().zip(architectures) {
                for (choice, first) in architecture.choices().zip(&self.first) {
                    row += &cells.row(first + choice);
                }
            }
            features
        };
        self.cells.iter().map(of_group).collect()
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn features_of_random_networks_have_mean_zero_and_their_groups_the_same_spread() {
        for name in ["fashion-28", "proxyless-224"] {
            let space = SearchSpace::load(name).unwrap();
            let design = Design::of(&space).unwrap();
            assert_eq!(design.coarse(), 5, "{name}");
            assert_eq!(design.names().len(), 10);
            let mut rng = ChaCha8Rng::seed_from_u64(0);
            let random: Vec<Architecture> = (0..4000).map(|_| space.random(&mut rng)).collect();
            for (group, features) in design.names().iter().zip(design.features(&random)) {
                let mean = features.mean_axis(Axis(0)).unwrap();
                let spread: f64 = features.var_axis(Axis(0), 0.0).sum();
                assert!(mean.iter().all(|mean| mean.abs() < 0.08), "{name}, {group}: {mean}");
                assert!((spread - 1.0).abs() < 0.1, "{name}, {group}: {spread}");
            }
        }
    }

    #[test]
    fn totals_are_those_of_the_network() {
        let space = SearchSpace::load("fashion-28").unwrap();
        let design = Design::of(&space).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let random: Vec<Architecture> = (0..50).map(|_| space.random(&mut rng)).collect();
        let macs = |architecture: &Architecture| space.network(architecture).unwrap().macs() as f64;
        let features = &design.features(&random)[0];
        let slope = (macs(&random[1]) - macs(&random[0])) / (features[[1, 0]] - features[[0, 0]]);
        for (index, architecture) in random.iter().enumerate() {
            let told = macs(&random[0]) + slope * (features[[index, 0]] - features[[0, 0]]);
            assert!((told / macs(architecture) - 1.0).abs() < 1e-9);
        }
    }
}
