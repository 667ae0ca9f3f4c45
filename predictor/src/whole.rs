//! Files of whole networks: `architecture,latency_ms[,low_ms,high_ms,n]`, with the provenance in front where it is known.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use fleetfoot_profiler::{Latency, Provenance, csv_fault, csv_head, csv_records, half_an_interval, missing_end};
use fleetfoot_space::{Architecture, SearchSpace, line_of_record, without_mark};

/// Columns of an interval's ends.
const ENDS: [&str; 2] = ["low_ms", "high_ms"];

/// A network that was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct WholeNetwork {
    /// Which.
    pub architecture: Architecture,
    /// What it took.
    pub latency: Latency,
    /// The ends of its interval, where they are told.
    pub interval: Option<(Latency, Latency)>,
}

/// Networks in the order in which they were measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WholeNetworks {
    provenance: Provenance,
    networks: Vec<WholeNetwork>,
}

/// A file that holds no measured networks.
#[derive(Debug, thiserror::Error)]
pub enum WholeNetworksError {
    /// It can't be read.
    #[error("networks {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It isn't such a file.
    #[error("networks {path}: {what}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A cell isn't what it should be.
    #[error("networks {path}, line {line}, column {column}: {what}")]
    Value {
        /// The file.
        path: PathBuf,
        /// Its line.
        line: u64,
        /// Its column's name.
        column: &'static str,
        /// What is wrong.
        what: String,
    },
}

impl WholeNetworks {
    /// Reads networks of a space from a file. Warnings are for people.
    pub fn read(path: &Path, space: &SearchSpace) -> Result<(Self, Vec<String>), WholeNetworksError> {
        let bytes =
            std::fs::read(path).map_err(|source| WholeNetworksError::Io { path: path.to_path_buf(), source })?;
        let text = String::from_utf8(bytes).map_err(|error| WholeNetworksError::Format {
            path: path.to_path_buf(),
            what: format!("byte {} is not text (UTF-8)", error.utf8_error().valid_up_to()),
        })?;
        Self::parse(&text, path, space)
    }

    /// Reads a file's text; `path` is named in errors.
    pub fn parse(text: &str, path: &Path, space: &SearchSpace) -> Result<(Self, Vec<String>), WholeNetworksError> {
        let text = without_mark(text);
        let format = |what: String| WholeNetworksError::Format { path: path.to_path_buf(), what };
        let Some((provenance, warnings)) = csv_head(text, path) else {
            return Err(format("its last line doesn't end: it was cut".to_owned()));
        };
        if let Some(other) = provenance.get("space").filter(|other| *other != space.name()) {
            return Err(format(format!("its networks are of space {other}, not of {}", space.name())));
        }
        let mut reader = csv_records(text);
        let header = reader.headers().map_err(|error| format(csv_fault(text, &error)))?.clone();
        let column = |name: &str| header.iter().position(|field| field == name);
        let named = |name: &'static str| {
            let found = header.iter().collect::<Vec<_>>().join(", ");
            column(name).ok_or_else(|| format!("it has no column {name}; its columns are: {found}"))
        };
        let (architecture, latency) = (named("architecture").map_err(format)?, named("latency_ms").map_err(format)?);
        if missing_end(ENDS.map(|end| (end, column(end).is_some()))).is_some() {
            return Err(format("of its columns low_ms and high_ms, an interval's ends, one is missing".to_owned()));
        }
        let ends = ENDS.map(column);
        let mut networks = Vec::new();
        for record in reader.records() {
            let record = record.map_err(|error| format(csv_fault(text, &error)))?;
            let line = || record.position().map_or(0, |position| line_of_record(text, position.byte()));
            let value = |column: &'static str, what: String| WholeNetworksError::Value {
                path: path.to_path_buf(),
                line: line(),
                column,
                what,
            };
            let ms = |index: usize, column: &'static str| {
                let text = record.get(index).unwrap_or_default();
                let number = text.parse::<f64>().map_err(|_| value(column, format!("'{text}' is no number")))?;
                Latency::from_ms(number).map_err(|error| value(column, error.to_string()))
            };
            let text = record.get(architecture).unwrap_or_default();
            let architecture = space.resolve_own(text).map_err(|error| value("architecture", error.to_string()))?;
            let latency = ms(latency, "latency_ms")?;
            if latency == Latency::ZERO {
                return Err(value("latency_ms", "no network takes 0 ms".to_owned()));
            }
            let [low, high] =
                ends.map(|end| end.filter(|index| record.get(*index).is_some_and(|text| !text.is_empty())));
            if let Some([missing, other]) = missing_end([(ENDS[0], low.is_some()), (ENDS[1], high.is_some())]) {
                return Err(value(missing, half_an_interval(other)));
            }
            let interval = low.zip(high).map(|(low, high)| Ok((ms(low, ENDS[0])?, ms(high, ENDS[1])?))).transpose()?;
            if let Some((low, high)) = interval.filter(|(low, high)| *low > latency || *high < latency) {
                return Err(value("low_ms", format!("{low} to {high} doesn't hold {latency}")));
            }
            networks.push(WholeNetwork { architecture, latency, interval });
        }
        if networks.is_empty() {
            return Err(format("it holds no network".to_owned()));
        }
        Ok((Self { provenance, networks }, warnings))
    }

    /// Networks in the order in which they were measured, with what is known of where.
    pub fn new(provenance: Provenance, networks: Vec<WholeNetwork>) -> Self {
        Self { provenance, networks }
    }

    /// The same without some architectures.
    pub fn without(&self, left_out: &HashSet<Architecture>) -> Self {
        let kept = self.networks.iter().filter(|network| !left_out.contains(&network.architecture));
        Self { provenance: self.provenance.clone(), networks: kept.cloned().collect() }
    }

    /// The networks.
    pub fn networks(&self) -> &[WholeNetwork] {
        &self.networks
    }

    /// What each took, in ms.
    pub fn pairs(&self) -> impl Iterator<Item = (&Architecture, f64)> {
        self.networks.iter().map(|network| (&network.architecture, network.latency.ms()))
    }

    /// The file's head.
    pub fn provenance(&self) -> &Provenance {
        &self.provenance
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<(WholeNetworks, Vec<String>), String> {
        let space = SearchSpace::load("fashion-28").unwrap();
        WholeNetworks::parse(text, Path::new("x.csv"), &space).map_err(|error| error.to_string())
    }

    #[test]
    fn what_measure_writes_is_read_and_a_bare_file_with_a_warning() {
        let text =
            "# device: d\n# space: fashion-28\narchitecture,latency_ms,low_ms,high_ms,n\n0000000000,1.5,1.4,1.6,30\n";
        let (networks, warnings) = parsed(text).unwrap();
        assert_eq!((networks.networks().len(), warnings.len()), (1, 0));
        assert_eq!(networks.networks()[0].latency.ms(), 1.5);
        assert_eq!(networks.networks()[0].interval.unwrap().0.ms(), 1.4);
        let (some, _) = parsed("architecture,latency_ms,low_ms,high_ms\n0000000000,1,,\n1111111111,2,1,3\n").unwrap();
        assert_eq!(some.networks().iter().filter(|network| network.interval.is_some()).count(), 1);
        let bare = "latency_ms,architecture\n2,1111111111\n3,0000000000";
        for (end, warned) in [("\n", 1), ("", 2)] {
            let (bare, warnings) = parsed(&format!("{bare}{end}")).unwrap();
            assert_eq!((bare.networks().len(), warnings.len()), (2, warned), "{warnings:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_line_and_column() {
        let head = "architecture,latency_ms,low_ms,high_ms\n";
        for (text, part) in [
            ("architecture,ms\n0000000000,1\n".to_owned(), "no column latency_ms; its columns are: architecture, ms"),
            (format!("{head}0000000000,x,1,2\n"), "line 2, column latency_ms: 'x' is no number"),
            (format!("{head}0000000000,-1,1,2\n"), "line 2, column latency_ms: -1 ms is not a latency"),
            (format!("{head}0000000000,NaN,1,2\n"), "column latency_ms"),
            (format!("{head}0000000000,0,0,2\n"), "no network takes 0 ms"),
            (format!("{head}0000000000,3,1,2\n"), "doesn't hold"),
            (format!("{head}0000000000,1,,2\n"), "line 2, column low_ms: nothing stands there, but high_ms"),
            (format!("{head}0000000000,1,1,\n"), "line 2, column high_ms: nothing stands there, but low_ms"),
            ("architecture,latency_ms,low_ms\n0000000000,1,1\n".to_owned(), "low_ms and high_ms, an interval's ends"),
            (format!("{head}0000,1,1,2\n"), "line 2, column architecture"),
            (format!("{head}0000000000,1\n"), "line 2 has 2 fields, the header 4"),
            (format!("{head}# c\n\n0000000000,x,1,2\n"), "line 4, column latency_ms: 'x' is no number"),
            (head.to_owned(), "holds no network"),
            (String::new(), "no column architecture"),
            ("# space: other\narchitecture,latency_ms\n0000000000,1\n".to_owned(), "of space other"),
            ("# device: d\narchitecture,latency_ms\n0000000000,1".to_owned(), "it was cut"),
        ] {
            let error = parsed(&text).unwrap_err();
            assert!(error.contains(part), "{error}: {text}");
        }
    }
}
