//! A model of a space's networks on a device, from whole networks that were measured there.

use std::path::{Path, PathBuf};

use fleetfoot_profiler::{Conditions, Provenance};
use fleetfoot_space::{Architecture, NetworkError, SearchSpace};
use ndarray::s;
use serde::{Deserialize, Serialize};

use crate::design::Design;
use crate::evaluation::{Evaluation, EvaluationError};
use crate::evidence::Evidence;
use crate::gaussian::FitError;
use crate::model_file::{self, ModelFileError};
use crate::posterior::Posterior;
use crate::whole::{WholeNetwork, WholeNetworks};

/// Version of the file's form, and what tells it from other models.
const FORMAT: u32 = 1;
const KIND: &str = "whole networks";
/// The command that makes one.
const COMMAND: &str = "fleetfoot fit --networks";
/// Part of the networks that intervals are to hold.
const LEVEL: f64 = 0.9;
/// What the interval of that level is in standard deviations, where errors are Student t distributed with four degrees of freedom. Fewer
/// networks than this tell only by how much the model's deviations are off, and count against so many whose deviations are right.
const STUDENT: f64 = 1.507;
const FEW: usize = 40;
const BELIEVED: f64 = 10.0;
/// Networks that a model is fitted to at most: its time grows with their third power.
const MOST: usize = 1500;
/// The fewest networks that tell whether other evidence helps.
const FEWEST_TO_CHOOSE: usize = 8;
/// They say that it doesn't if they are more probable without it, by this logarithm.
const CLEARLY: f64 = 0.7;
/// Networks up to so many standard deviations further out than those that were fitted to aren't extrapolated for.
const MARGIN: f64 = 1.0;
/// A measurement that counts for less than this is an outlier.
const OUTLIER: f64 = 0.2;

/// A network's latency is a constant plus a cost of every decision's candidate. Costs come from a Gaussian linear model of what networks of
/// the space are made of, its variances from the measurements themselves; intervals from how well measurements are predicted that the
/// model doesn't know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkModel {
    format: u32,
    kind: String,
    tool: String,
    /// The space's name, and its definition.
    space: String,
    definition: String,
    /// Head of the file that it was fitted to.
    provenance: Provenance,
    constant_ms: f64,
    /// Of every decision's candidates.
    rows_ms: Vec<Vec<f64>>,
    /// Covariance of the candidates' costs, the constant's share in them: the lower triangle, row by row, in ms^2.
    covariance: Vec<f64>,
    /// Variance of one measurement around its network's latency: drift and noise, in ms^2.
    scatter: f64,
    /// Half a 90 % interval, in standard deviations.
    calibration: f64,
    /// How far the networks that it was fitted to lie from random ones.
    #[serde(default)]
    reach: Vec<Reach>,
    /// Share of the variance of random networks' latencies that each group of features has beforehand.
    components: Vec<(String, f64)>,
    validation: NetworkValidation,
    /// What it was fitted to, in ms: it must be neither judged by these networks nor taken for another device's. Unknown of older models.
    #[serde(default)]
    networks: Vec<(String, f64)>,
    /// How many other devices it knows of besides.
    #[serde(default)]
    others: usize,
}

/// How far networks lie from random ones by a total, in standard deviations of theirs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Reach {
    /// The total's name.
    total: String,
    /// What each candidate of each decision adds.
    cells: Vec<f64>,
    /// The furthest network that was fitted to, to either side.
    furthest: f64,
}

impl Reach {
    fn of(&self, cells: &[usize]) -> f64 {
        cells.iter().map(|cell| self.cells[*cell]).sum::<f64>().abs()
    }

    /// By what factor a network lies further out than is usual.
    fn beyond(&self, cells: &[usize]) -> f64 {
        self.of(cells) / (self.furthest + MARGIN)
    }
}

/// How good a model of whole networks is, by networks that it was fitted without.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkValidation {
    /// Networks that it was fitted to.
    pub fitted: usize,
    /// Those that count for little: outliers, and episodes in which the device was in another state.
    pub outliers: usize,
    /// Figures of predictions, each tenth of the networks by a model of the others.
    #[serde(flatten)]
    pub evaluation: Evaluation,
    /// Share of these networks that lie within their 90 % interval, in percent.
    pub covered_percent: f64,
    /// Half of that interval, in percent of the latency, in the median.
    pub half_width_percent: f64,
}

/// A network's latency, in milliseconds, with its 90 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NetworkEstimate {
    /// The latency.
    pub ms: f64,
    /// Lower end of the interval.
    pub low_ms: f64,
    /// Upper end of the interval.
    pub high_ms: f64,
}

/// A model that can't be fitted, read or used.
#[derive(Debug, thiserror::Error)]
pub enum NetworkModelError {
    /// The networks tell no model.
    #[error("no model can be fitted: {0}")]
    Fit(String),
    /// The space.
    #[error("space {space}: {what}")]
    Space {
        /// Its name.
        space: String,
        /// What is wrong.
        what: String,
    },
    /// A model of another space.
    #[error(
        "model {path} is for networks of {space}",
        path = path.display(),
        space = if own == asked { format!("another space {own}, whose definition differs") } else { format!("space {own}, not of {asked}") }
    )]
    OtherSpace {
        /// The model's file.
        path: PathBuf,
        /// Its space.
        own: String,
        /// The space that is asked about.
        asked: String,
    },
    /// Networks of other conditions.
    #[error("the model was fitted to networks that were measured under other conditions: {0}")]
    Conditions(String),
    /// Its errors can't be computed.
    #[error(transparent)]
    Evaluation(#[from] EvaluationError),
    /// Its file.
    #[error(transparent)]
    File(#[from] ModelFileError),
    /// An architecture of another space.
    #[error("architecture {architecture} isn't one of space {space}, which the model is for")]
    Foreign {
        /// The architecture.
        architecture: String,
        /// The model's space.
        space: String,
    },
}

impl NetworkModel {
    /// Fits to networks in the order in which they were measured, and to what was known before.
    pub fn fit(space: &SearchSpace, measured: &WholeNetworks, evidence: &Evidence) -> Result<Self, NetworkModelError> {
        let of_space = |what: String| NetworkModelError::Space { space: space.name().to_owned(), what };
        let chosen = thinned(measured.networks().len());
        let chosen: Vec<&WholeNetwork> = chosen.iter().map(|index| &measured.networks()[*index]).collect();
        let latencies: Vec<f64> = chosen.iter().map(|network| network.latency.ms()).collect();
        let design = |evidence| Design::of(space, evidence).map_err(|error: NetworkError| of_space(error.to_string()));
        let posterior = |design: Design, table| {
            Posterior::new(design, &chosen, table).map_err(|error: FitError| NetworkModelError::Fit(error.to_string()))
        };
        let nothing = Evidence::default();
        let plain = design(&nothing)?;
        let helped = if *evidence == nothing { plain.clone() } else { design(evidence)? };
        let mut found = posterior(helped, evidence.table.as_ref())?;
        // Other devices may be of another kind, a table of another time.
        if *evidence != nothing && latencies.len() >= FEWEST_TO_CHOOSE {
            let alone = posterior(plain.clone(), None)?;
            if alone.log_odds(&found, &latencies) > CLEARLY {
                found = alone;
            }
        }
        let (calibration, validation) = validate(&found, &latencies)?;
        let first = plain.first();
        let totals = plain.totals().map(|(total, cells)| {
            let mut reach = Reach { total: total.to_owned(), cells: cells.to_vec(), furthest: 0.0 };
            let networks = chosen.iter().map(|network| {
                let cells = network.architecture.choices().zip(first).map(|(choice, first)| first + choice);
                reach.of(&cells.collect::<Vec<usize>>())
            });
            reach.furthest = networks.fold(0.0, f64::max);
            reach
        });
        let reach = totals.collect();
        let rows_ms: Vec<Vec<f64>> =
            first.windows(2).map(|cells| found.costs.slice(s![cells[0]..cells[1]]).to_vec()).collect();
        let model = Self {
            format: FORMAT,
            kind: KIND.to_owned(),
            tool: format!("fleetfoot {}", env!("CARGO_PKG_VERSION")),
            space: space.name().to_owned(),
            definition: space.text().to_owned(),
            provenance: measured.provenance().clone(),
            constant_ms: found.constant,
            rows_ms,
            covariance: found.lower_covariance(),
            scatter: found.scatter,
            calibration,
            reach,
            components: found.components,
            validation,
            networks: chosen.iter().map(|network| (network.architecture.to_string(), network.latency.ms())).collect(),
            others: evidence.others.len(),
        };
        match model.is_sound() {
            true => Ok(model),
            false => {
                let what = "its numbers are too small or too large to compute with: are the latencies in milliseconds?";
                Err(NetworkModelError::Fit(what.to_owned()))
            }
        }
    }

    /// The space that it is for.
    pub fn space(&self) -> Result<SearchSpace, NetworkModelError> {
        SearchSpace::from_toml(&self.definition, &self.space)
            .map_err(|error| NetworkModelError::Space { space: self.space.clone(), what: error.to_string() })
    }

    /// Head of the file that it was fitted to.
    pub fn provenance(&self) -> &Provenance {
        &self.provenance
    }

    /// Reads a model that is for the networks of a space.
    pub fn read_for(space: &SearchSpace, path: &Path) -> Result<Self, NetworkModelError> {
        let model = Self::read(path)?;
        let own = model.space()?;
        if own.signature() != space.signature() {
            let (own, asked) = (own.name().to_owned(), space.name().to_owned());
            return Err(NetworkModelError::OtherSpace { path: path.to_path_buf(), own, asked });
        }
        Ok(model)
    }

    /// The conditions that its networks were measured under, where that is known.
    pub fn conditions(&self) -> Option<Conditions> {
        Conditions::from_provenance(&self.provenance)
    }

    /// Refuses networks that were measured under other conditions, where both are known.
    pub fn check(&self, measured: Option<&Conditions>) -> Result<(), NetworkModelError> {
        match (self.conditions(), measured) {
            (Some(own), Some(measured)) => {
                own.predicts(measured).map_err(|differences| NetworkModelError::Conditions(differences.to_string()))
            }
            _ => Ok(()),
        }
    }

    /// What it was fitted to, in ms; none where that isn't known, as of older models.
    pub fn networks(&self) -> Vec<(Architecture, f64)> {
        self.networks.iter().filter_map(|(architecture, ms)| Some((architecture.parse().ok()?, *ms))).collect()
    }

    /// Whether it may know networks that it doesn't tell: other devices', or all that it was fitted to.
    pub fn knows_others(&self) -> bool {
        self.networks.is_empty() || self.others > 0
    }

    /// How good it is.
    pub fn validation(&self) -> &NetworkValidation {
        &self.validation
    }

    /// Share of the variance of random networks' latencies that each group of features, drift and noise have, by their names.
    pub fn components(&self) -> &[(String, f64)] {
        &self.components
    }

    /// What all networks have in common, in ms.
    pub fn constant_ms(&self) -> f64 {
        self.constant_ms
    }

    /// What every decision's candidates cost, in ms: `[decision][candidate]`.
    pub fn rows_ms(&self) -> &[Vec<f64>] {
        &self.rows_ms
    }

    /// What an architecture would be measured as.
    pub fn predict(&self, architecture: &Architecture) -> Result<NetworkEstimate, NetworkModelError> {
        Ok(self.predict_within(architecture)?.0)
    }

    /// As [`predict`](Self::predict), with the total by which the network lies further out than those that the model was fitted to, if it does.
    pub fn predict_within(
        &self,
        architecture: &Architecture,
    ) -> Result<(NetworkEstimate, Option<&str>), NetworkModelError> {
        let foreign =
            || NetworkModelError::Foreign { architecture: architecture.to_string(), space: self.space.clone() };
        let cells = self.cells(architecture).ok_or_else(foreign)?;
        let costs = architecture.choices().zip(&self.rows_ms).map(|(choice, row)| row[choice]);
        let ms = self.constant_ms + costs.sum::<f64>();
        let mut variance = self.scatter;
        for (position, &cell) in cells.iter().enumerate() {
            variance += self.of_pair(cell, cell);
            variance += 2.0 * cells[..position].iter().map(|&other| self.of_pair(cell, other)).sum::<f64>();
        }
        let beyond = self.reach.iter().map(|reach| (reach.beyond(&cells), reach)).filter(|(beyond, _)| *beyond > 1.0);
        let furthest = beyond.max_by(|a, b| a.0.total_cmp(&b.0));
        let half = self.calibration * furthest.map_or(1.0, |(beyond, _)| beyond) * variance.max(0.0).sqrt();
        // No network takes less than nothing.
        let estimate = NetworkEstimate { ms: ms.max(0.0), low_ms: (ms - half).max(0.0), high_ms: (ms + half).max(0.0) };
        Ok((estimate, furthest.map(|(_, reach)| reach.total.as_str())))
    }

    /// Which cells an architecture chooses, numbered through all decisions; `None` where it isn't one of the space.
    fn cells(&self, architecture: &Architecture) -> Option<Vec<usize>> {
        let mut first = 0;
        let cells = architecture.choices().zip(&self.rows_ms).map(|(choice, row)| {
            let cell = (choice < row.len()).then_some(first + choice);
            first += row.len();
            cell
        });
        if architecture.len() == self.rows_ms.len() { cells.collect() } else { None }
    }

    /// Of two cells, the larger number first.
    fn of_pair(&self, cell: usize, other: usize) -> f64 {
        self.covariance[cell * (cell + 1) / 2 + other]
    }

    /// Whether its numbers are ones that can be computed with, and as many as belong together.
    fn is_sound(&self) -> bool {
        let cells: usize = self.rows_ms.iter().map(Vec::len).sum();
        let numbers = self.rows_ms.iter().flatten().chain(&self.covariance);
        let numbers = numbers.chain(self.reach.iter().flat_map(|reach| &reach.cells)).chain([&self.constant_ms]);
        // The diagonal of a lower triangle.
        let variances = (0..cells).filter_map(|cell| self.covariance.get(cell * (cell + 3) / 2));
        let NetworkValidation { evaluation, covered_percent, half_width_percent, .. } = &self.validation;
        let figures = [evaluation.rmspe_percent, evaluation.mape_percent, *covered_percent, *half_width_percent];
        numbers.chain(&figures).chain(&evaluation.rmse).all(|number| number.is_finite())
            && self.covariance.len() == cells * (cells + 1) / 2
            && self.reach.iter().all(|reach| reach.cells.len() == cells && reach.furthest >= 0.0)
            && variances.chain([&self.scatter]).all(|number| number.is_finite() && *number >= 0.0)
            && self.calibration.is_finite()
            && self.calibration > 0.0
    }

    /// Writes the model as JSON, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<(), NetworkModelError> {
        Ok(model_file::write(path, self)?)
    }

    /// Reads a model.
    pub fn read(path: &Path) -> Result<Self, NetworkModelError> {
        let model: Self = model_file::read(path, COMMAND, Some(KIND))?;
        let wrong = |what: String| ModelFileError::format(path, what, COMMAND).into();
        if model.kind != KIND || model.format != FORMAT {
            return Err(wrong(format!("it is a model of {}, format {}", model.kind, model.format)));
        }
        let space = model.space()?;
        let is_of_space = space.decisions().len() == model.rows_ms.len()
            && space.decisions().iter().zip(&model.rows_ms).all(|(own, row)| own.candidates.len() == row.len());
        let is_fitted_to = |(architecture, ms): &(String, f64)| {
            space.parse_architecture(architecture).is_ok() && ms.is_finite() && *ms > 0.0
        };
        if !(model.is_sound() && is_of_space && model.networks.iter().all(is_fitted_to)) {
            return Err(wrong("its numbers are no model of its space".to_owned()));
        }
        Ok(model)
    }
}

/// So many of the measurements that a model is fitted to, evenly chosen in their order.
fn thinned(count: usize) -> Vec<usize> {
    let chosen = count.min(MOST);
    (0..chosen).map(|index| index * count / chosen).collect()
}

/// How wide intervals have to be, and how good predictions are.
fn validate(found: &Posterior, latencies: &[f64]) -> Result<(f64, NetworkValidation), NetworkModelError> {
    let kept = || found.held_out.iter().zip(latencies).filter(|(held_out, _)| !held_out.is_off);
    let mut errors: Vec<f64> =
        kept().map(|(held_out, latency)| (latency - held_out.mean).abs() / held_out.deviation).collect();
    errors.sort_by(f64::total_cmp);
    // Of as many further networks, one more is to be expected beyond.
    let rank = (LEVEL * (errors.len() + 1) as f64).ceil() as usize;
    let reached = errors.get(rank.clamp(1, errors.len().max(1)) - 1).copied().unwrap_or(STUDENT);
    let counted = found.held_out.iter().zip(latencies).zip(&found.counts).filter(|(_, count)| **count >= OUTLIER);
    let counted: Vec<f64> =
        counted.map(|((held_out, latency), _)| (latency - held_out.mean) / held_out.deviation).collect();
    let squares = counted.iter().map(|error| error * error).sum::<f64>();
    let scale = ((BELIEVED + squares) / (BELIEVED + counted.len() as f64)).sqrt();
    let calibration = if errors.len() < FEW { STUDENT * scale } else { reached };
    let pairs: Vec<(f64, f64)> = kept().map(|(held_out, latency)| (held_out.mean, *latency)).collect();
    let covered = errors.iter().filter(|error| **error <= calibration).count();
    let widths = kept().map(|(held_out, latency)| 100.0 * calibration * held_out.deviation / latency);
    let validation = NetworkValidation {
        fitted: latencies.len(),
        outliers: found.counts.iter().filter(|count| **count < OUTLIER).count(),
        evaluation: Evaluation::new(&pairs)?,
        covered_percent: 100.0 * covered as f64 / errors.len().max(1) as f64,
        half_width_percent: fleetfoot_profiler::median(widths).unwrap_or_default(),
    };
    Ok((calibration, validation))
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Networks that take 0.5 ms and 0.2 ns for each multiply-accumulate, with noise of 0.02 ms.
    fn world(count: usize, seed: u64) -> (SearchSpace, WholeNetworks) {
        let space = SearchSpace::load("fashion-28").unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut text = "# device: x\narchitecture,latency_ms\n".to_owned();
        for _ in 0..count {
            let architecture = space.random(&mut rng);
            let macs = space.network(&architecture).unwrap().macs() as f64;
            let noise: f64 = (0..12).map(|_| rng.random_range(0.0..1.0)).sum::<f64>() - 6.0;
            text += &format!("{architecture},{}\n", 0.5 + 2e-7 * macs + 0.02 * noise);
        }
        let measured = WholeNetworks::parse(&text, Path::new("x.csv"), &space).unwrap().0;
        (space, measured)
    }

    #[test]
    fn one_of_few_that_is_far_off_is_left_out() {
        let (space, test) = world(200, 2);
        for (count, position, factor) in [(10, 5, 0.5), (10, 9, 5.0), (20, 0, 2.0), (20, 19, 1.5), (30, 29, 5.0)] {
            let (_, mut train) = world(count, 7);
            let clean = NetworkModel::fit(&space, &train, &Evidence::default()).unwrap();
            let mut networks = train.networks().to_vec();
            networks[position].latency =
                fleetfoot_profiler::Latency::from_ms(factor * networks[position].latency.ms()).unwrap();
            train = WholeNetworks::new(train.provenance().clone(), networks);
            let model = NetworkModel::fit(&space, &train, &Evidence::default()).unwrap();
            let error = |model: &NetworkModel| {
                let of = |network: &WholeNetwork| {
                    let estimate = model.predict(&network.architecture).unwrap();
                    (estimate.ms / network.latency.ms() - 1.0).powi(2)
                };
                (test.networks().iter().map(of).sum::<f64>() / 200.0).sqrt()
            };
            assert_eq!(model.validation().outliers, 1, "{count} networks, number {position} times {factor}");
            assert!(error(&model) < 1.5 * error(&clean) + 0.005, "{} {}", error(&model), error(&clean));
            let widths = [&model, &clean].map(|model| model.validation().half_width_percent);
            assert!(widths[0] < 3.0 * widths[1], "{widths:?}");
        }
    }

    #[test]
    fn what_networks_take_is_found_and_intervals_hold_what_they_say() {
        let (_, test) = world(500, 2);
        for (count, most, within_most) in [(10, 8.0, 500), (50, 2.5, 495), (300, 2.0, 495)] {
            let (space, train) = world(count, 1);
            let model = NetworkModel::fit(&space, &train, &Evidence::default()).unwrap();
            let estimates = test.networks().iter().map(|network| model.predict(&network.architecture).unwrap());
            let estimates: Vec<NetworkEstimate> = estimates.collect();
            let measured = test.networks().iter().map(|network| network.latency.ms());
            let pairs: Vec<(f64, f64)> = estimates.iter().map(|estimate| estimate.ms).zip(measured).collect();
            let evaluation = Evaluation::new(&pairs).unwrap();
            assert!(evaluation.rmspe_percent < most, "{count}: {evaluation:?}");
            let within = estimates.iter().zip(&pairs).filter(|(e, (_, m))| (e.low_ms..=e.high_ms).contains(m)).count();
            assert!((400..=within_most).contains(&within), "{count}: {within} of 500 within a 90 % interval");
        }
    }

    #[test]
    fn of_many_measurements_some_are_chosen_evenly() {
        assert_eq!(thinned(3), [0, 1, 2]);
        let chosen = thinned(5 * MOST + 7);
        assert_eq!((chosen.len(), chosen[0]), (MOST, 0));
        assert!(chosen.windows(2).all(|pair| (5..=6).contains(&(pair[1] - pair[0]))));
        assert!(thinned(0).is_empty());
    }

    /// Written by the first release that had such models. Files like it must stay readable.
    #[test]
    fn a_model_of_the_first_form_is_read_by_this_release() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files/whole-networks-1.json");
        let model = NetworkModel::read(&path).unwrap();
        assert_eq!((model.validation().fitted, model.provenance().get("device")), (14, Some("made-up")));
        for (architecture, ms, low_ms) in [("0000", 2.210_557, 2.188_065), ("1210", 2.312_385, 2.290_272)] {
            let estimate = model.predict(&architecture.parse().unwrap()).unwrap();
            assert!((estimate.ms - ms).abs() < 1e-6 && (estimate.low_ms - low_ms).abs() < 1e-6, "{estimate:?}");
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let later = folder.path().join("later.json");
        std::fs::write(&later, text.replacen("\"format\": 1", "\"format\": 2", 1)).unwrap();
        let refused = NetworkModel::read(&later).unwrap_err().to_string();
        assert!(refused.contains("format 2"), "{refused}");
    }

    #[test]
    fn a_model_reads_back_as_it_was_written_and_broken_ones_are_refused() {
        let (space, train) = world(30, 1);
        let model = NetworkModel::fit(&space, &train, &Evidence::default()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.json");
        model.write(&path).unwrap();
        assert_eq!(NetworkModel::read(&path).unwrap(), model);
        assert_eq!(model.provenance().get("device"), Some("x"));
        let text = std::fs::read_to_string(&path).unwrap();
        for broken in [text.replace("whole networks", "units"), text[..text.len() / 2].to_owned(), String::new()] {
            std::fs::write(&path, broken).unwrap();
            assert!(matches!(NetworkModel::read(&path), Err(NetworkModelError::File(ModelFileError::Format { .. }))));
        }
        assert!(model.predict(&"0123".parse().unwrap()).is_err());
        assert!(model.predict(&"9999999999".parse().unwrap()).is_err());
    }
}
