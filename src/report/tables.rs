//! The CSV tables of a run: provenance in front, rows by column name, every complaint with its line.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Result, anyhow, bail};
use csv::StringRecord;
use fleetfoot_profiler::{Cost, csv_fault, csv_records};
use serde::{Deserialize, Serialize};

use super::folder::{Origin, read_text};

/// A line of provenance: `# key: value`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// Such as `device`.
    pub key: String,
    /// Such as `local-cpu`.
    pub value: String,
}

/// A latency with its interval, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The latency.
    pub latency_ms: f64,
    /// Lower end.
    pub low_ms: Option<f64>,
    /// Upper end.
    pub high_ms: Option<f64>,
}

/// A row of measured.csv.
#[derive(Clone, Debug)]
pub struct Measured {
    /// What the model is.
    pub architecture: String,
    /// What it took.
    pub latency: Interval,
    /// Samples.
    pub n: u64,
}

/// The provenance in front of a table; its rows aren't read.
pub fn read_provenance(path: &Path, origin: &Origin) -> Result<Vec<Provenance>> {
    Ok(provenance(&read_text(path, origin)?))
}

fn provenance(text: &str) -> Vec<Provenance> {
    let head = fleetfoot_profiler::Provenance::from_head(text);
    head.iter().map(|(key, value)| Provenance { key: key.to_owned(), value: value.to_owned() }).collect()
}

/// predicted.csv: the prediction of each architecture; `None` where they are of another cost than latency.
pub fn read_predicted(path: &Path, origin: &Origin) -> Result<Option<HashMap<String, Interval>>> {
    let rows = Rows::read(path, origin)?;
    if Cost::of_header(rows.headers.iter()).is_some_and(|cost| cost != Cost::Latency) {
        return Ok(None);
    }
    let architecture = rows.column("architecture")?;
    let latency = rows.interval_columns()?;
    let mut predicted = HashMap::new();
    for row in &rows.records {
        let text = rows.text(row, architecture);
        let interval = rows.interval(row, latency)?;
        let before = predicted.insert(text.to_owned(), interval);
        if before.is_some_and(|before| before != interval) {
            return Err(rows.complaint(row, &format!("{text} is predicted a second time, with another latency")));
        }
    }
    Ok(Some(predicted))
}

/// measured.csv: the measurement of each training's model, by the name of the folder behind `train/`. Other models are
/// left out.
pub fn read_measured(path: &Path, origin: &Origin) -> Result<(Vec<Provenance>, HashMap<String, Measured>)> {
    let rows = Rows::read(path, origin)?;
    let (model, architecture, n) = (rows.column("model")?, rows.column("architecture")?, rows.column("n")?);
    let columns = rows.interval_columns()?;
    let mut measured = HashMap::new();
    for row in &rows.records {
        let latency = rows.interval(row, columns)?;
        let samples = rows.text(row, n).parse();
        let n = samples.map_err(|_| rows.complaint(row, &format!("n: '{}' is not a count", rows.text(row, n))))?;
        if latency.latency_ms == 0.0 {
            return Err(rows.complaint(row, "latency_ms: nothing runs in 0 ms"));
        }
        let Some(folder) = training_folder(rows.text(row, model)) else { continue };
        let architecture = rows.text(row, architecture).to_owned();
        if measured.insert(folder.clone(), Measured { architecture, latency, n }).is_some() {
            return Err(rows.complaint(row, &format!("train/{folder} is measured a second time: keep one row")));
        }
    }
    Ok((rows.provenance, measured))
}

/// `found` of `runs/x/train/found/model.onnx`, `found/seed2` of `runs/x/train/found/seed2/model.onnx`.
fn training_folder(model: &str) -> Option<String> {
    let parts: Vec<&str> = model.split(['/', '\\']).filter(|part| !part.is_empty()).collect();
    let train = parts.iter().rposition(|&part| part == "train")?;
    // The last part is the file.
    let (_, folders) = parts[train + 1..].split_last()?;
    let is_seed = |name: &&&str| name.strip_prefix("seed").is_some_and(|seed| seed.parse::<u64>().is_ok());
    match (folders.first()?, folders.get(1).filter(is_seed)) {
        (role, Some(seed)) => Some(format!("{role}/{seed}")),
        (role, None) => Some((*role).to_owned()),
    }
}

struct Rows {
    path: String,
    provenance: Vec<Provenance>,
    headers: StringRecord,
    records: Vec<StringRecord>,
}

/// Indices of latency_ms, low_ms and high_ms.
type IntervalColumns = (usize, Option<usize>, Option<usize>);

impl Rows {
    fn read(path: &Path, origin: &Origin) -> Result<Self> {
        let text = read_text(path, origin)?;
        let path = path.display().to_string();
        let mut reader = csv_records(&text);
        let broken = |error: csv::Error| anyhow!("{path}: {}", csv_fault(&text, &error));
        let headers = reader.headers().map_err(broken)?.clone();
        let records = reader.records().collect::<Result<Vec<_>, _>>().map_err(broken)?;
        Ok(Self { provenance: provenance(&text), path, headers, records })
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.headers.iter().position(|header| header == name)
    }

    fn column(&self, name: &str) -> Result<usize> {
        let Some(index) = self.position(name) else {
            let line = self.headers.position().map_or(1, csv::Position::line);
            let columns: Vec<&str> = self.headers.iter().collect();
            bail!("{}: line {line}: there is no column '{name}' among: {}", self.path, columns.join(", "));
        };
        Ok(index)
    }

    fn interval_columns(&self) -> Result<IntervalColumns> {
        Ok((self.column("latency_ms")?, self.position("low_ms"), self.position("high_ms")))
    }

    fn text<'a>(&self, row: &'a StringRecord, column: usize) -> &'a str {
        row.get(column).unwrap_or_default()
    }

    fn milliseconds(&self, row: &StringRecord, column: usize) -> Result<f64> {
        let text = self.text(row, column);
        let number = text.parse::<f64>().ok().filter(|value| value.is_finite() && *value >= 0.0);
        number.ok_or_else(|| {
            let header = self.headers.get(column).unwrap_or_default();
            self.complaint(row, &format!("{header}: '{text}' is not a number of milliseconds, 0 or more"))
        })
    }

    fn interval(&self, row: &StringRecord, (latency, low, high): IntervalColumns) -> Result<Interval> {
        let optional = |column: Option<usize>| match column {
            Some(column) if !self.text(row, column).is_empty() => self.milliseconds(row, column).map(Some),
            _ => Ok(None),
        };
        let latency_ms = self.milliseconds(row, latency)?;
        let (low_ms, high_ms) = (optional(low)?, optional(high)?);
        if low_ms.zip(high_ms).is_some_and(|(low, high)| low > high) {
            return Err(self.complaint(row, "low_ms lies above high_ms"));
        }
        Ok(Interval { latency_ms, low_ms, high_ms })
    }

    fn complaint(&self, row: &StringRecord, what: &str) -> anyhow::Error {
        anyhow!("{}: line {}: {what}", self.path, row.position().map_or(0, csv::Position::line))
    }
}

#[cfg(test)]
mod tests {
    use super::training_folder;

    #[test]
    fn a_model_belongs_to_the_folder_behind_train() {
        let folder = |model: &str| training_folder(model).unwrap_or_default();
        assert_eq!(folder("runs/x/train/found/model.onnx"), "found");
        assert_eq!(folder("train/found.seed2/model.onnx"), "found.seed2");
        assert_eq!(folder("train/found/seed2/model.onnx"), "found/seed2");
        assert_eq!(folder("train/found/others/model.onnx"), "found");
        assert_eq!(folder("/train/x/train/wide/model.onnx"), "wide");
        assert_eq!(training_folder("train/model.onnx"), None);
        assert_eq!(training_folder("runs/x/model.onnx"), None);
    }
}
