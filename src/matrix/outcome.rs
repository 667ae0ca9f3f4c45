//! What a matrix says: every cell against the fastest of its column, and whether networks are specialised.

use anyhow::Result;
use fleetfoot_profiler::{Measurement, Provenance, Ratio};
use serde::{Deserialize, Serialize};

use super::found::Found;
use crate::measuring::INTERVAL;
use crate::report::blocks::blocks;
use crate::report::summary::Block;

/// Version of the JSON form.
const FORMAT: u32 = 1;

/// What a device measured, a network each row.
pub struct Column {
    /// Its name.
    pub device: String,
    /// The head of its file.
    pub head: Provenance,
    /// Of every row.
    pub measured: Vec<Measurement>,
}

/// The matrix. Latencies are in milliseconds.
#[derive(Debug, Serialize, Deserialize)]
pub struct Matrix {
    /// Version of this form.
    pub format: u32,
    /// Who wrote it.
    pub tool: String,
    /// The networks' space.
    pub space: String,
    /// Images that they compute at a time.
    pub batch: usize,
    /// What intervals are.
    pub interval: String,
    /// How many networks are the fastest on their own devices.
    pub specialised: Specialised,
    /// The columns.
    pub devices: Vec<Device>,
    /// The rows.
    pub networks: Vec<Network>,
}

/// A count of the verdicts.
#[derive(Debug, Serialize, Deserialize)]
pub struct Specialised {
    /// Devices with a network of their own.
    pub networks: usize,
    /// Those on which it is the fastest.
    pub fastest: usize,
    /// Those on which it ties with the fastest.
    pub tied: usize,
}

impl Specialised {
    fn of(devices: &[Device]) -> Self {
        let own = || devices.iter().filter_map(|device| device.own.as_ref());
        let count = |standing: Standing| own().filter(|own| own.standing == standing).count();
        Self { networks: own().count(), fastest: count(Standing::Fastest), tied: count(Standing::Tie) }
    }
}

/// A column.
#[derive(Debug, Serialize, Deserialize)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Whether the network that was searched for it is the fastest on it; none: none was.
    pub own: Option<Own>,
    /// Under which conditions it measured, and when.
    pub provenance: Vec<(String, String)>,
}

/// How a device's own network does on it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Own {
    /// How it stands.
    pub standing: Standing,
    /// The fastest of the others, none where all are the same network.
    pub other: Option<String>,
    /// How much longer the own network takes than that one, in percent, with its interval.
    pub slower_percent: Option<[f64; 3]>,
}

/// How a network stands in a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It has the least latency; as a verdict on a device's own network: and no other one ties with it.
    Fastest,
    /// What it takes longer than the fastest isn't beyond the intervals of both.
    Tie,
    /// It takes longer.
    Slower,
}

impl Standing {
    /// As files and tables name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fastest => "fastest",
            Self::Tie => "tie",
            Self::Slower => "slower",
        }
    }
}

/// A row.
#[derive(Debug, Serialize, Deserialize)]
pub struct Network {
    /// The device that it was searched for, or another name.
    pub name: String,
    /// What it is.
    pub architecture: String,
    /// Multiply-accumulates of an image, in millions.
    pub macs_millions: f64,
    /// Parameters, in thousands.
    pub params_thousands: f64,
    /// On every device.
    pub cells: Vec<Cell>,
    /// From input to output.
    pub blocks: Vec<Block>,
}

/// A network on a device.
#[derive(Debug, Serialize, Deserialize)]
pub struct Cell {
    /// What it takes.
    pub latency_ms: f64,
    /// Lower end of the interval.
    pub low_ms: f64,
    /// Upper end.
    pub high_ms: f64,
    /// Samples behind it.
    pub samples: usize,
    /// How much longer it takes than the fastest of the column, in percent.
    pub slower_percent: f64,
    /// Lower end of that.
    pub slower_low_percent: f64,
    /// Upper end of that.
    pub slower_high_percent: f64,
    /// How it stands.
    pub standing: Standing,
}

impl Matrix {
    /// Judges what was measured.
    pub fn new(found: &Found, batch: usize, columns: &[Column]) -> Result<Self> {
        let labels: Vec<&str> = found.rows.iter().map(|row| row.label.as_str()).collect();
        let names: Vec<&str> = found.rows.iter().map(|row| row.name.as_str()).collect();
        let cells: Vec<Vec<Cell>> = columns.iter().map(|column| cells(&labels, &column.measured)).collect();
        let device = |column: &Column| Device {
            name: column.device.clone(),
            own: own(&names, &labels, column),
            provenance: column.head.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        };
        let devices: Vec<Device> = columns.iter().map(device).collect();
        let mut cells: Vec<_> = cells.into_iter().map(Vec::into_iter).collect();
        let mut networks = Vec::new();
        for row in &found.rows {
            let graph = row.space.network(&row.architecture)?;
            networks.push(Network {
                name: row.name.clone(),
                architecture: row.label.clone(),
                macs_millions: graph.macs() as f64 / 1e6,
                params_thousands: graph.params() as f64 / 1e3,
                cells: cells.iter_mut().filter_map(Iterator::next).collect(),
                blocks: blocks(&row.space, &row.architecture)?,
            });
        }
        Ok(Self {
            format: FORMAT,
            tool: format!("fleetfoot {}", env!("CARGO_PKG_VERSION")),
            space: found.space.name().to_owned(),
            batch,
            interval: INTERVAL.to_owned(),
            specialised: Specialised::of(&devices),
            devices,
            networks,
        })
    }

    /// A row for each network on each device.
    pub fn to_csv(&self) -> Result<Vec<u8>> {
        let mut head = Provenance::default();
        head.set("tool", &self.tool);
        head.set("space", &self.space);
        head.set("batch", self.batch);
        head.set("interval", &self.interval);
        let mut writer = csv::Writer::from_writer(head.to_head().into_bytes());
        let columns = ["network", "architecture", "device", "latency_ms", "low_ms", "high_ms", "n"];
        let against = ["slower_percent", "slower_low_percent", "slower_high_percent", "standing"];
        writer.write_record(columns.iter().chain(&against))?;
        for network in &self.networks {
            for (device, cell) in self.devices.iter().zip(&network.cells) {
                let mut record = vec![network.name.clone(), network.architecture.clone(), device.name.clone()];
                record.extend([cell.latency_ms, cell.low_ms, cell.high_ms].map(|ms| ms.to_string()));
                record.push(cell.samples.to_string());
                let slower = [cell.slower_percent, cell.slower_low_percent, cell.slower_high_percent];
                record.extend(slower.map(|percent| percent.to_string()));
                record.push(cell.standing.name().to_owned());
                writer.write_record(&record)?;
            }
        }
        Ok(writer.into_inner().map_err(csv::IntoInnerError::into_error)?)
    }
}

/// How much longer the second takes than the first, in percent, with its 99 % interval.
fn slower(first: &Measurement, second: &Measurement) -> Option<[f64; 3]> {
    let ratio = ratio(first, second)?;
    Some([ratio.ratio, ratio.low, ratio.high].map(|ratio| 100.0 * (ratio - 1.0)))
}

fn ratio(first: &Measurement, second: &Measurement) -> Option<Ratio> {
    Ratio::new(String::new(), (first.latency, first.interval), (second.latency, second.interval))
}

/// Whether the intervals leave no doubt that the second is slower.
fn is_slower(first: &Measurement, second: &Measurement) -> bool {
    ratio(first, second).is_some_and(|ratio| ratio.is_beyond_noise() && ratio.ratio > 1.0)
}

/// The row with the least latency.
fn fastest<'a>(rows: impl Iterator<Item = (usize, &'a Measurement)>) -> Option<(usize, &'a Measurement)> {
    rows.min_by(|a, b| a.1.latency.ms().total_cmp(&b.1.latency.ms()))
}

fn cells(labels: &[&str], measured: &[Measurement]) -> Vec<Cell> {
    let Some((first, least)) = fastest(measured.iter().enumerate()) else { return Vec::new() };
    let cell = |(row, measured): (usize, &Measurement)| {
        let same = labels[row] == labels[first];
        let standing = match (same, is_slower(least, measured)) {
            (true, _) => Standing::Fastest,
            (false, false) => Standing::Tie,
            (false, true) => Standing::Slower,
        };
        let slower = slower(least, measured).filter(|_| !same).unwrap_or_default();
        Cell {
            latency_ms: measured.latency.ms(),
            low_ms: measured.interval.low.ms(),
            high_ms: measured.interval.high.ms(),
            samples: measured.samples,
            slower_percent: slower[0],
            slower_low_percent: slower[1],
            slower_high_percent: slower[2],
            standing,
        }
    };
    measured.iter().enumerate().map(cell).collect()
}

/// How the network that was searched for a device does on it against the fastest that is unlike it.
fn own(names: &[&str], labels: &[&str], column: &Column) -> Option<Own> {
    let own = names.iter().position(|name| *name == column.device)?;
    let measured = column.measured.get(own)?;
    let others = column.measured.iter().enumerate().filter(|(row, _)| labels[*row] != labels[own]);
    let Some((row, other)) = fastest(others) else {
        return Some(Own { standing: Standing::Fastest, other: None, slower_percent: None });
    };
    let standing = match (is_slower(measured, other), is_slower(other, measured)) {
        (true, _) => Standing::Fastest,
        (_, true) => Standing::Slower,
        _ => Standing::Tie,
    };
    Some(Own { standing, other: Some(names[row].to_owned()), slower_percent: slower(other, measured) })
}

#[cfg(test)]
mod tests {
    use fleetfoot_profiler::{Interval, Latency};

    use super::*;

    fn measured(ms: f64, half: f64) -> Measurement {
        let at = |ms: f64| Latency::from_ms(ms).unwrap();
        let interval = Interval { low: at(ms - half), high: at(ms + half) };
        Measurement { latency: at(ms), interval, samples: 100, rounds: 10, disturbed: 0, common: 0.0 }
    }

    fn column(measured: Vec<Measurement>) -> Column {
        Column { device: "cpu".to_owned(), head: Provenance::default(), measured }
    }

    #[test]
    fn what_is_not_beyond_the_intervals_of_both_is_a_tie() {
        let measured = [measured(1.01, 0.01), measured(1.0, 0.01), measured(1.1, 0.01)];
        let standings =
            |labels: &[&str]| -> Vec<Standing> { cells(labels, &measured).iter().map(|cell| cell.standing).collect() };
        assert_eq!(standings(&["a", "b", "c"]), [Standing::Tie, Standing::Fastest, Standing::Slower]);
        assert_eq!(standings(&["b", "b", "c"]), [Standing::Fastest, Standing::Fastest, Standing::Slower]);
        let [_, _, slow] = &cells(&["a", "b", "c"], &measured)[..] else { panic!() };
        assert!((slow.slower_percent - 10.0).abs() < 1e-9);
        assert!(slow.slower_low_percent > 8.0 && slow.slower_high_percent < 12.0, "{slow:?}");
    }

    #[test]
    fn a_devices_own_network_is_held_against_the_fastest_other_one() {
        let verdict = |own_ms: f64, labels: [&str; 3]| {
            let column = column(vec![measured(1.0, 0.01), measured(own_ms, 0.01), measured(1.3, 0.01)]);
            own(&["phone", "cpu", "third"], &labels, &column).unwrap()
        };
        let unlike = ["a", "b", "c"];
        assert_eq!(verdict(0.9, unlike).standing, Standing::Fastest);
        assert_eq!(verdict(0.995, unlike).standing, Standing::Tie);
        assert_eq!(verdict(1.005, unlike).standing, Standing::Tie);
        let slower = verdict(1.2, unlike);
        assert_eq!((slower.standing, slower.other.as_deref()), (Standing::Slower, Some("phone")));
        assert!((slower.slower_percent.unwrap()[0] - 20.0).abs() < 1e-9);
        // The other device's search found the same network.
        let same = verdict(1.0, ["a", "a", "c"]);
        assert_eq!((same.standing, same.other.as_deref()), (Standing::Fastest, Some("third")));
        let column = column(vec![measured(1.0, 0.01)]);
        assert!(own(&["phone"], &["a"], &column).is_none(), "nothing was searched for it");
    }
}
