//! A run folder as it lies on the disk: what is in it, and which command makes what is missing.

use std::collections::{BTreeMap, HashMap};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};

use super::records::{Evaluation, SearchRecord, TrainRecord, read_json};
use super::tables::{Interval, Measured, Provenance, read_measured, read_predicted, read_provenance};

/// The network that the search found.
pub const FOUND: &str = "found";
/// The network that it is compared with.
pub const BASELINE: &str = "baseline";

/// The command that makes a file, told where the file is missing.
pub struct Origin(String);

impl Origin {
    /// `command` is everything behind `fleetfoot`.
    fn new(command: String) -> Self {
        Self(command)
    }
}

/// A file's text.
pub fn read_text(path: &Path, origin: &Origin) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => anyhow!("{} is missing: run `fleetfoot {}` first", path.display(), origin.0),
        ErrorKind::InvalidData => anyhow!("{}: not UTF-8 text", path.display()),
        _ => anyhow!("{} can't be read: {error}", path.display()),
    })
}

/// One training of a role.
#[derive(Debug)]
pub struct Training {
    /// Name of its folder below `train/`.
    pub folder: String,
    /// Its train.json.
    pub path: PathBuf,
    /// What that says.
    pub record: TrainRecord,
}

/// Everything that a run folder says.
#[derive(Debug)]
pub struct RunFolder {
    /// Where it is.
    pub path: PathBuf,
    /// Provenance of the latency table, where the run has one.
    pub table: Option<Vec<Provenance>>,
    /// Provenance of the measurements; empty where there are none.
    pub measuring: Vec<Provenance>,
    /// Predictions of latencies by architecture, where there are any.
    pub predicted: Option<HashMap<String, Interval>>,
    /// Measurements by training folder, where there are any.
    pub measured: Option<HashMap<String, Measured>>,
    /// The predictor's evaluation, if there was one.
    pub evaluation: Option<Evaluation>,
    /// The search.
    pub search: SearchRecord,
    /// Trainings by role; there is at least one of `found` and of `baseline`.
    pub trainings: BTreeMap<String, Vec<Training>>,
    /// Folders below `train/` without a train.json.
    pub unfinished: Vec<String>,
}

impl RunFolder {
    /// Reads everything; the first thing that is missing or broken is the error. Where something else was limited than the
    /// latency on one device, nothing need be predicted or measured.
    pub fn read(path: &Path) -> Result<Self> {
        let at = |file: &str| path.join(file);
        let makes = |command: &str, file: &str| Origin::new(format!("{command} {}", at(file).display()));
        let search = SearchRecord::read(&at("search/search.json"), &makes("search … -o", "search"))?;
        let (trainings, unfinished) = read_trainings(path)?;
        let wanted = |file: &str| search.is_of_one_latency() || at(file).exists();
        let read = |file: &str, command: &str| wanted(file).then(|| (at(file), makes(command, file)));
        let table =
            read("table.csv", "profile … -o").map(|(path, origin)| read_provenance(&path, &origin)).transpose()?;
        let predicted = match read("predicted.csv", "predict … >") {
            Some((path, origin)) => read_predicted(&path, &origin)?,
            None => None,
        };
        if predicted.is_none() && search.is_of_one_latency() {
            bail!(
                "{}: predictions of something else than latency: run `fleetfoot predict` with the latency table",
                at("predicted.csv").display()
            );
        }
        let measured = read("measured.csv", "measure … -o").map(|(path, origin)| read_measured(&path, &origin));
        let (measuring, measured) = measured.transpose()?.unzip();
        let measuring = measuring.unwrap_or_default();
        let evaluate = at("evaluate.json");
        let origin = makes("evaluate … -o", "evaluate.json");
        let evaluation = if evaluate.exists() { Some(read_json(&evaluate, &origin)?) } else { None };
        let path = path.to_owned();
        Ok(Self { path, table, measuring, predicted, measured, evaluation, search, trainings, unfinished })
    }
}

type Trainings = BTreeMap<String, Vec<Training>>;

fn read_trainings(run: &Path) -> Result<(Trainings, Vec<String>)> {
    let train = run.join("train");
    let mut trainings = Trainings::new();
    let mut unfinished = Vec::new();
    for folder in folders(&train)? {
        let several = seeds_in(&train, &folder)?;
        let (done, left) = several.into_iter().partition::<Vec<String>, _>(|folder| record_of(&train, folder).exists());
        unfinished.extend(left);
        for folder in done {
            let path = record_of(&train, &folder);
            let record = TrainRecord::read(&path, &train_origin(&train, &folder))?;
            trainings.entry(role(&folder).0.to_owned()).or_default().push(Training { folder, path, record });
        }
    }
    for wanted in [FOUND, BASELINE] {
        if !trainings.contains_key(wanted) {
            let path = train.join(wanted).join("train.json");
            bail!("{} is missing: run `fleetfoot {}` first", path.display(), train_origin(&train, wanted).0);
        }
    }
    for group in trainings.values_mut() {
        group.sort_by_key(|training| role(&training.folder).1);
        check_alike(group)?;
    }
    Ok((trainings, unfinished))
}

fn record_of(train: &Path, folder: &str) -> PathBuf {
    train.join(folder).join("train.json")
}

/// The trainings in a folder: itself, or those that `train --seeds` made in it.
fn seeds_in(train: &Path, folder: &str) -> Result<Vec<String>> {
    if record_of(train, folder).exists() {
        return Ok(vec![folder.to_owned()]);
    }
    let within = folders(&train.join(folder))?.into_iter().map(|name| format!("{folder}/{name}"));
    let seeds: Vec<String> = within.filter(|name| role(name).1.is_some()).collect();
    Ok(if seeds.is_empty() { vec![folder.to_owned()] } else { seeds })
}

/// Seeds of a role train one architecture.
fn check_alike(trainings: &[Training]) -> Result<()> {
    let Some((first, rest)) = trainings.split_first() else { return Ok(()) };
    let architecture = &first.record.architecture;
    match rest.iter().find(|other| other.record.architecture != *architecture) {
        Some(other) => bail!(
            "{}: architecture {}, but train/{} is {architecture}: seeds of a role train one architecture",
            other.path.display(),
            other.record.architecture,
            first.folder
        ),
        None => Ok(()),
    }
}

fn train_origin(train: &Path, folder: &str) -> Origin {
    Origin::new(format!("train … -o {}", train.join(folder).display()))
}

/// Role and further seed of a training's folder: `found.seed2` and `found/seed2` are of the role `found`.
fn role(folder: &str) -> (&str, Option<u64>) {
    let parts =
        folder.rsplit_once("/seed").or_else(|| folder.rsplit_once(".seed")).filter(|(role, _)| !role.is_empty());
    match parts.and_then(|(role, seed)| Some((role, seed.parse().ok()?))) {
        Some((role, seed)) => (role, Some(seed)),
        None => (folder, None),
    }
}

/// Names of the folders in `train/`, in order; none where it doesn't exist.
fn folders(train: &Path) -> Result<Vec<String>> {
    let unreadable = |error: std::io::Error| anyhow!("{} can't be read: {error}", train.display());
    let entries = match std::fs::read_dir(train) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(unreadable)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(unreadable)?;
        let Ok(name) = entry.file_name().into_string() else {
            bail!("{}: the folder's name is not UTF-8: rename it", entry.path().display());
        };
        if entry.path().is_dir() && !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::role;

    #[test]
    fn a_folder_names_its_role_and_possibly_a_further_seed() {
        assert_eq!(role("found"), ("found", None));
        assert_eq!(role("found.seed2"), ("found", Some(2)));
        assert_eq!(role("found/seed0"), ("found", Some(0)));
        assert_eq!(role("wide.seedling"), ("wide.seedling", None));
        assert_eq!(role(".seed2"), (".seed2", None));
    }
}
