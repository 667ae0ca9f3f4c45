//! What TensorBoard shows of a run while it goes on: a point for every point of its curve.

use std::fs;
use std::path::Path;
use std::time::Instant;

use serde::Serialize;
use serde_json::Value;

use crate::error::SearchError;
use crate::events::{EventFile, Values, event_files};
use crate::learning::Learning;
use crate::search::Search;
use crate::train::{Evaluation, Training};

/// Removes the event files of earlier runs from a folder.
pub fn remove_events(folder: &Path) -> Result<(), SearchError> {
    event_files(folder)?.into_iter().try_for_each(|path| fs::remove_file(&path).map_err(SearchError::io(path)))
}

/// A run's event file, and where it was at the last point.
#[derive(Debug)]
struct Events {
    /// None behind an error: what can't be written is told once.
    file: Option<EventFile>,
    points: usize,
    step: usize,
    since: Instant,
}

impl Events {
    /// Goes on behind what a run has done so far: later points of an interrupted process no longer count. The settings are
    /// written where a run begins.
    fn open(folder: &Path, run: &impl Learning, points: usize, settings: &Value) -> Result<Self, SearchError> {
        let step = run.step();
        let mut file = EventFile::create(folder, if step == 0 { 0 } else { step + 1 })?;
        if step == 0 {
            let mut values = Values::default();
            values.text("settings", &table(settings));
            file.append(0, values)?;
        }
        Ok(Self { file: Some(file), points, step, since: Instant::now() })
    }

    /// Images a second since the last point, where steps have so many.
    fn images_per_second(&mut self, step: usize, batch: usize) -> f64 {
        let images = (step.saturating_sub(self.step) * batch) as f64;
        let seconds = self.since.elapsed().as_secs_f64();
        (self.step, self.since) = (step, Instant::now());
        images / seconds.max(f64::MIN_POSITIVE)
    }

    fn append(&mut self, step: usize, values: Values) -> Result<(), SearchError> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let done = file.append(step, values);
        if done.is_err() {
            self.file = None;
        }
        done
    }
}

/// Settings as a table in Markdown.
fn table(settings: &Value) -> String {
    let row = |(name, value): (&String, &Value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        format!("| {name} | {} |\n", value.replace('|', "\\|").replace('\n', " "))
    };
    let rows: String = settings.as_object().into_iter().flatten().map(row).collect();
    format!("| setting | value |\n|---|---|\n{rows}")
}

fn settings_of(settings: &impl Serialize, more: &[(&str, String)]) -> Value {
    let mut value = serde_json::to_value(settings).unwrap_or_default();
    for (name, text) in more {
        value[*name] = Value::String(text.clone());
    }
    value
}

/// A tag's part, of what TensorFlow's own tags are made of; slashes would group.
fn tag(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    name.chars().map(plain).collect()
}

/// A search's event file.
#[derive(Debug)]
pub struct SearchEvents {
    events: Events,
    /// Tags of the limits, each one's own.
    limits: Vec<String>,
    /// Names of the decisions.
    decisions: Vec<String>,
}

impl SearchEvents {
    /// A new file in the run's folder, behind the point that the search is at.
    pub fn open(folder: &Path, search: &Search) -> Result<Self, SearchError> {
        let decisions = search.space().decisions().iter().map(|decision| decision.name.clone()).collect();
        let mut limits: Vec<String> = Vec::new();
        for limit in search.limits().iter() {
            let name = tag(&[&limit.name[..], &limit.unit].join(" "));
            // Two tables may be of one device.
            let same = limits.iter().filter(|other| other.starts_with(&name)).count();
            limits.push(if same == 0 { name } else { format!("{name}.{}", same + 1) });
        }
        let more = [
            ("space", search.space().name().to_owned()),
            ("limits", search.limits().to_string()),
            ("criterion", search.criterion().name()),
        ];
        let settings = settings_of(search.settings(), &more);
        Ok(Self { events: Events::open(folder, search, search.curve().len(), &settings)?, limits, decisions })
    }

    /// Writes what is new. An error ends it: later calls do nothing.
    pub fn watch(&mut self, search: &Search) -> Result<(), SearchError> {
        let known = std::mem::replace(&mut self.events.points, search.curve().len());
        for (point, gates) in search.curve().iter().zip(search.history()).skip(known) {
            let mut values = Values::default();
            values.scalar("loss", point.loss);
            values.scalar("accuracy_percent", point.accuracy_percent);
            values.scalar("learning_rate", search.lr());
            values.scalar("images_per_s", self.events.images_per_second(point.step, search.settings().batch));
            values.scalar("gates/entropy", point.entropy);
            values.scalar("gates/candidates", point.candidates as f64);
            let limits = self.limits.iter().zip(&gates.expected).zip(gates.limits.iter().zip(&gates.lambda));
            for ((name, expected), (limit, lambda)) in limits {
                values.scalar(&format!("expected/{name}"), *expected);
                values.scalar(&format!("limit/{name}"), *limit);
                values.scalar(&format!("lambda/{name}"), *lambda);
            }
            for (decision, p) in self.decisions.iter().zip(&gates.probabilities) {
                values.distribution(&format!("gates/{}", tag(decision)), p);
            }
            self.events.append(point.step, values)?;
        }
        Ok(())
    }
}

/// A training's event file.
#[derive(Debug)]
pub struct TrainingEvents(Events);

impl TrainingEvents {
    /// A new file in the run's folder, behind the point that the training is at.
    pub fn open(folder: &Path, training: &Training) -> Result<Self, SearchError> {
        let more = [("architecture", training.architecture().to_string()), ("criterion", training.criterion().name())];
        let settings = settings_of(training.recipe(), &more);
        Ok(Self(Events::open(folder, training, training.curve().len(), &settings)?))
    }

    /// Writes what is new. An error ends it: later calls do nothing.
    pub fn watch(&mut self, training: &Training) -> Result<(), SearchError> {
        let known = std::mem::replace(&mut self.0.points, training.curve().len());
        for point in training.curve().iter().skip(known) {
            let mut values = Values::default();
            values.scalar("loss", point.loss);
            values.scalar("accuracy_percent", point.accuracy_percent);
            values.scalar("epoch", point.epoch as f64);
            values.scalar("learning_rate", training.lr());
            values.scalar("images_per_s", self.0.images_per_second(training.step(), training.recipe().batch));
            self.0.append(training.step(), values)?;
        }
        Ok(())
    }

    /// Writes how the network did on the test images.
    pub fn tested(&mut self, training: &Training, evaluation: &Evaluation) -> Result<(), SearchError> {
        let mut values = Values::default();
        values.scalar("test/loss", evaluation.loss);
        values.scalar("test/accuracy_percent", evaluation.accuracy_percent);
        self.0.append(training.step(), values)
    }
}
