//! The architectures that a command line names.

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use fleetfoot_profiler::csv_format;
use fleetfoot_space::{Architecture, SearchSpace, line_of_record, without_mark};

/// Which networks.
#[derive(Debug, Args)]
pub struct ArchitectureOptions {
    /// Architectures: digits, or names that the space's file gives; with a width multiplier, too (k3e6@0.75)
    #[arg(value_name = "ARCHITECTURE")]
    given: Vec<String>,
    /// A file with an architecture a line, or a CSV with a column `architecture`; `#` lines are skipped
    #[arg(long, value_name = "FILE")]
    architectures: Option<PathBuf>,
}

impl ArchitectureOptions {
    /// Whether none is named.
    pub fn is_empty(&self) -> bool {
        self.given.is_empty() && self.architectures.is_none()
    }

    /// The architectures with the space in their widths, each under the label that results carry: its digits, or its
    /// name (with the width multiplier) where it has widths of its own.
    pub fn resolve(&self, space: &SearchSpace) -> Result<Vec<(String, SearchSpace, Architecture)>> {
        let mut all = Vec::new();
        self.each(space, |named| {
            all.push(match named {
                Named::Own(architecture) => (architecture.to_string(), space.clone(), architecture),
                Named::Widened { label, space, architecture } => (label, *space, architecture),
            });
            Ok(())
        })?;
        Ok(all)
    }

    /// Hands the architectures on one by one; of a file never more than one is in memory.
    pub fn each(&self, space: &SearchSpace, mut take: impl FnMut(Named) -> Result<()>) -> Result<()> {
        self.each_text(|text| take(named(space, text)?))
    }

    /// Hands on what they are named by, one by one. Errors of a file's architectures name the line.
    pub fn each_text(&self, mut take: impl FnMut(&str) -> Result<()>) -> Result<()> {
        for text in &self.given {
            take(text)?;
        }
        match &self.architectures {
            Some(path) => each_of_file(path, take),
            None => Ok(()),
        }
    }
}

/// Results that nobody takes: it isn't what was read last that is wrong.
#[derive(Debug, thiserror::Error)]
#[error("can't write to standard output")]
pub struct Unwritten(#[from] std::io::Error);

/// An architecture that somebody named.
pub enum Named {
    /// One of the space.
    Own(Architecture),
    /// One with widths of its own.
    Widened {
        /// Its name.
        label: String,
        /// The space in its widths.
        space: Box<SearchSpace>,
        /// Its choices.
        architecture: Architecture,
    },
}

fn named(space: &SearchSpace, text: &str) -> Result<Named> {
    if !space.is_name(text) {
        return Ok(Named::Own(space.parse_architecture(text)?));
    }
    let (own, architecture) = space.resolve(text)?;
    Ok(match own.is_as_wide_as(space) {
        true => Named::Own(architecture),
        false => Named::Widened { label: space.canonical(text)?, space: Box::new(own), architecture },
    })
}

/// A record's line. The file is read again for it.
fn line_in(path: &Path, record: &csv::StringRecord) -> u64 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    record.position().map_or(0, |position| line_of_record(without_mark(&text), position.byte()))
}

/// Hands on the architectures of a file: those of the column `architecture` where the file is a CSV that has one, else the first of every
/// line. Errors name the line.
fn each_of_file(path: &Path, mut take: impl FnMut(&str) -> Result<()>) -> Result<()> {
    let cannot = || format!("can't read the architectures {}", path.display());
    let mut file = BufReader::with_capacity(1 << 16, File::open(path).with_context(cannot)?);
    // Spreadsheets put a mark in front.
    if file.fill_buf().with_context(cannot)?.starts_with(b"\xef\xbb\xbf") {
        file.consume(3);
    }
    // All up to the first line that is no comment, whatever a pipe gives at once.
    let (mut head, mut line) = (Vec::new(), 0);
    while head[line..].trim_ascii().is_empty() || head[line..].starts_with(b"#") {
        line = head.len();
        if file.read_until(b'\n', &mut head).with_context(cannot)? == 0 {
            break;
        }
    }
    let mut format = csv_format(&head);
    let mut reader = format.has_headers(false).flexible(true).from_reader(head.as_slice().chain(file));
    let (mut column, mut record, mut is_first, mut found) = (0, csv::StringRecord::new(), true, false);
    while reader.read_record(&mut record).with_context(|| path.display().to_string())? {
        if std::mem::take(&mut is_first)
            && let Some(named) = record.iter().position(|field| field == "architecture")
        {
            column = named;
            continue;
        }
        let line = || line_in(path, &record);
        match record.get(column).filter(|name| !name.is_empty()) {
            Some(name) => match take(name) {
                Err(error) if !error.is::<Unwritten>() => {
                    return Err(error.context(format!("{}, line {}", path.display(), line())));
                }
                done => done?,
            },
            None => bail!("{}, line {}: no architecture stands there", path.display(), line()),
        }
        found = true;
    }
    if !found {
        bail!("{}: it names no architecture", path.display());
    }
    Ok(())
}
