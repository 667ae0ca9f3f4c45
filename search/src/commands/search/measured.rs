//! Whether what was found meets its targets as measured: `fleetfoot measure` on the devices themselves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use fleetfoot_search::Limits;
use fleetfoot_space::Architecture;
use serde::{Deserialize, Serialize};

/// Folder of the measurements in a run's folder.
pub const FOLDER: &str = "measured";
/// Rounds that everything gets at least: more than ten, so that one sitting isn't all.
const ROUNDS: &str = "12";

/// Half an interval, as a share of the latency, up to which a measurement is believed as it is.
const NARROW: f64 = 0.03;

/// How far a measurement may be from the prediction, as a share of it, before it is made again, as it is where its interval
/// isn't [`NARROW`]; and how often. A table that is right about its device is within a few percent; a neighbour on the same
/// core can make a whole measurement slower.
const STRANGE: f64 = 0.1;
const AGAIN: usize = 2;

/// A network's latency on a device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The device, as it was named.
    pub device: String,
    /// The network.
    pub architecture: String,
    /// Median of the rounds and its interval, in ms.
    pub measured_ms: f64,
    /// See `measured_ms`.
    pub low_ms: f64,
    /// See `measured_ms`.
    pub high_ms: f64,
    /// By the table.
    pub predicted_ms: f64,
    /// What it may take at most.
    pub target_ms: f64,
}

impl Measured {
    /// The latency to go by: the median where its interval is narrow; else what of the interval is nearest to the prediction,
    /// lest a disturbed moment be taken for the device.
    fn believed_ms(&self) -> f64 {
        let half = 0.5 * (self.high_ms - self.low_ms) / self.measured_ms;
        if half <= NARROW { self.measured_ms } else { self.predicted_ms.clamp(self.low_ms, self.high_ms) }
    }

    /// For people.
    pub fn told(&self) -> String {
        format!(
            "{} on {}: measured {:.4} ms ({:.4} to {:.4}), predicted {:.4} ms, target {:.4} ms",
            self.architecture,
            self.device,
            self.measured_ms,
            self.low_ms,
            self.high_ms,
            self.predicted_ms,
            self.target_ms
        )
    }
}

/// The devices, one for each of the first limits, on which what is found is measured.
#[derive(Debug)]
pub struct Devices<'a> {
    pub names: &'a [String],
    /// The space as it was named, and the table's batch size.
    pub space: &'a str,
    pub batch: usize,
    /// The run's folder.
    pub folder: &'a Path,
    pub limits: &'a Limits,
}

#[derive(Debug, Deserialize)]
struct Row {
    architecture: String,
    latency_ms: f64,
    low_ms: f64,
    high_ms: f64,
}

impl Devices<'_> {
    /// Measures networks in interleaved rounds on every device; what is on disk under this name already is taken from
    /// there. What is far from the prediction is measured again, and the lowest of a network's latencies counts.
    pub fn measure(&self, name: &str, networks: &[Architecture]) -> Result<Vec<Measured>> {
        let mut all = Vec::new();
        for (index, (device, limit)) in self.names.iter().zip(self.limits.iter()).enumerate() {
            // A run may be gone on with on another device, whose latencies are others.
            let on: String = device.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
            let file = |again: &str| self.folder.join(FOLDER).join(format!("{name}.{index}.{on}{again}.csv"));
            let mut rows = self.rows(device, networks, &file(""))?;
            for again in 1..=AGAIN {
                let strange = |network: &&Architecture| {
                    let row = rows.get(&network.to_string());
                    row.is_some_and(|row| row.is_strange(limit.demand.of(network)))
                };
                let strange: Vec<Architecture> = networks.iter().filter(strange).cloned().collect();
                if strange.is_empty() {
                    break;
                }
                // What disturbs a measurement makes it slower, never faster.
                for (network, row) in self.rows(device, &strange, &file(&format!(".again{again}")))? {
                    if rows.get(&network).is_none_or(|before| row.latency_ms < before.latency_ms) {
                        rows.insert(network, row);
                    }
                }
            }
            for network in networks {
                let row = rows.get(&network.to_string());
                let Some(row) = row else { bail!("{}: it has no row for {network}", file("").display()) };
                all.push(Measured {
                    device: device.clone(),
                    architecture: network.to_string(),
                    measured_ms: row.latency_ms,
                    low_ms: row.low_ms,
                    high_ms: row.high_ms,
                    predicted_ms: limit.demand.of(network),
                    target_ms: limit.at_most,
                });
            }
        }
        Ok(all)
    }

    /// Of all these networks on a device: as they are on disk, else measured.
    fn rows(&self, device: &str, networks: &[Architecture], file: &Path) -> Result<BTreeMap<String, Row>> {
        let rows = if file.exists() { read(file)? } else { BTreeMap::new() };
        if networks.iter().all(|network| rows.contains_key(&network.to_string())) {
            return Ok(rows);
        }
        self.run(device, networks, file)?;
        read(file)
    }

    fn run(&self, device: &str, networks: &[Architecture], file: &Path) -> Result<()> {
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("can't make {}", folder.display()))?;
        }
        let mut command = Command::new(program());
        command.args(["measure", "--space", self.space, "--device", device, "--batch", &self.batch.to_string()]);
        command.args(["--min-rounds", ROUNDS, "--force", "-o"]).arg(file);
        command.args(networks.iter().map(ToString::to_string));
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
        let status = status.with_context(|| "can't start fleetfoot, which measures: it is neither here nor on PATH")?;
        if !status.success() {
            bail!("measuring on {device} failed ({status}): see above; without --measure-on nothing is measured");
        }
        Ok(())
    }
}

impl Row {
    /// Half the interval, as a share of the latency.
    fn half_width(&self) -> f64 {
        0.5 * (self.high_ms - self.low_ms) / self.latency_ms
    }

    /// Whether it is to be measured again.
    fn is_strange(&self, predicted_ms: f64) -> bool {
        (self.latency_ms / predicted_ms - 1.0).abs() > STRANGE || self.half_width() > NARROW
    }
}

fn read(file: &Path) -> Result<BTreeMap<String, Row>> {
    let reader = csv::ReaderBuilder::new().comment(Some(b'#')).from_path(file);
    let mut reader = reader.with_context(|| format!("can't read {}", file.display()))?;
    let rows = reader.deserialize::<Row>().map(|row| row.map(|row| (row.architecture.clone(), row)));
    rows.collect::<Result<_, _>>().with_context(|| format!("can't read {}", file.display()))
}

/// Beside this program, else on PATH.
fn program() -> PathBuf {
    let name = format!("fleetfoot{}", std::env::consts::EXE_SUFFIX);
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join(&name)));
    beside.filter(|program| program.is_file()).unwrap_or_else(|| PathBuf::from(name))
}

/// Whether a network's measurements meet all targets.
pub fn meets(measured: &[Measured], network: &Architecture) -> bool {
    let own = |measured: &&Measured| measured.architecture == network.to_string();
    measured.iter().filter(own).all(|measured| measured.measured_ms <= measured.target_ms)
}

/// The limits' amounts at which a network that the tables predict would meet the targets as measured, by how far the last
/// measurements of each device were from what the tables said.
pub fn corrected(limits: &Limits, devices: &[String], measured: &[Measured]) -> Vec<f64> {
    let mut amounts = limits.amounts();
    for ((amount, device), limit) in amounts.iter_mut().zip(devices).zip(limits.iter()) {
        let own = |measured: &&Measured| measured.device == *device && measured.target_ms == limit.at_most;
        if let Some(last) = measured.iter().rev().find(own) {
            *amount *= last.predicted_ms / last.believed_ms();
        }
    }
    amounts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_far_from_its_prediction_or_known_badly_is_measured_again() {
        let row = |latency_ms, low_ms, high_ms| Row { architecture: "0".to_owned(), latency_ms, low_ms, high_ms };
        assert!(!row(1.05, 1.04, 1.06).is_strange(1.0) && !row(0.95, 0.94, 0.96).is_strange(1.0));
        assert!(row(1.59, 1.57, 1.61).is_strange(1.0), "slower by half, however sure");
        assert!(row(0.8, 0.79, 0.81).is_strange(1.0), "faster, too: the table may be of another day");
        assert!(row(1.0, 0.95, 1.05).is_strange(1.0), "an interval of 5 % to each side");
    }

    #[test]
    fn a_disturbed_measurement_corrects_no_more_than_it_shows() {
        let measured = |measured_ms, low_ms, high_ms| Measured {
            device: "mock".to_owned(),
            architecture: "0".to_owned(),
            measured_ms,
            low_ms,
            high_ms,
            predicted_ms: 1.0,
            target_ms: 1.0,
        };
        // A narrow interval is believed; of a wide one, what is nearest to the prediction.
        assert_eq!(measured(1.1, 1.09, 1.11).believed_ms(), 1.1);
        assert_eq!(measured(1.3, 0.9, 1.6).believed_ms(), 1.0);
        assert_eq!(measured(1.3, 1.1, 1.6).believed_ms(), 1.1);
        assert_eq!(measured(0.7, 0.5, 0.8).believed_ms(), 0.8);
    }
}
