//! Progress on standard error: a bar on a terminal, else a line now and then.

use std::io::{self, IsTerminal as _};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

use crate::talk::{draw, say, speaker};

/// Time between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(30);

/// How far something is. Counts and tells, from any thread.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    unit: String,
    /// When the last line was written; `None` where a bar is drawn.
    last: Option<Mutex<Instant>>,
}

impl Progress {
    /// Of `total` units, of which `done` are there already.
    pub fn new(total: usize, done: usize, unit: &str) -> Result<Self> {
        let bar = draw(ProgressBar::new(total as u64));
        let template = format!("{{bar:24}} {{pos}}/{{len}} {unit}, {{elapsed}} gone, {{eta}} to go  {{msg}}");
        bar.set_style(ProgressStyle::with_template(&template)?);
        bar.set_position(done as u64);
        bar.reset_eta();
        let last = (!io::stderr().is_terminal()).then(|| Mutex::new(Instant::now()));
        Ok(Self { bar, unit: unit.to_owned(), last })
    }

    /// So many are done now.
    pub fn set(&self, done: usize) {
        self.bar.set_position(done as u64);
        self.line();
    }

    /// So many more are done.
    pub fn add(&self, more: usize) {
        self.bar.inc(more as u64);
        self.line();
    }

    /// So many are there in all, as it looks now.
    pub fn set_total(&self, total: usize) {
        self.bar.set_length(total as u64);
    }

    /// What else there is to tell; shown with the next step.
    pub fn set_message(&self, message: String) {
        self.bar.set_message(format!("{}{message}", speaker()));
    }

    /// Tells something that stays.
    pub fn say(&self, line: &str) {
        say(line);
    }

    /// The end; what was drawn goes.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn line(&self) {
        let Some(last) = &self.last else { return };
        let mut last = last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if last.elapsed() >= LINE_EVERY {
            *last = Instant::now();
            let (done, total) = (self.bar.position(), self.bar.length().unwrap_or_default());
            let (gone, to_go) = (HumanDuration(self.bar.elapsed()), HumanDuration(self.bar.eta()));
            eprintln!("{done}/{total} {}, {gone} gone, {to_go} to go  {}", self.unit, self.bar.message());
        }
    }
}
