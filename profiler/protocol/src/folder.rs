//! What an agent keeps on its device: models that it needn't be sent again, and what it has measured until the host has it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read as _, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::{MAX_LINE, Record};

/// A folder of an agent's own on its device.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether it is a SHA-256 in hexadecimal, and so a harmless file name.
fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl Folder {
    /// The folder at a path; it is made as something is kept.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn models(&self) -> PathBuf {
        self.path.join("models")
    }

    fn records_of(&self, session: &str) -> io::Result<PathBuf> {
        if !is_digest(session) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("no session is called {session:?}")));
        }
        Ok(self.path.join("kept").join(format!("{session}.jsonl")))
    }

    /// A model that is kept; `None` where it isn't, or isn't whole.
    pub fn model(&self, digest: &str) -> Option<Vec<u8>> {
        let known = is_digest(digest).then(|| fs::read(self.models().join(digest)).ok())??;
        // The last eight bytes tell how long the model is: a file that was cut is none.
        let (bytes, length) = known.split_last_chunk::<8>()?;
        (u64::from_le_bytes(*length) == bytes.len() as u64).then(|| bytes.to_vec())
    }

    /// Keeps a model whose digest must be right.
    pub fn keep_model(&self, digest: &str, onnx: &[u8]) -> io::Result<()> {
        if hex(&Sha256::digest(onnx)) != digest {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the model was damaged on its way"));
        }
        let (models, under_way) = (self.models(), self.models().join("under-way"));
        fs::create_dir_all(&models)?;
        let written = File::create(&under_way).and_then(|mut file| {
            file.write_all(onnx)?;
            file.write_all(&(onnx.len() as u64).to_le_bytes())
        });
        // What is half written needs the room that may be missing.
        written.and_then(|()| fs::rename(&under_way, models.join(digest))).inspect_err(|_| {
            let _ = fs::remove_file(&under_way);
        })
    }

    /// Begins a series of a session: what was kept of the series before, the host has.
    pub fn begin(&self, session: &str) -> io::Result<File> {
        let path = self.records_of(session)?;
        fs::create_dir_all(path.parent().unwrap_or(&self.path))?;
        OpenOptions::new().create(true).write(true).truncate(true).open(path)
    }

    /// Appends a record to a session's file, as a whole or not at all.
    pub fn append(file: &mut File, record: &Record) -> io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        let whole = file.stream_position()?;
        file.write_all(&line).inspect_err(|_| {
            let _ = file.set_len(whole).and_then(|()| file.seek(SeekFrom::Start(whole)));
        })
    }

    /// The records of a session's last series, those whose lines are whole; none where nothing is kept.
    pub fn records(&self, session: &str) -> io::Result<Vec<Record>> {
        let file = match File::open(self.records_of(session)?) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            file => file?,
        };
        // No more than fits into a message.
        let lines = BufReader::new(file.take(MAX_LINE / 2)).split(b'\n');
        Ok(lines.map_while(|line| serde_json::from_slice(&line.ok()?).ok()).collect())
    }

    /// Deletes a session's records, and all models.
    pub fn forget(&self, session: &str) -> io::Result<()> {
        absent(fs::remove_file(self.records_of(session)?))?;
        self.forget_models()
    }

    /// Deletes all models.
    pub fn forget_models(&self) -> io::Result<()> {
        absent(fs::remove_dir_all(self.models()))
    }

    /// Deletes what was kept of sessions that nobody went on with, but for so many of them, the last ones.
    pub fn forget_all_but(&self, most: usize) {
        let files = fs::read_dir(self.path.join("kept")).into_iter().flatten().flatten();
        // By order alone: a device's clock may be anything.
        let changed =
            |file: fs::DirEntry| Some((file.metadata().and_then(|about| about.modified()).ok()?, file.path()));
        let mut files: Vec<_> = files.filter_map(changed).collect();
        files.sort();
        let surplus = files.len().saturating_sub(most);
        // One that can't be deleted is in nobody's way.
        files.into_iter().take(surplus).for_each(|(_, path)| drop(fs::remove_file(path)));
    }
}

/// What is deleted may be gone already.
fn absent(deleted: io::Result<()>) -> io::Result<()> {
    match deleted {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Planned, Timed, Timing};

    fn folder() -> (tempfile::TempDir, Folder) {
        let folder = tempfile::tempdir().unwrap();
        let own = Folder::new(folder.path().join("own"));
        (folder, own)
    }

    #[test]
    fn a_model_is_kept_whole_or_not_at_all() {
        let (_guard, folder) = folder();
        let (model, digest) = (vec![7; 1000], hex(&Sha256::digest(vec![7; 1000])));
        assert_eq!(folder.model(&digest), None);
        assert!(folder.keep_model(&digest, &model[1..]).is_err(), "damaged");
        folder.keep_model(&digest, &model).unwrap();
        assert_eq!(folder.model(&digest), Some(model));
        let path = folder.models().join(&digest);
        let bytes = fs::read(&path).unwrap();
        for cut in [0, 5, 500, bytes.len() - 1] {
            fs::write(&path, &bytes[..cut]).unwrap();
            assert_eq!(folder.model(&digest), None, "cut at {cut}");
        }
        assert_eq!(folder.model("../../etc/passwd"), None);
    }

    #[test]
    fn what_was_measured_reads_back_up_to_a_line_that_was_cut() {
        let (_guard, folder) = folder();
        let session = "a".repeat(64);
        assert_eq!(folder.records(&session).unwrap(), []);
        let timing = Timing { warmup: 1, samples: 2, batch: 3, evict_bytes: 4 };
        let record = |subject| {
            let planned = Planned { tag: (1, subject), model: 5, timing };
            Record { ahead_ns: 6, planned, timed: Timed::default() }
        };
        let mut file = folder.begin(&session).unwrap();
        (0..3).for_each(|subject| Folder::append(&mut file, &record(subject)).unwrap());
        assert_eq!(folder.records(&session).unwrap(), [0, 1, 2].map(record));
        let path = folder.records_of(&session).unwrap();
        let text = fs::read(&path).unwrap();
        fs::write(&path, &text[..text.len() - 2]).unwrap();
        assert_eq!(folder.records(&session).unwrap(), [0, 1].map(record));
        let mut file = folder.begin(&session).unwrap();
        Folder::append(&mut file, &record(9)).unwrap();
        assert_eq!(folder.records(&session).unwrap(), [record(9)], "the host has the series before");
        folder.forget(&session).unwrap();
        assert_eq!(folder.records(&session).unwrap(), []);
        assert!(folder.records("../x").is_err() && folder.begin("..").is_err());
    }

    #[test]
    fn what_nobody_went_on_with_isnt_kept_for_ever() {
        let (_guard, folder) = folder();
        let (old, young) = ("a".repeat(64), "b".repeat(64));
        for session in [&old, &young] {
            let record = Record {
                ahead_ns: 0,
                planned: Planned {
                    tag: (1, 1),
                    model: 5,
                    timing: Timing { warmup: 1, samples: 2, batch: 3, evict_bytes: 4 },
                },
                timed: Timed::default(),
            };
            Folder::append(&mut folder.begin(session).unwrap(), &record).unwrap();
        }
        let file = OpenOptions::new().write(true).open(folder.records_of(&old).unwrap()).unwrap();
        file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(1000)).unwrap();
        folder.forget_all_but(2);
        assert_eq!([&old, &young].map(|session| folder.records(session).unwrap().len()), [1, 1]);
        folder.forget_all_but(1);
        assert_eq!([&old, &young].map(|session| folder.records(session).unwrap().len()), [0, 1]);
    }
}
