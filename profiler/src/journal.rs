//! The journal: every visit's raw samples, appended as they are taken. What was measured is never lost.
//!
//! A journal is a file of JSON lines: a [`Header`], then one [`Visit`] a line, and a [`Look`] at the end of every round; a
//! [`Soak`] in front of the rounds that it goes before, [`NodeProfile`]s in front of all where networks' units are told apart by
//! them, one [`Usage`] a line where other things than time are measured, and `{"end":{}}` behind a campaign that came to its end.
//! A line is written before the next measurement starts; the file is forced to disk at the end of every round. A line that a kill cut short is dropped
//! when the journal is opened again.
//!
//! Behind a campaign's end the file is compressed (gzip) under the same name, about six times as small; going on with it makes it lines
//! again. A compressed journal that was cut holds the lines up to there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use fleetfoot_protocol::{Pace, Sample, VectorPace, Whole, hex};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::atomic_file::write_atomically;
use crate::conditions::Conditions;
use crate::configuration::Configuration;
use crate::look::Look;
use crate::node_profiles::NodeProfile;
use crate::unique::unique_name;
use crate::usage::Usage;

/// What a journal belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Version of the journal's form.
    pub fleetfoot_journal: u32,
    /// The space or what else is measured.
    pub space: String,
    /// The space's file as it stood, where a space's units are measured: what a table can be made of again.
    #[serde(default)]
    pub space_toml: Option<String>,
    /// Under which conditions.
    pub conditions: Conditions,
    /// Seed of the rounds' order.
    pub seed: u64,
    /// Rounds behind which the agent is started anew; 0: never.
    #[serde(default)]
    pub sitting: u32,
    /// Names of the subjects, in the order of their numbers.
    pub subjects: Vec<String>,
    /// What the subjects are: SHA-256 over their models and evictions, lest other models of equal names go on here.
    #[serde(default)]
    pub models: String,
    /// The campaign's own name, under which another machine keeps its visits; absent where none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Of a part of a result, what decides the whole; absent where all of it is measured at one place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<Configuration>,
}

impl Header {
    /// With a name that no other campaign has: one of another machine's, which keeps visits under it.
    pub fn named(self) -> Self {
        Self { run: Some(unique_name()[..16].to_owned()), ..self }
    }

    /// Whether what is measured under the other header goes on here. What the space's file says besides its units doesn't
    /// matter: the models tell.
    fn is_continued_by(&self, other: &Self) -> bool {
        *self == Self { space_toml: self.space_toml.clone(), run: self.run.clone(), ..other.clone() }
    }

    fn session(&self) -> String {
        hex(&Sha256::digest(serde_json::to_vec(self).unwrap_or_default()))
    }
}

/// The samples of one subject in one round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Visit {
    /// The round; 0 is the warm-up, which doesn't count.
    pub round: u32,
    /// The subject's number.
    pub subject: u32,
    /// Runs that each sample sums.
    pub batch: u32,
    /// Unix time in milliseconds at the first sample.
    pub unix_ms: u64,
    /// Every sample: in the file three numbers, the time from the end of the one before to its start (of the first: from the start of the
    /// campaign's first agent), its wall time, and by how much its CPU time was shorter, in nanoseconds.
    #[serde(with = "triples")]
    pub samples: Vec<Sample>,
    /// What it took from the first sample to the last.
    #[serde(with = "pair")]
    pub whole: Whole,
    /// The core's pace before the first sample and behind the last.
    #[serde(with = "paces")]
    pub paces: [Pace; 2],
    /// That of dense vector arithmetic behind the last sample, where it is known.
    #[serde(with = "vectors", default, skip_serializing_if = "is_unknown")]
    pub vectors: VectorPace,
}

fn is_unknown(vectors: &VectorPace) -> bool {
    *vectors == VectorPace::default()
}

/// What a journal holds behind its header, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Records {
    /// The visits.
    pub visits: Vec<Visit>,
    /// The looks at the machine: one for each round that is whole.
    pub looks: Vec<Look>,
    /// How the device was kept busy beforehand, each time that the campaign was begun or gone on with.
    pub soaks: Vec<Soak>,
    /// What subjects take besides time.
    pub usages: Vec<Usage>,
    /// What the runtime's profile says of the networks' nodes.
    pub profiles: Vec<NodeProfile>,
    /// Whether the campaign came to its end with the last visit: no one stopped it.
    pub ended: bool,
}

/// How a device that is kept busy has slowed down.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Soak {
    /// Unix time in milliseconds at its end.
    pub unix_ms: u64,
    /// How long it was kept busy.
    pub seconds: f64,
    /// What a run of the model took in the first half minute (or the first half), in ns.
    pub first_ns: f64,
    /// What it took in the last.
    pub last_ns: f64,
}

/// The lines of other records than visits; visits' lines, which are many, have no name in front.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Named {
    Look(Look),
    Soak(Soak),
    Usage(Usage),
    Profile(NodeProfile),
    End {},
}

/// How the lines of other records begin: theirs have a name that no visit has.
const NAMED: [&[u8]; 5] = [br#"{"look":"#, br#"{"soak":"#, br#"{"usage":"#, br#"{"profile":"#, br#"{"end":"#];

mod pair {
    use super::{Deserialize, Serialize, Whole};
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(whole: &Whole, serializer: S) -> Result<S::Ok, S::Error> {
        (whole.wall_ns, whole.cpu_ns).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Whole, D::Error> {
        let (wall_ns, cpu_ns) = <(u64, u64)>::deserialize(deserializer)?;
        Ok(Whole { wall_ns, cpu_ns })
    }
}

mod paces {
    use super::{Deserialize, Pace, Serialize};
    use serde::de::Error as _;
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(paces: &[Pace; 2], serializer: S) -> Result<S::Ok, S::Error> {
        // A single core has no third.
        let numbers = |pace: Pace| match pace.talk_ns {
            0 => vec![pace.chain_ns, pace.wide_ns],
            talk_ns => vec![pace.chain_ns, pace.wide_ns, talk_ns],
        };
        paces.map(numbers).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[Pace; 2], D::Error> {
        let [before, behind] = <[Vec<u64>; 2]>::deserialize(deserializer)?;
        let pace = |numbers: &[u64]| match *numbers {
            [chain_ns, wide_ns] => Ok(Pace { chain_ns, wide_ns, talk_ns: 0 }),
            [chain_ns, wide_ns, talk_ns] => Ok(Pace { chain_ns, wide_ns, talk_ns }),
            _ => Err(D::Error::invalid_length(numbers.len(), &"2 or 3 numbers of a pace")),
        };
        Ok([pace(&before)?, pace(&behind)?])
    }
}

mod vectors {
    use super::{Deserialize, Serialize, VectorPace};
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(vectors: &VectorPace, serializer: S) -> Result<S::Ok, S::Error> {
        (vectors.best_ns, vectors.mean_ns).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<VectorPace, D::Error> {
        let (best_ns, mean_ns) = <(u64, u64)>::deserialize(deserializer)?;
        Ok(VectorPace { best_ns, mean_ns })
    }
}

mod triples {
    use super::{Deserialize, Sample, Serialize};
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(samples: &[Sample], serializer: S) -> Result<S::Ok, S::Error> {
        let mut end = 0;
        let triple = |sample: &Sample| {
            let Sample { at_ns, wall_ns, cpu_ns } = *sample;
            let triple = (at_ns.wrapping_sub(end) as i64, wall_ns, wall_ns.wrapping_sub(cpu_ns) as i64);
            end = at_ns.wrapping_add(wall_ns);
            triple
        };
        samples.iter().map(triple).collect::<Vec<(i64, u64, i64)>>().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Sample>, D::Error> {
        let mut end = 0u64;
        let sample = |(gap, wall_ns, lost): (i64, u64, i64)| {
            let at_ns = end.wrapping_add_signed(gap);
            end = at_ns.wrapping_add(wall_ns);
            Sample { at_ns, wall_ns, cpu_ns: wall_ns.wrapping_sub(lost as u64) }
        };
        Ok(Vec::<(i64, u64, i64)>::deserialize(deserializer)?.into_iter().map(sample).collect())
    }
}

/// A journal that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Reading or writing failed.
    #[error("journal {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is one already.
    #[error("journal {0} exists: go on with it by --resume, or start anew by --force")]
    Exists(PathBuf),
    /// It belongs to something else.
    #[error("journal {path} belongs to another measurement ({what}): write to another file, or start anew by --force")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What differs.
        what: String,
    },
    /// A line in the middle is broken.
    #[error("journal {path}, line {line}: {why}; restore the file, or start anew by --force")]
    Broken {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Why.
        why: String,
    },
}

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    session: String,
}

impl Journal {
    /// Starts a journal; an existing one is an error.
    pub fn create(path: &Path, header: &Header) -> Result<Self, JournalError> {
        let io = |source| JournalError::Io { path: path.to_path_buf(), source };
        let file = OpenOptions::new().write(true).create_new(true).open(path).map_err(|source| {
            if source.kind() == io::ErrorKind::AlreadyExists {
                JournalError::Exists(path.to_path_buf())
            } else {
                io(source)
            }
        })?;
        let mut journal = Self { path: path.to_path_buf(), file, session: header.session() };
        journal.line(header)?;
        Ok(journal)
    }

    /// What its header is, as SHA-256: what devices keep visits under until they stand here.
    pub fn session(&self) -> &str {
        &self.session
    }

    /// Opens a journal to go on with it: what it holds. A journal that was cut before its header was whole
    /// starts anew.
    pub fn resume(path: &Path, header: &Header) -> Result<(Self, Records), JournalError> {
        let io = |source| JournalError::Io { path: path.to_path_buf(), source };
        let (text, is_compressed) = text(path)?;
        let whole = whole(&text);
        let earlier = parse(path, &text[..whole])?;
        if let Some((found, _)) = earlier.as_ref().filter(|(found, _)| !found.is_continued_by(header)) {
            return Err(JournalError::Foreign { path: path.to_path_buf(), what: difference(found, header) });
        }
        if is_compressed {
            write_atomically(path, &text[..whole]).map_err(io)?;
        }
        let mut file = OpenOptions::new().write(true).open(path).map_err(io)?;
        file.set_len(whole as u64).map_err(io)?;
        file.seek(SeekFrom::End(0)).map_err(io)?;
        // It goes on under the name that it began with.
        let session = earlier.as_ref().map_or_else(|| header.session(), |(found, _)| found.session());
        let mut journal = Self { path: path.to_path_buf(), file, session };
        match earlier {
            Some((_, records)) => Ok((journal, records)),
            None => {
                journal.line(header)?;
                Ok((journal, Records::default()))
            }
        }
    }

    /// A journal's header and what stands behind it; what a kill cut short at its end is left out.
    pub fn read(path: &Path) -> Result<(Header, Records), JournalError> {
        let (text, _) = text(path)?;
        let broken = || JournalError::Broken { path: path.to_path_buf(), line: 1, why: "it has no header".to_owned() };
        parse(path, &text[..whole(&text)])?.ok_or_else(broken)
    }

    /// Appends a visit.
    pub fn append(&mut self, visit: &Visit) -> Result<(), JournalError> {
        self.line(visit)
    }

    /// Appends the look at the end of a round.
    pub fn append_look(&mut self, look: &Look) -> Result<(), JournalError> {
        self.line(&Named::Look(look.clone()))
    }

    /// Appends how the device was kept busy.
    pub fn append_soak(&mut self, soak: &Soak) -> Result<(), JournalError> {
        self.line(&Named::Soak(*soak))
    }

    /// Appends what a subject takes.
    pub fn append_usage(&mut self, usage: &Usage) -> Result<(), JournalError> {
        self.line(&Named::Usage(*usage))
    }

    /// Appends a network's node profile.
    pub fn append_profile(&mut self, profile: &NodeProfile) -> Result<(), JournalError> {
        self.line(&Named::Profile(profile.clone()))
    }

    /// Says that the campaign came to its end.
    pub fn append_end(&mut self) -> Result<(), JournalError> {
        self.line(&Named::End {})
    }

    /// Forces what was appended to the disk.
    pub fn sync(&mut self) -> Result<(), JournalError> {
        self.file.sync_data().map_err(|source| JournalError::Io { path: self.path.clone(), source })
    }

    /// Closes and compresses it: nothing is measured any more. Where that fails, it stays as it was.
    pub fn compress(self) -> Result<(), JournalError> {
        let Self { path, file, .. } = self;
        drop(file);
        let compressed = || {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(&fs::read(&path)?)?;
            write_atomically(&path, &encoder.finish()?)
        };
        compressed().map_err(|source| JournalError::Io { path: path.clone(), source })
    }

    fn line(&mut self, record: &impl Serialize) -> Result<(), JournalError> {
        let io = |source| JournalError::Io { path: self.path.clone(), source };
        let mut line = serde_json::to_vec(record).map_err(|error| io(io::Error::other(error)))?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(io)
    }
}

/// How a file that is compressed begins.
const GZIP: &[u8] = &[0x1f, 0x8b];

/// A journal's text, as far as it goes, and whether it was compressed.
fn text(path: &Path) -> Result<(Vec<u8>, bool), JournalError> {
    let io = |source| JournalError::Io { path: path.to_path_buf(), source };
    let bytes = fs::read(path).map_err(io)?;
    if !bytes.starts_with(GZIP) {
        return Ok((bytes, false));
    }
    let mut text = Vec::new();
    match GzDecoder::new(bytes.as_slice()).read_to_end(&mut text) {
        // It was cut: what was read of it stands.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
        Err(error) => return Err(io(io::Error::new(error.kind(), format!("damaged compression: {error}")))),
        Ok(_) => {}
    }
    Ok((text, true))
}

/// Bytes up to the last line break: what lies behind it was cut short by a kill.
fn whole(text: &[u8]) -> usize {
    text.iter().rposition(|&byte| byte == b'\n').map_or(0, |index| index + 1)
}

/// Header and records of whole lines; `None` where there is no line.
fn parse(path: &Path, text: &[u8]) -> Result<Option<(Header, Records)>, JournalError> {
    let broken = |line: usize, why: String| JournalError::Broken { path: path.to_path_buf(), line: line + 1, why };
    let mut lines = text.split(|&byte| byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty());
    let Some((_, first)) = lines.next() else { return Ok(None) };
    let header: Header = serde_json::from_slice(first).map_err(|error| broken(0, error.to_string()))?;
    let mut records = Records::default();
    for (line, text) in lines {
        if NAMED.iter().any(|name| text.starts_with(name)) {
            let of = |subject: u32| {
                let is_known = (subject as usize) < header.subjects.len();
                is_known.then_some(()).ok_or_else(|| broken(line, format!("there is no subject {subject}")))
            };
            match serde_json::from_slice(text).map_err(|error| broken(line, error.to_string()))? {
                Named::Look(look) => records.looks.push(look),
                Named::Soak(soak) => records.soaks.push(soak),
                Named::Usage(usage) => {
                    of(usage.subject)?;
                    records.usages.push(usage);
                }
                Named::Profile(profile) => {
                    of(profile.subject)?;
                    records.profiles.push(profile);
                }
                Named::End {} => records.ended = true,
            }
            continue;
        }
        let visit: Visit = serde_json::from_slice(text).map_err(|error| broken(line, error.to_string()))?;
        if visit.subject as usize >= header.subjects.len() || visit.batch == 0 {
            return Err(broken(line, format!("there is no subject {} or its batch is 0", visit.subject)));
        }
        records.visits.push(visit);
        // It was gone on with.
        records.ended = false;
    }
    Ok(Some((header, records)))
}

fn difference(found: &Header, wanted: &Header) -> String {
    if let Err(differences) = found.conditions.compatible(&wanted.conditions) {
        return differences.to_string();
    }
    if found.space != wanted.space {
        return format!("'{}' against '{}'", found.space, wanted.space);
    }
    if found.seed != wanted.seed {
        return format!("seed {} against {}", found.seed, wanted.seed);
    }
    if found.sitting != wanted.sitting {
        return format!("sittings of {} rounds against {}", found.sitting, wanted.sitting);
    }
    match (&found.configuration, &wanted.configuration) {
        (None, None) => {}
        (Some(ours), Some(theirs)) => {
            if let Some(difference) = ours.difference(theirs) {
                return difference;
            }
        }
        (Some(_), None) => return "it is of a part of a result, measured by --shard".to_owned(),
        (None, Some(_)) => return "it isn't of a part of a result, as --shard measures it".to_owned(),
    }
    if found.fleetfoot_journal == wanted.fleetfoot_journal && found.subjects == wanted.subjects {
        return "its models have changed since".to_owned();
    }
    "other units or another version of the journal".to_owned()
}
