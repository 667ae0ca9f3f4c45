//! One record of several searches: `searches.json`.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::jobs::{Job, Jobs};
use crate::trainings::differing;
use crate::write_json;

/// Name of a search's record in its folder.
pub const SEARCH: &str = "search.json";
/// Name of the record of several searches.
pub const SEARCHES: &str = "searches.json";

/// Beginnings of the names of amounts that are told of each search; they end with the unit of what is limited first.
const AMOUNTS: [&str; 3] = ["target_", "predicted_", "expected_"];
/// What is the same in all searches of a list.
const COMMON: [&str; 7] =
    ["/space_toml", "/images/sha256", "/cost", "/refine_images", "/finalist_count", "/finalist_epochs", "/measure_on"];

/// searches.json. What was spent stands in each search's own record.
#[derive(Debug, Serialize)]
struct Record<'a> {
    format: u32,
    space: &'a Value,
    searches: Vec<Map<String, Value>>,
    /// Those of all searches, but for the seeds.
    settings: Value,
}

/// Writes the record of all.
pub(crate) fn write(folder: &Path, jobs: &Jobs) -> Result<Vec<String>> {
    let all = jobs.jobs.iter().map(|job| Ok((job, read(folder, job)?))).collect::<Result<Vec<_>>>()?;
    let Some((_, first)) = all.first() else { bail!("there is nothing to be searched") };
    check_alike(folder, &all)?;
    let searches: Vec<Map<String, Value>> = all.iter().map(|(job, record)| told(job, record)).collect();
    let record = Record { format: 1, space: &first["space"], searches, settings: settings(first) };
    write_json(&folder.join(SEARCHES), &record)?;
    let line = |search: &Map<String, Value>| {
        let of = |name: &str| search.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        format!("{}: {}", of("folder"), of("architecture"))
    };
    Ok(record.searches.iter().map(line).collect())
}

fn told(job: &Job, record: &Value) -> Map<String, Value> {
    let mut told = Map::new();
    told.insert("folder".to_owned(), job.folder.clone().into());
    if !job.of.is_empty() {
        told.insert("target".to_owned(), job.of.clone().into());
    }
    told.insert("seed".to_owned(), job.seed.into());
    told.insert("architecture".to_owned(), record["architecture"].clone());
    let amounts = record.as_object().into_iter().flatten();
    let amounts = amounts.filter(|(name, _)| AMOUNTS.iter().any(|amount| name.starts_with(amount)));
    told.extend(amounts.map(|(name, value)| (name.clone(), value.clone())));
    told
}

/// The settings without the seed.
fn settings(record: &Value) -> Value {
    let mut settings = record["settings"].clone();
    settings.as_object_mut().map(|settings| settings.remove("seed"));
    settings
}

/// What is limited, but for how much of what is limited first: targets differ.
fn limits(record: &Value) -> Value {
    let mut limits = record["limits"].clone();
    limits.pointer_mut("/0").and_then(Value::as_object_mut).map(|first| first.remove("at_most"));
    limits
}

fn read(folder: &Path, job: &Job) -> Result<Value> {
    let path = folder.join(&job.folder).join(SEARCH);
    let bytes = fs::read(&path).with_context(|| format!("can't read {}", path.display()))?;
    let record: Value = serde_json::from_slice(&bytes)
        .with_context(|| format!("{}: it isn't the record of a search; search again", path.display()))?;
    if record["seed"].as_u64() != Some(job.seed) || !record["architecture"].is_string() {
        let seed = job.seed;
        bail!("{} isn't the record of a search by seed {seed}: it lies in another's folder", path.display());
    }
    Ok(record)
}

/// All searches are by the same settings, but for seeds and targets, of one space, one data set and one table.
fn check_alike(folder: &Path, all: &[(&Job, Value)]) -> Result<()> {
    let Some((first_job, first)) = all.first() else { return Ok(()) };
    for (job, record) in all {
        let common = COMMON.iter().find(|path| record.pointer(path) != first.pointer(path));
        let shown = |record: &Value, path: &str| record.pointer(path).map_or_else(String::new, Value::to_string);
        let what = match common {
            Some(&"/space_toml") => "another space".to_owned(),
            Some(&"/images/sha256") => "another data set".to_owned(),
            Some(path) => format!("another {} ({} against {})", &path[1..], shown(first, path), shown(record, path)),
            None if settings(record) != settings(first) => {
                format!("other settings ({})", differing(&settings(first), &settings(record)))
            }
            None if limits(record) != limits(first) => "other limits or another table".to_owned(),
            None => continue,
        };
        bail!(
            "{} is of {what} than {}: search one of them again, with --force in its own folder",
            folder.join(&job.folder).join(SEARCH).display(),
            folder.join(&first_job.folder).join(SEARCH).display()
        );
    }
    Ok(())
}
