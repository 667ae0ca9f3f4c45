//! What networks of a space look like to a model of whole networks: groups of features, each a sum over the space's decisions.

use fleetfoot_space::{Architecture, Candidate, Layer, Network, NetworkError, OperatorKey, Precision, SearchSpace};
use ndarray::{Array1, Array2, ArrayView1, Axis, s};

use crate::evidence::{Costs, Deviations, Evidence};
use crate::gaussian::Member;

/// Totals that describe a network, in the order of [`totals`].
const TOTALS: [&str; 5] = ["macs", "parameters", "activations", "depth", "convolutions"];

/// Groups of features of a space's networks. Every feature is a sum over decisions of what the chosen candidate has there, centred and
/// scaled by the mean and the spread of networks that are drawn at random, so that no data is needed to know it.
#[derive(Clone, Debug)]
pub(crate) struct Design {
    names: Vec<&'static str>,
    starts: Vec<f64>,
    /// How many groups in front are coarse.
    coarse: usize,
    /// Each group's features of every candidate of every decision: (n_cells x n_features).
    cells: Vec<Array2<f64>>,
    /// Each decision's first cell, and one behind the last one's.
    first: Vec<usize>,
}

/// Variances of groups where a fit starts.
const COARSE: f64 = 0.2;
const FINE: f64 = 0.005;

/// Name of a group that is what another device takes.
const OTHER: &str = "other device";
/// What explains the measurements worse alone starts with less variance, by this power of how much worse, but not less than this share.
const POWER: i32 = 2;
const LEAST: f64 = 1.0 / 40.0;
/// A device that leaves so many times as much variance unexplained as the best of the totals is of another kind.
const FAR: f64 = 3.0;

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

/// A candidate of a decision.
#[derive(Clone, Debug)]
struct Cell {
    decision: usize,
    stage: usize,
    candidate: Candidate,
    unit: OperatorKey,
    totals: Totals,
}

impl Cell {
    fn kernel(&self) -> Option<usize> {
        if let Candidate::MbConv { kernel, .. } = self.candidate { Some(kernel) } else { None }
    }

    fn expansion(&self) -> Option<Option<usize>> {
        if let Candidate::MbConv { expansion, .. } = self.candidate { Some(expansion) } else { None }
    }
}

/// A feature for each kind of cell: its cells have a value there, all others 0.
fn kinds<K: PartialEq>(cells: &[Cell], kind: impl Fn(&Cell) -> K, value: impl Fn(&Cell) -> f64) -> Array2<f64> {
    let mut known: Vec<K> = Vec::new();
    let mut features = Vec::with_capacity(cells.len());
    for cell in cells {
        let kind = kind(cell);
        let feature = known.iter().position(|known| *known == kind).unwrap_or(known.len());
        if feature == known.len() {
            known.push(kind);
        }
        features.push(feature);
    }
    let mut group = Array2::zeros((cells.len(), known.len()));
    features.iter().zip(cells).enumerate().for_each(|(row, (feature, cell))| group[[row, *feature]] = value(cell));
    group
}

/// Share of the measurements' variance that a feature leaves over, which can only explain them in its own direction.
fn unexplained(feature: ArrayView1<'_, f64>, measured: &[f64]) -> f64 {
    let count = measured.len().max(1) as f64;
    let (x, y) = (feature.sum() / count, measured.iter().sum::<f64>() / count);
    let sum = |of: fn(f64, f64) -> f64| feature.iter().zip(measured).map(|(a, b)| of(a - x, b - y)).sum::<f64>();
    let (xx, yy, xy) = (sum(|a, _| a * a), sum(|_, b| b * b), sum(|a, b| a * b));
    if xy > 0.0 { (1.0 - xy * xy / (xx * yy)).max(1e-3) } else { 1.0 }
}

impl Design {
    /// The groups, the coarsest first: the totals, one each; then what cells of the same kind have in common, kinds being ever narrower:
    /// operators, their kernels and expansions, stages, all these by stage, units (operators on the same shape), decisions.
    pub(crate) fn of(space: &SearchSpace, evidence: &Evidence) -> Result<Self, NetworkError> {
        let decisions = space.decisions();
        let mut first = vec![0];
        let mut cells: Vec<Cell> = Vec::new();
        for (index, decision) in decisions.iter().enumerate() {
            for &candidate in &decision.candidates {
                let unit = decision.key(candidate, Precision::Fp32);
                let totals = totals(&Network::of_unit(&unit, space.bn_eps())?);
                cells.push(Cell { decision: index, stage: decision.stage, candidate, unit, totals });
            }
            first.push(cells.len());
        }
        let mut design = Self { names: Vec::new(), starts: Vec::new(), coarse: 0, cells: Vec::new(), first };
        let (macs, activations, depth) = (0, 2, 3);
        for (index, name) in TOTALS.into_iter().enumerate() {
            design.push(name, COARSE, kinds(&cells, |_| (), |cell| cell.totals[index]), true);
        }
        if let Some(table) = &evidence.table {
            design.push_costs("table", table);
        }
        for other in &evidence.others {
            design.push_costs(OTHER, other);
        }
        design.coarse = design.names.len();
        let number = |_: &Cell| 1.0;
        design.push("operators", FINE, kinds(&cells, |cell| cell.candidate, number), false);
        design.push("operators' macs", FINE, kinds(&cells, |cell| cell.candidate, |cell| cell.totals[macs]), true);
        design.push(
            "operators' activations",
            FINE,
            kinds(&cells, |cell| cell.candidate, |cell| cell.totals[activations]),
            true,
        );
        design.push("kernels", FINE, kinds(&cells, Cell::kernel, number), false);
        design.push("expansions", FINE, kinds(&cells, Cell::expansion, number), false);
        design.push("stages' macs", FINE, kinds(&cells, |cell| cell.stage, |cell| cell.totals[macs]), true);
        design.push("stages' depth", FINE, kinds(&cells, |cell| cell.stage, |cell| cell.totals[depth]), true);
        design.push("kernels by stage", FINE, kinds(&cells, |cell| (cell.stage, cell.kernel()), number), false);
        design.push("expansions by stage", FINE, kinds(&cells, |cell| (cell.stage, cell.expansion()), number), false);
        design.push("operators by stage", FINE, kinds(&cells, |cell| (cell.stage, cell.candidate), number), false);
        design.push("units", FINE, kinds(&cells, |cell| cell.unit, number), false);
        design.push(
            "operators by decision",
            FINE,
            kinds(&cells, |cell| (cell.decision, cell.candidate), number),
            false,
        );
        if let Some(deviations) = evidence.table.as_ref().and_then(|table| table.deviations.as_ref()) {
            design.push_deviations("table's units", deviations);
        }
        Ok(design)
    }

    /// Adds what a piece of evidence says of every candidate, as a group of one feature.
    fn push_costs(&mut self, name: &'static str, costs: &Costs) {
        let cells: Array1<f64> = costs.rows_ms.iter().flatten().copied().collect();
        self.push(name, COARSE, cells.insert_axis(Axis(1)), true);
    }

    /// Adds by how much a table's units may be wrong, each for itself, as a group.
    fn push_deviations(&mut self, name: &'static str, deviations: &Deviations) {
        let mut group = Array2::zeros((self.first.last().copied().unwrap_or_default(), deviations.units));
        let cells = deviations.unit.iter().flatten().zip(deviations.ms.iter().flatten());
        cells.enumerate().for_each(|(cell, (unit, ms))| group[[cell, *unit]] = *ms);
        self.push(name, FINE, group, false);
    }

    /// Adds a group, centred and scaled: each feature by its own spread, or all together by that of their sum of squares. Features that
    /// never vary are left out.
    fn push(&mut self, name: &'static str, start: f64, mut group: Array2<f64>, each: bool) {
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
        self.starts.push(start);
        self.cells.push(group);
    }

    /// Measurements tell which other devices are like this one: those of another kind are left out, the others
    /// matter the more the better they do, and the totals as much as the best of them.
    pub(crate) fn weigh_others(&mut self, architectures: &[Architecture], measured: &[f64]) {
        let features = self.features(architectures);
        let left: Vec<f64> =
            features[..self.coarse].iter().map(|group| unexplained(group.column(0), measured)).collect();
        let least = |is_meant: &dyn Fn(&str) -> bool| {
            let groups = left.iter().zip(&self.names).filter(|(_, name)| is_meant(name));
            groups.map(|(left, _)| *left).fold(1.0, f64::min)
        };
        let totals = least(&|name| TOTALS.contains(&name));
        let best = totals.min(least(&|name| name == OTHER));
        let share = |left: f64| (best / left).powi(POWER).max(LEAST);
        let mut kept = Vec::new();
        for (group, left) in left.iter().enumerate() {
            match self.names[group] == OTHER {
                true if *left > FAR * totals => continue,
                true => self.starts[group] *= share(*left),
                false if TOTALS.contains(&self.names[group]) => self.starts[group] *= share(totals),
                false => {}
            }
            kept.push(group);
        }
        kept.extend(self.coarse..self.names.len());
        self.coarse -= self.names.len() - kept.len();
        self.names = kept.iter().map(|group| self.names[*group]).collect();
        self.starts = kept.iter().map(|group| self.starts[*group]).collect();
        self.cells = kept.iter().map(|group| std::mem::take(&mut self.cells[*group])).collect();
    }

    /// The groups' names.
    pub(crate) fn names(&self) -> &[&'static str] {
        &self.names
    }

    /// How many groups in front are coarse: totals, and what other evidence says.
    pub(crate) fn coarse(&self) -> usize {
        self.coarse
    }

    /// The totals with what each candidate of each decision adds to them, in standard deviations of random networks.
    pub(crate) fn totals(&self) -> impl Iterator<Item = (&'static str, ArrayView1<'_, f64>)> {
        let groups = self.names.iter().copied().zip(&self.cells).filter(|(name, _)| TOTALS.contains(name));
        groups.map(|(name, cells)| (name, cells.column(0)))
    }

    /// The variance of each group's weights where a fit starts.
    pub(crate) fn starts(&self) -> &[f64] {
        &self.starts
    }

    /// Each group's features of every candidate of every decision.
    pub(crate) fn cells(&self) -> &[Array2<f64>] {
        &self.cells
    }

    /// Each decision's first cell, and one behind the last one's.
    pub(crate) fn first(&self) -> &[usize] {
        &self.first
    }

    /// What a model says that every candidate of every decision costs, but for the constant.
    pub(crate) fn costs(&self, member: &Member) -> Array1<f64> {
        let mut costs = Array1::zeros(self.first.last().copied().unwrap_or_default());
        for (cells, weights) in self.cells.iter().zip(&member.weights) {
            costs += &cells.dot(weights);
        }
        costs
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
            let design = Design::of(&space, &Evidence::default()).unwrap();
            assert_eq!(design.coarse(), 5, "{name}");
            assert_eq!(design.names().len(), 17);
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
        let design = Design::of(&space, &Evidence::default()).unwrap();
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
