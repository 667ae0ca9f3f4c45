//! A part as a file beside the result that it is of: two lines of JSON, what it is of and what was measured.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use fleetfoot_console::Shard;
use fleetfoot_profiler::{Configuration, sha256, write_atomically};
use serde::{Deserialize, Serialize};

use super::part::Part;
use crate::measuring::beside;

/// Version of the file's form.
const FORMAT: u32 = 1;

/// A part of a result.
#[derive(Clone, Debug)]
pub struct PartFile {
    /// Where it is.
    pub path: PathBuf,
    /// Which one it is.
    pub shard: Shard,
    /// What decides the result.
    pub configuration: Configuration,
    /// What was measured.
    pub part: Part,
    /// What it is of.
    pub content: Content,
}

/// What a part is of, with what that needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Content {
    /// Of a latency table.
    Table {
        /// The space's file.
        space: String,
    },
    /// Of a file of networks' measurements.
    Networks {
        /// How many networks the whole has.
        count: usize,
        /// Of each network of the part where it comes from and what it is.
        networks: Vec<(String, String)>,
        /// Columns behind the latency: names, and a cell for each network.
        columns: Vec<(String, Vec<String>)>,
    },
}

impl Content {
    /// In words.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Table { .. } => "a latency table",
            Self::Networks { .. } => "measurements of networks",
        }
    }
}

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    fleetfoot_part: u32,
    shard: usize,
    of: usize,
    /// SHA-256 of the configuration.
    configuration_sha256: String,
    configuration: Configuration,
    /// SHA-256 of the second line.
    body_sha256: String,
}

/// What tells the version, whatever else there is.
#[derive(Deserialize)]
struct Version {
    fleetfoot_part: u32,
}

/// The second line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    part: Part,
    content: Content,
}

/// Where a shard of a result is.
pub fn part_path(result: &Path, shard: Shard) -> Result<PathBuf> {
    if result.is_dir() {
        bail!("{} is a folder: name a file", result.display());
    }
    if result.exists() && !result.is_file() {
        bail!("{} is no file, which parts can't lie beside: name a file", result.display());
    }
    Ok(beside(result, &shard.suffix()))
}

/// The parts that lie beside a result, in their order.
pub fn parts_of(result: &Path) -> Result<Vec<PathBuf>> {
    let folder = result.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let cannot = || format!("can't read the folder {}", folder.display());
    let mut parts = Vec::new();
    for entry in fs::read_dir(folder).with_context(cannot)? {
        let name = entry.with_context(cannot)?.file_name();
        let known = name.to_str().and_then(Shard::from_name);
        if let Some((of, shard)) = known
            && Some(of) == result.file_name().and_then(|name| name.to_str())
        {
            parts.push(((shard.of(), shard.index()), result.with_file_name(&name)));
        }
    }
    parts.sort();
    Ok(parts.into_iter().map(|(_, path)| path).collect())
}

/// Whether the shard's part is there already. One of another configuration is an error that says what differs.
pub fn is_there(path: &Path, shard: Shard, configuration: &Configuration) -> Result<bool> {
    if !path.exists() {
        return Ok(false);
    }
    let there = PartFile::read(path).map_err(|error| error.context("or measure anew with --force"))?;
    let difference = match there.configuration.difference(configuration) {
        None if there.shard != shard => Some(format!("it is shard {}", there.shard)),
        difference => difference,
    };
    match difference {
        Some(difference) => {
            bail!(
                "{} is of something else ({difference}): choose another file, or measure anew with --force",
                path.display()
            )
        }
        None => Ok(true),
    }
}

impl PartFile {
    /// Writes it, whole or not at all.
    pub fn write(&self) -> Result<()> {
        let cannot = || format!("can't write {}", self.path.display());
        let body = serde_json::to_string(&Body { part: self.part.clone(), content: self.content.clone() })?;
        let head = Head {
            fleetfoot_part: FORMAT,
            shard: self.shard.index(),
            of: self.shard.of(),
            configuration_sha256: self.configuration.sha256(),
            configuration: self.configuration.clone(),
            body_sha256: sha256(body.as_bytes()),
        };
        let text = format!("{}\n{body}\n", serde_json::to_string(&head)?);
        write_atomically(&self.path, text.as_bytes()).with_context(cannot)
    }

    /// Reads and checks it.
    pub fn read(path: &Path) -> Result<Self> {
        let shown = path.display();
        let bytes = fs::read(path).with_context(|| format!("can't read {shown}"))?;
        let foreign =
            |error: serde_json::Error| anyhow!("{shown} isn't a part of a result, as --shard writes it: {error}");
        let (head, body) = match bytes.iter().position(|byte| *byte == b'\n') {
            Some(end) => (&bytes[..end], &bytes[end + 1..]),
            None => (bytes.as_slice(), &[][..]),
        };
        let Version { fleetfoot_part } = serde_json::from_slice(head).map_err(foreign)?;
        if fleetfoot_part != FORMAT {
            bail!(
                "{shown} is a part of form {fleetfoot_part}, this fleetfoot reads {FORMAT}: use the version that measured"
            );
        }
        let head: Head = serde_json::from_slice(head).map_err(foreign)?;
        let Some(shard) = Shard::new(head.shard, head.of) else {
            bail!("{shown} isn't a part of a result: there is no shard {}/{}", head.shard, head.of);
        };
        let damaged =
            |what: &str| anyhow!("{shown} was cut or changed ({what}): measure it again with --shard {shard} --force");
        if head.configuration.sha256() != head.configuration_sha256 {
            return Err(damaged("its configuration has another digest"));
        }
        let body = body.strip_suffix(b"\n").ok_or_else(|| damaged("its last line doesn't end"))?;
        if sha256(body) != head.body_sha256 {
            return Err(damaged("its measurements have another digest"));
        }
        let Body { mut part, content } = serde_json::from_slice(body).map_err(|error| damaged(&error.to_string()))?;
        part.name = format!("shard {shard}");
        if part.measured.len() != part.positions.len() {
            return Err(damaged("a subject has no measurement, or none a subject"));
        }
        Ok(Self { path: path.to_path_buf(), shard, configuration: head.configuration, part, content })
    }
}
