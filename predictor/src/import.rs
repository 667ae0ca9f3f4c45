//! Numbers of others: their tables, their lists of networks, profiles of ONNX Runtime.
//!
//! What a file says is collected as [`Entry`]s, looked at for what speaks against it ([`traps`]), and only then made to rows. What can't
//! be a row at all is a [`Fault`]: an error, unless it is to be left out. What may be none is a [`Doubt`]: it stays, marked, unless it is
//! to be left out.

mod columns;
mod first_rows;
mod lookup;
mod networks;
mod onnxruntime;
mod table;
mod traps;

use std::fmt;
use std::str::FromStr;

use fleetfoot_profiler::{Context, Doubt, Doubts, Provenance, TableError, mean_width};
use fleetfoot_space::{Network, Operator, OperatorKey, Precision, Shape};

pub use columns::{Columns, ColumnsError};
pub use lookup::lookup_keys;
pub use networks::{ImportedNetworks, doubts_of_networks, import_networks, is_of_networks};
pub use table::{Imported, import_table};
pub(crate) use traps::resolution;

/// In what form a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A look-up table of ProxylessNAS or Once-for-All, in YAML.
    Lookup,
    /// A CSV with a header.
    Csv,
    /// A profile of ONNX Runtime, in JSON.
    OnnxRuntime,
}

impl Format {
    const fn name(self) -> &'static str {
        match self {
            Self::Lookup => "once-for-all",
            Self::Csv => "csv",
            Self::OnnxRuntime => "onnxruntime",
        }
    }

    /// The form of a text, by its beginning.
    pub fn recognise(text: &str) -> Option<Self> {
        let trimmed = text.trim_start();
        if trimmed.starts_with('[') {
            return Some(Self::OnnxRuntime);
        }
        let mut lines = trimmed.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let first = lines.find(|line| *line != "---")?;
        if first.starts_with('{') || first.contains("-input:") || first.ends_with(':') {
            return Some(Self::Lookup);
        }
        (first.contains([',', ';', '\t']) && !first.contains(": ")).then_some(Self::Csv)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "once-for-all" | "ofa" | "proxylessnas" | "yaml" => Ok(Self::Lookup),
            "csv" => Ok(Self::Csv),
            "onnxruntime" | "ort" | "json" => Ok(Self::OnnxRuntime),
            _ => Err(format!("'{text}' is no form: wanted once-for-all, csv or onnxruntime")),
        }
    }
}

/// What makes an entry no row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// No operator of fleetfoot is that.
    Inexpressible,
    /// Part of an operator, and the other part isn't there.
    Incomplete,
    /// Nothing takes less than no time.
    Negative,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Inexpressible, Self::Incomplete, Self::Negative];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inexpressible => "inexpressible",
            Self::Incomplete => "incomplete",
            Self::Negative => "negative",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What an entry was measured of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Piece {
    /// A unit.
    Unit(OperatorKey),
    /// The head's 1x1 convolution, at batch 1 in fp32.
    Features { height: usize, width: usize, c_in: usize, c_hidden: usize },
    /// What is behind that.
    Classifier { height: usize, width: usize, c_hidden: usize, classes: usize },
}

/// A number that a file holds.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Where it stands.
    pub place: String,
    /// What the file calls it.
    pub name: String,
    /// Of what it is.
    pub piece: Piece,
    /// In milliseconds, whatever its sign.
    pub ms: f64,
    /// Standard deviation of its samples.
    pub deviation: Option<f64>,
    /// Its interval, where the file says one.
    pub interval: Option<(f64, f64)>,
    /// Samples; 0 where unknown.
    pub samples: u64,
    /// What surrounded it.
    pub measured: Option<Context>,
    /// What speaks against it.
    pub doubts: Doubts,
}

impl Entry {
    /// A number of which nothing else is known yet.
    pub(crate) fn of(piece: Piece, ms: f64) -> Self {
        Self {
            place: String::new(),
            name: String::new(),
            piece,
            ms,
            deviation: None,
            interval: None,
            samples: 0,
            measured: None,
            doubts: Doubts::NONE,
        }
    }

    /// Its 99 % interval, as far as it is known: that of its mean, and half of the step to which it is rounded.
    fn ends(&self, step: f64) -> (f64, f64) {
        let error = self.deviation.map(|deviation| deviation / (self.samples as f64).sqrt());
        let half = mean_width(self.samples).zip(error).map_or(0.0, |(width, error)| width * error);
        let (low, high) = self.interval.unwrap_or((self.ms - half, self.ms + half));
        let half = if self.doubts.contains(Doubt::Coarse) { step / 2.0 } else { 0.0 };
        ((low - half).min(self.ms).max(0.0), (high + half).max(self.ms))
    }
}

/// What a file holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Collected {
    /// In the file's order.
    pub entries: Vec<Entry>,
    /// What can't be a row.
    pub faults: Vec<(Fault, String)>,
    /// What people should know.
    pub notes: Vec<String>,
    /// What the file says of where its numbers come from.
    pub provenance: Provenance,
}

impl Collected {
    pub(crate) fn fault(&mut self, fault: Fault, what: String) {
        self.faults.push((fault, what));
    }
}

/// A file that can't be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Nobody knows what it is.
    #[error(
        "{0}: neither a look-up table of Once-for-All (YAML) nor a CSV with a header nor a profile of ONNX Runtime (JSON): say with --format which it is"
    )]
    Unknown(String),
    /// It isn't in its form.
    #[error("{origin}: {what}")]
    Form {
        /// The file.
        origin: String,
        /// Where and why.
        what: String,
    },
    /// Some of it can't be a row.
    #[error("{origin}: {list}; to go on without what is so, pass --leave-out {names}")]
    Faults {
        /// The file.
        origin: String,
        /// What, a few of them.
        list: String,
        /// The faults' names.
        names: String,
    },
    /// Nothing is left.
    #[error("{0}: nothing is left to import")]
    Nothing(String),
    /// Units of a space are missing.
    #[error("{origin} lacks {count} units of {space}: {list}")]
    Missing {
        /// The file.
        origin: String,
        /// How many.
        count: usize,
        /// The space.
        space: String,
        /// Their keys.
        list: String,
    },
    /// The rows make no table.
    #[error("{origin}: {source}")]
    Table {
        /// The file.
        origin: String,
        /// Why.
        source: Box<TableError>,
    },
}

/// What is to be left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaveOut {
    faults: Vec<Fault>,
    doubts: Doubts,
}

impl LeaveOut {
    fn has(&self, doubts: Doubts) -> bool {
        doubts.iter().any(|doubt| self.doubts.contains(doubt))
    }
}

impl FromStr for LeaveOut {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut all = Self::default();
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            if let Some(fault) = Fault::ALL.into_iter().find(|fault| fault.name() == name) {
                all.faults.push(fault);
            } else if let Some(doubt) = Doubt::ALL.into_iter().find(|doubt| doubt.name() == name) {
                all.doubts.insert(doubt);
            } else {
                let names =
                    Fault::ALL.iter().map(|fault| fault.name()).chain(Doubt::ALL.iter().map(|doubt| doubt.name()));
                return Err(format!(
                    "'{name}' is nothing that can be left out: wanted {}",
                    names.collect::<Vec<_>>().join(", ")
                ));
            }
        }
        Ok(all)
    }
}

/// The most lines of one kind that are told.
const TOLD: usize = 8;

/// Names a few of many.
fn few(all: &[String], separator: &str) -> String {
    let mut text = all.iter().take(TOLD).cloned().collect::<Vec<_>>().join(separator);
    if all.len() > TOLD {
        text.push_str(&format!("{separator}and {} more", all.len() - TOLD));
    }
    text
}

/// Refuses what can't be a row, but for what is to be left out: a note.
fn settle(faults: Vec<(Fault, String)>, leave_out: &LeaveOut, origin: &str) -> Result<Vec<String>, ImportError> {
    let (out, wrong): (Vec<_>, Vec<_>) = faults.into_iter().partition(|(fault, _)| leave_out.faults.contains(fault));
    let list = |faults: &[(Fault, String)]| {
        let all: Vec<String> = faults.iter().map(|(fault, what)| format!("{what} ({fault})")).collect();
        few(&all, "; ")
    };
    if !wrong.is_empty() {
        let mut names: Vec<&str> = wrong.iter().map(|(fault, _)| fault.name()).collect();
        names.sort_unstable();
        names.dedup();
        let (origin, list, names) = (origin.to_owned(), list(&wrong), names.join(","));
        return Err(ImportError::Faults { origin, list, names });
    }
    Ok(match out.len() {
        0 => Vec::new(),
        count => vec![format!("{origin}: {count} entries are left out: {}", list(&out))],
    })
}

/// Whether a file may be cut: its last line doesn't end.
fn cut(text: &str, origin: &str, format: Format) -> Vec<String> {
    let ends = text.ends_with('\n') || format == Format::OnnxRuntime || text.trim_end().ends_with('}');
    if ends { Vec::new() } else { vec![format!("{origin}: its last line doesn't end: it may be cut")] }
}

/// What a piece computes and moves: its network; the classifier's as the linear layer that it mostly is.
pub(crate) fn network_of(piece: &Piece) -> Option<Network> {
    let key = match *piece {
        Piece::Unit(key) => key,
        Piece::Features { height, width, c_in, c_hidden } => OperatorKey {
            operator: Operator::Conv { kernel: 1, stride: 1, c_in, c_out: c_hidden, groups: 1 },
            input: Shape::new(1, c_in, height, width),
            precision: Precision::Fp32,
        },
        Piece::Classifier { c_hidden, classes, .. } => OperatorKey {
            operator: Operator::Conv { kernel: 1, stride: 1, c_in: c_hidden, c_out: classes, groups: 1 },
            input: Shape::new(1, c_hidden, 1, 1),
            precision: Precision::Fp32,
        },
    };
    let (kernel, channels) = match key.operator {
        Operator::Conv { kernel, c_in, c_out, .. } => (kernel, [c_in, c_out, 1]),
        Operator::MbConv { kernel, expansion, c_in, c_out, .. } => {
            (kernel, [c_in * expansion.unwrap_or(1), c_out, c_in])
        }
        Operator::Head { c_in, c_hidden, classes } => (1, [c_in, c_hidden, classes]),
        Operator::Zero => (1, [1, 1, 1]),
    };
    let Shape { n, c, h, w } = key.input;
    if [n, c, h, w].contains(&0) || channels.contains(&0) {
        return None;
    }
    let most = channels.iter().copied().max().unwrap_or(1) as f64;
    let macs = (n * h) as f64 * w as f64 * (kernel * kernel) as f64 * most * most;
    if macs > MOST_MACS { None } else { Network::of_unit(&key, 1e-3).ok() }
}

/// Multiply-accumulates that nothing has that anybody measures, far below what overflows.
const MOST_MACS: f64 = 1e17;
