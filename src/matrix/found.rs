//! The networks of a matrix, from the command line: searches' results and architectures, of one space.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use fleetfoot_console::usage;
use fleetfoot_profiler::Measurement;
use fleetfoot_space::{Architecture, Network, Precision, SearchSpace};
use serde::Deserialize;

/// What a search leaves behind in its folder.
const RECORD: &str = "search.json";

/// What a search's record says that matters here.
#[derive(Debug, Deserialize)]
struct Record {
    space_toml: String,
    architecture: String,
    /// Of its tables; earlier records don't say it.
    #[serde(default)]
    devices: Vec<String>,
    #[serde(default)]
    measure_on: Vec<String>,
}

/// A row: a network under a name.
#[derive(Debug)]
pub struct Row {
    /// The device that it was searched for, or what else tells it from the others.
    pub name: String,
    /// Digits, or the name that the space's file gives it.
    pub label: String,
    /// The space in the network's widths.
    pub space: SearchSpace,
    /// Its choices.
    pub architecture: Architecture,
}

/// The networks.
#[derive(Debug)]
pub struct Found {
    /// Their space.
    pub space: SearchSpace,
    /// In the order in which they were named.
    pub rows: Vec<Row>,
}

impl Found {
    /// Reads what is named. Searches of unlike spaces, or two networks of one name, are errors.
    pub fn read(named: &[String], space: Option<&str>) -> Result<Self> {
        let texts: Vec<(Option<&str>, &str)> = named.iter().map(|text| split(text)).collect();
        let mut common = space.map(|name| Ok::<_, anyhow::Error>((SearchSpace::load(name)?, name.to_owned())));
        let mut common = common.take().transpose()?;
        let records = texts.iter().map(|(_, text)| record(text)).collect::<Result<Vec<_>>>()?;
        for (path, record) in records.iter().flatten() {
            let origin = path.display().to_string();
            let own = SearchSpace::from_toml(&record.space_toml, &origin)?;
            match &common {
                Some((space, first)) if space.signature() != own.signature() => bail!(
                    "{origin} is of space '{}', {first} of another ('{}'): a matrix holds networks of one space",
                    own.name(),
                    space.name()
                ),
                Some(_) => {}
                None => common = Some((own, origin)),
            }
        }
        let Some((space, _)) = common else {
            return Err(usage("architectures need --space (no folder of a search, with a search.json, is named)"));
        };
        let mut rows: Vec<Row> = Vec::new();
        for ((given, text), record) in texts.iter().zip(&records) {
            let row = row(&space, *given, text, record.as_ref())?;
            if rows.iter().any(|other| other.name == row.name) {
                return Err(usage(format!(
                    "two networks are called '{}': name one otherwise, such as second={text}",
                    row.name
                )));
            }
            rows.push(row);
        }
        Ok(Self { space, rows })
    }

    /// The networks that are unlike, each under its label: two searches may have found the same.
    pub fn distinct(&self, batch: usize, precision: Precision) -> Result<Vec<(String, Network)>> {
        let networks = self
            .firsts()
            .map(|row| Ok((row.label.clone(), row.space.network_at(&row.architecture, batch, precision)?)));
        networks.collect()
    }

    /// Of every row what its network took, from what the [distinct](Self::distinct) ones did.
    pub fn spread(&self, measured: &[Measurement]) -> Vec<Measurement> {
        let labels: Vec<&str> = self.firsts().map(|row| row.label.as_str()).collect();
        let of = |row: &Row| measured.get(labels.iter().position(|label| *label == row.label)?).cloned();
        self.rows.iter().filter_map(of).collect()
    }

    fn firsts(&self) -> impl Iterator<Item = &Row> {
        let is_first = |index: usize| self.rows[..index].iter().all(|other| other.label != self.rows[index].label);
        self.rows.iter().enumerate().filter(move |(index, _)| is_first(*index)).map(|(_, row)| row)
    }
}

/// The name in front of `=`, and what it is of. A path may hold one, too.
fn split(text: &str) -> (Option<&str>, &str) {
    match text.split_once('=') {
        Some((name, rest)) if !name.is_empty() && !name.contains(['/', '\\']) && !Path::new(text).exists() => {
            (Some(name), rest)
        }
        _ => (None, text),
    }
}

/// The record of a search, where a text names one: its folder, the folder above it, or the record itself.
fn record(text: &str) -> Result<Option<(PathBuf, Record)>> {
    let given = Path::new(text);
    let path = if given.is_dir() {
        let places = [given.join(RECORD), given.join("search").join(RECORD)];
        let Some(path) = places.into_iter().find(|path| path.is_file()) else {
            bail!("{text} has no {RECORD}: it isn't the folder of a finished search (`fleetfoot search … -o {text}`)");
        };
        path
    } else if given.is_file() {
        given.to_path_buf()
    } else if text.contains(['/', '\\']) {
        bail!("{text} doesn't exist: name the folder of a search, or an architecture");
    } else {
        return Ok(None);
    };
    let bytes = std::fs::read(&path).with_context(|| format!("can't read {}", path.display()))?;
    let record = serde_json::from_slice(&bytes).with_context(|| format!("{} is no search's record", path.display()))?;
    Ok(Some((path, record)))
}

fn row(space: &SearchSpace, given: Option<&str>, text: &str, record: Option<&(PathBuf, Record)>) -> Result<Row> {
    let label = record.map_or(text, |(_, record)| record.architecture.as_str());
    let resolved = space.resolve(label);
    let (own, architecture) = match record {
        Some((path, _)) => resolved.with_context(|| path.display().to_string())?,
        None => resolved.with_context(|| format!("'{text}' is neither a folder nor an architecture"))?,
    };
    let device = record.and_then(|(_, record)| match (record.devices.as_slice(), record.measure_on.as_slice()) {
        ([device], _) | ([], [device]) => Some(device.as_str()),
        _ => None,
    });
    let name = given.or(device).map_or_else(|| text.trim_end_matches(['/', '\\']).to_owned(), str::to_owned);
    let label = if own.is_as_wide_as(space) { architecture.to_string() } else { label.to_owned() };
    Ok(Row { name, label, space: own, architecture })
}
