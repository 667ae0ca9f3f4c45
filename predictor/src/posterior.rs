//! What the candidates of a space's decisions cost, behind measurements of whole networks.

use fleetfoot_space::Architecture;
use ndarray::{Array1, Array2, Axis};

use crate::design::Design;
use crate::evidence::Costs;
use crate::gaussian::{FitError, Fitted, Groups, HeldOut};
use crate::whole::WholeNetwork;

/// What a table leaves over has at least this spread, as a share of the mean latency.
const LEAST_LEFT: f64 = 1e-3;
/// Deviation of a measurement's noise where a fit starts, at least, as a share of the mean latency: what careful measurements repeat to.
const NOISE: f64 = 0.003;
/// What of the spread that a table leaves is taken for the networks' at the start of a fit, against what it is without one: it is mostly noise.
const LEFT_BY_A_TABLE: f64 = 0.2;
/// Degrees of freedom of the errors, when predictions are compared.
const FREEDOM: f64 = 4.0;

/// Costs with what is unknown of them, in ms.
#[derive(Clone, Debug)]
pub(crate) struct Posterior {
    /// What all networks have in common.
    pub constant: f64,
    /// Of every decision's candidates.
    pub costs: Array1<f64>,
    /// Of the costs, each with its decision's share of the constant.
    covariance: Array2<f64>,
    /// Variance of one measurement around its network's latency: drift and noise.
    pub scatter: f64,
    /// What is predicted of every measurement without it.
    pub held_out: Vec<HeldOut>,
    /// How much each measurement counts: 1 fully.
    pub counts: Vec<f64>,
    /// Share of the variance of random networks' latencies that each group of features, drift and noise have beforehand.
    pub components: Vec<(String, f64)>,
}

impl Posterior {
    /// Behind measurements in their order. What a table says is where the model starts from; it learns what is left.
    pub(crate) fn new(mut design: Design, networks: &[&WholeNetwork], table: Option<&Costs>) -> Result<Self, FitError> {
        let architectures: Vec<Architecture> = networks.iter().map(|network| network.architecture.clone()).collect();
        let latencies: Vec<f64> = networks.iter().map(|network| network.latency.ms()).collect();
        design.weigh_others(&architectures, &latencies);
        let design = &design;
        let features = design.features(&architectures);
        let known = Known::new(design, table);
        let told: Vec<f64> = architectures.iter().map(|architecture| known.latency_ms(architecture)).collect();
        let left: Vec<f64> = latencies.iter().zip(&told).map(|(latency, told)| latency - told).collect();
        let mean = latencies.iter().sum::<f64>() / latencies.len().max(1) as f64;
        let part = if table.is_some() { LEFT_BY_A_TABLE } else { 1.0 };
        let starts: Vec<f64> = design.starts().iter().map(|start| part * start).collect();
        let groups = Groups {
            features: &features,
            coarse: design.coarse(),
            starts: &starts,
            trust: &trust(networks),
            floor: if table.is_some() { LEAST_LEFT * mean } else { 0.0 },
            noise: NOISE * mean,
        };
        let fitted = Fitted::new(&groups, &left)?;
        let own: Vec<Array1<f64>> = fitted.members.iter().map(|member| design.costs(member)).collect();
        let covariance = covariance(design, &features, &fitted, &own);
        let mut costs = known.cells.clone();
        own.iter().for_each(|own| costs.scaled_add(1.0 / fitted.members.len() as f64, own));
        let all = fitted.mean(|member| member.variances.iter().sum::<f64>() + member.drift + member.noise);
        let shares = (0..design.names().len()).map(|group| fitted.mean(|member| member.variances[group]) / all);
        let groups = design.names().iter().map(|name| (*name).to_owned()).zip(shares);
        let rest = [("drift", fitted.mean(|member| member.drift)), ("noise", fitted.mean(|member| member.noise))];
        let components = groups.chain(rest.map(|(name, variance)| (name.to_owned(), variance / all))).collect();
        let held_out = fitted.held_out.iter().zip(&told);
        let held_out = held_out.map(|(held_out, told)| HeldOut { mean: told + held_out.mean, ..*held_out });
        Ok(Self {
            constant: known.constant_ms + fitted.mean(|member| member.constant),
            costs,
            covariance,
            scatter: fitted.mean(|member| member.drift + member.noise),
            held_out: held_out.collect(),
            components,
            counts: fitted.counts,
        })
    }

    /// The lower triangle of the covariance of the costs with their shares of the constant, row by row.
    pub(crate) fn lower_covariance(&self) -> Vec<f64> {
        // What is known to the last digit may come out below nothing.
        let entry = |row: usize, column: usize| {
            let own = self.covariance[[row, column]];
            if row == column { own.max(0.0) } else { own }
        };
        (0..self.covariance.nrows()).flat_map(|row| (0..=row).map(move |column| entry(row, column))).collect()
    }

    /// How much more probable the measurements are than by another posterior, each as it is predicted without itself: the logarithm. Errors
    /// are taken to be Student t distributed, so that no single one decides; what either leaves out isn't compared.
    pub(crate) fn log_odds(&self, other: &Self, latencies: &[f64]) -> f64 {
        let density = |held_out: &HeldOut, latency: f64| {
            let error = (latency - held_out.mean) / held_out.deviation;
            -(FREEDOM + 1.0) / 2.0 * (error * error / FREEDOM).ln_1p() - held_out.deviation.ln()
        };
        let both = self.held_out.iter().zip(&other.held_out).zip(latencies);
        let both = both.filter(|((own, other), _)| !(own.is_off || other.is_off));
        both.map(|((own, other), latency)| density(own, *latency) - density(other, *latency)).sum()
    }
}

/// A table's costs, or none.
struct Known<'a> {
    design: &'a Design,
    constant_ms: f64,
    cells: Array1<f64>,
}

impl<'a> Known<'a> {
    fn new(design: &'a Design, table: Option<&Costs>) -> Self {
        let none = || Array1::zeros(design.first().last().copied().unwrap_or_default());
        let cells = table.map(|table| table.rows_ms.iter().flatten().copied().collect());
        Self { design, constant_ms: table.map_or(0.0, |table| table.constant_ms), cells: cells.unwrap_or_else(none) }
    }

    fn latency_ms(&self, architecture: &Architecture) -> f64 {
        let cells = architecture.choices().zip(self.design.first()).map(|(choice, first)| self.cells[first + choice]);
        self.constant_ms + cells.sum::<f64>()
    }
}

/// How much each network is trusted by the width of its interval, where all have one: the usual one 1.
fn trust(networks: &[&WholeNetwork]) -> Vec<f64> {
    let width = |network: &&WholeNetwork| network.interval.map(|(low, high)| high.ms() - low.ms());
    let Some(widths) = networks.iter().map(width).collect::<Option<Vec<f64>>>() else {
        return vec![1.0; networks.len()];
    };
    let usual = fleetfoot_profiler::median(widths.iter().copied()).unwrap_or_default().powi(2);
    // An interval tells how exactly that one was measured; what the model leaves over has the same variance for all.
    let trust = |width: &f64| if usual > 0.0 { 2.0 * usual / (usual + width * width) } else { 1.0 };
    widths.iter().map(trust).collect()
}

/// The covariance of the cells' costs behind the measurements, from what each member says and from how members differ; each cell has its
/// decision's share of the constant, so that the sum over a network's cells is the variance of its latency.
fn covariance(design: &Design, features: &[Array2<f64>], fitted: &Fitted, costs: &[Array1<f64>]) -> Array2<f64> {
    let decisions = (design.first().len() - 1).max(1) as f64;
    let count = design.first().last().copied().unwrap_or_default();
    let (members, measurements) = (fitted.members.len() as f64, fitted.counts.len());
    let mut covariance = Array2::zeros((count, count));
    for member in &fitted.members {
        let mut prior = Array2::from_elem((count, count), member.constant_variance / (decisions * decisions));
        let mut with = Array2::from_elem((count, measurements), member.constant_variance / decisions);
        for ((cells, features), variance) in design.cells().iter().zip(features).zip(&member.variances) {
            let scaled = cells * *variance;
            prior += &scaled.dot(&cells.t());
            with += &scaled.dot(&features.t());
        }
        covariance.scaled_add(1.0 / members, &(prior - with.dot(&member.precision).dot(&with.t())));
    }
    let shares: Vec<Array1<f64>> =
        fitted.members.iter().zip(costs).map(|(member, costs)| costs + member.constant / decisions).collect();
    let mut mean = Array1::zeros(count);
    shares.iter().for_each(|share| mean.scaled_add(1.0 / members, share));
    for share in &shares {
        let off = (share - &mean).insert_axis(Axis(1));
        covariance.scaled_add(1.0 / members, &off.dot(&off.t()));
    }
    covariance
}
