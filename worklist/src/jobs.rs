//! The jobs of a list.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use fleetfoot_console::{Shard, listed, usage};
use fleetfoot_profiler::Configuration;
use serde::{Deserialize, Serialize};

use crate::{searches, trainings, write_json};

/// Name of the list in its folder.
pub const JOBS: &str = "jobs.json";
/// So many missing jobs are named.
const SHOWN: usize = 8;
/// Version of its form.
const FORMAT: u32 = 1;

/// What jobs are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Trainings from scratch.
    Trainings,
    /// Searches.
    Searches,
}

impl Kind {
    /// The file that is there when a job is done.
    pub fn result(self) -> &'static str {
        match self {
            Self::Trainings => trainings::TRAIN,
            Self::Searches => searches::SEARCH,
        }
    }

    /// In words, one and several.
    fn words(self) -> [&'static str; 2] {
        match self {
            Self::Trainings => ["training", "trainings"],
            Self::Searches => ["search", "searches"],
        }
    }
}

/// A job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// Its folder, below the list's.
    pub folder: String,
    /// Of a training, the architecture as it was named; of a search, the target, empty where there is one for all.
    pub of: String,
    /// Its seed.
    pub seed: u64,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jobs {
    fleetfoot_jobs: u32,
    /// What the jobs are.
    pub kind: Kind,
    /// What decides their results, besides what tells them apart.
    pub configuration: Configuration,
    /// The jobs, each once.
    pub jobs: Vec<Job>,
}

/// So many seeds from the first on.
pub fn seeds_from(first: u64, count: usize) -> Vec<u64> {
    (0..count as u64).map(|index| first.wrapping_add(index)).collect()
}

impl Jobs {
    /// A list of what is to be done by each of these seeds, under the names of its folders where there are several, and what each is of.
    pub fn new(kind: Kind, configuration: Configuration, named: &[(String, String)], seeds: &[u64]) -> Result<Self> {
        let mut known = BTreeSet::new();
        for (name, _) in named {
            let is_fit = !name.contains(['/', '\\']) && !name.starts_with('.') && name.chars().all(|c| !c.is_control());
            if named.len() > 1 && !is_fit {
                return Err(usage(format!("'{name}' is no name that a folder can have: give it another one")));
            }
            if !known.insert(name) {
                return Err(usage(format!("{name} stands twice in the list: name it once")));
            }
        }
        let job = |(name, of): &(String, String), seed: u64| {
            let own = format!("seed{seed}");
            let folder =
                if named.len() > 1 || kind == Kind::Searches && !of.is_empty() { format!("{name}/{own}") } else { own };
            Job { folder, of: of.clone(), seed }
        };
        let jobs = named.iter().flat_map(|named| seeds.iter().map(move |&seed| job(named, seed))).collect();
        Ok(Self { fleetfoot_jobs: FORMAT, kind, configuration, jobs })
    }

    /// Reads a folder's list; `None` where there is none.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(JOBS);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            read => read.with_context(|| format!("can't read {}", path.display()))?,
        };
        let jobs: Self = serde_json::from_slice(&bytes)
            .with_context(|| format!("{} isn't a list of jobs that fleetfoot wrote", path.display()))?;
        let is_below = |job: &Job| {
            let mut parts = Path::new(&job.folder).components();
            !job.folder.is_empty() && parts.all(|part| matches!(part, std::path::Component::Normal(_)))
        };
        if jobs.fleetfoot_jobs != FORMAT {
            let theirs = jobs.fleetfoot_jobs;
            bail!(
                "{} is of form {theirs}, this fleetfoot reads {FORMAT}: use the version that wrote it",
                path.display()
            );
        }
        let folders: BTreeSet<&str> = jobs.jobs.iter().map(|job| job.folder.as_str()).collect();
        if jobs.jobs.is_empty() || folders.len() < jobs.jobs.len() || !jobs.jobs.iter().all(is_below) {
            bail!(
                "{} isn't a list of jobs that fleetfoot wrote: each has a folder of its own below it",
                path.display()
            );
        }
        Ok(Some(jobs))
    }

    /// Writes it into its folder, unless it is there. Another one there is an error that says what differs, unless it is to be replaced.
    pub fn claim(&self, folder: &Path, force: bool) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("can't make the folder {}", folder.display()))?;
        if !force && let Some(there) = Self::read(folder)? {
            let Some(difference) = there.difference(self) else { return Ok(()) };
            bail!(
                "{} is of another list ({difference}): choose another folder, or start anew with --force",
                folder.join(JOBS).display()
            );
        }
        write_json(&folder.join(JOBS), self)
    }

    /// What differs, in words; `None` where nothing does.
    pub fn difference(&self, other: &Self) -> Option<String> {
        if self.kind != other.kind {
            return Some(format!("{} against {}", self.kind.words()[1], other.kind.words()[1]));
        }
        let listed = || {
            let ours =
                self.jobs.iter().find(|job| !other.jobs.contains(job)).map(|job| format!("{} isn't", job.folder));
            let theirs = || other.jobs.iter().find(|job| !self.jobs.contains(job));
            let theirs = || theirs().map(|job| format!("{} is", job.folder));
            let differing =
                (self.jobs != other.jobs).then(|| ours.or_else(theirs).unwrap_or_else(|| "another order is".into()));
            differing.map(|what| format!("{what} asked for now"))
        };
        self.configuration.difference(&other.configuration).or_else(listed)
    }

    /// Jobs of a shard, or all.
    pub fn of(&self, shard: Option<Shard>) -> Result<Vec<&Job>> {
        let Some(shard) = shard else { return Ok(self.jobs.iter().collect()) };
        if shard.of() > self.jobs.len() {
            let count = self.jobs.len();
            let [_, words] = self.kind.words();
            return Err(usage(format!(
                "--shard {shard}: there are only {count} {words}: wanted at most {count} shards"
            )));
        }
        let own = self.jobs.iter().enumerate().filter(|(position, _)| shard.has(*position));
        Ok(own.map(|(_, job)| job).collect())
    }

    /// Where each job was done, in these folders, each of which holds the list: one that is done nowhere, or in two of them, is an error.
    pub fn done_in(&self, folders: &[PathBuf]) -> Result<Vec<PathBuf>> {
        let result = self.kind.result();
        let [one, several] = self.kind.words();
        let mut missing = Vec::new();
        let mut done = Vec::new();
        for job in &self.jobs {
            let places: Vec<PathBuf> = folders.iter().map(|folder| folder.join(&job.folder)).collect();
            let mut places = places.into_iter().filter(|place| place.join(result).is_file());
            match (places.next(), places.next()) {
                (Some(first), Some(second)) => {
                    bail!("{} and {} are the same {one}: leave one of them out", first.display(), second.display())
                }
                (Some(place), None) => done.push(place),
                (None, _) => missing.push(job.folder.as_str()),
            }
        }
        if !missing.is_empty() {
            bail!(
                "{} of {} {several} are missing ({}): run the same command again, with the shards that have them or with --resume; what is \
                 done stays",
                missing.len(),
                self.jobs.len(),
                listed(&missing, SHOWN)
            );
        }
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jobs(seed: u64) -> Jobs {
        let mut configuration = Configuration::default();
        configuration.set("space", "s");
        let named = ["a", "b"].map(|name| (name.to_owned(), name.to_owned()));
        Jobs::new(Kind::Trainings, configuration, &named, &seeds_from(seed, 3)).unwrap()
    }

    #[test]
    fn shards_have_each_job_once_and_there_are_no_more_of_them() {
        let jobs = jobs(4);
        let folders: Vec<&str> = jobs.jobs.iter().map(|job| job.folder.as_str()).collect();
        assert_eq!(folders, ["a/seed4", "a/seed5", "a/seed6", "b/seed4", "b/seed5", "b/seed6"]);
        for of in 1..=6 {
            let shards = (1..=of).map(|index| jobs.of(Shard::new(index, of)).unwrap());
            let mut all: Vec<&str> = shards.flatten().map(|job| job.folder.as_str()).collect();
            all.sort_unstable();
            assert_eq!(all, folders, "{of}");
        }
        assert!(jobs.of(Shard::new(1, 7)).unwrap_err().to_string().contains("at most 6 shards"));
    }

    #[test]
    fn a_folder_is_of_one_list_and_says_what_differs() {
        let folder = tempfile::tempdir().unwrap();
        jobs(4).claim(folder.path(), false).unwrap();
        jobs(4).claim(folder.path(), false).unwrap();
        assert_eq!(Jobs::read(folder.path()).unwrap(), Some(jobs(4)));
        let error = jobs(5).claim(folder.path(), false).unwrap_err().to_string();
        assert!(error.contains("another list (a/seed4 isn't asked for now)") && error.contains("--force"), "{error}");
        jobs(5).claim(folder.path(), true).unwrap();
        assert_eq!(Jobs::read(folder.path()).unwrap(), Some(jobs(5)));
        for hostile in [
            "",
            "{}",
            "[1]",
            r#"{"fleetfoot_jobs":2,"kind":"trainings","configuration":[],"jobs":[{"folder":"a","of":"","seed":0}]}"#,
            r#"{"fleetfoot_jobs":1,"kind":"trainings","configuration":[],"jobs":[]}"#,
            r#"{"fleetfoot_jobs":1,"kind":"trainings","configuration":[],"jobs":[{"folder":"../a","of":"","seed":0}]}"#,
            r#"{"fleetfoot_jobs":1,"kind":"trainings","configuration":[],"jobs":[{"folder":"/a","of":"","seed":0}]}"#,
        ] {
            fs::write(folder.path().join(JOBS), hostile).unwrap();
            assert!(Jobs::read(folder.path()).is_err(), "{hostile}");
        }
    }

    #[test]
    fn names_stand_once_and_can_be_folders() {
        let of = |names: &[&str]| {
            let named: Vec<_> = names.iter().map(|name| ((*name).to_owned(), String::new())).collect();
            Jobs::new(Kind::Trainings, Configuration::default(), &named, &[0])
        };
        assert!(of(&["a", "a"]).unwrap_err().to_string().contains("a stands twice"));
        assert!(of(&["a", "../b"]).is_err() && of(&["a", "b/c"]).is_err());
        assert_eq!(of(&["a"]).unwrap().jobs[0].folder, "seed0");
    }
}
