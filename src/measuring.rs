//! What every command that measures does: start the agent, keep the journal, show the progress.

mod measured;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, anyhow, bail};
use fleetfoot_console::{Progress as Bar, claim, say, stop_flag};
use fleetfoot_profiler::{
    Agent, Campaign, CampaignError, Conditions, Configuration, Cost, DeviceConfig, Header, Journal, LatencyTable,
    Measurement, NetworkCampaign, NodeProfile, Pace, Plan, Progress, Provenance, ProviderShare, Records, Standing,
    Subject, Sustained, Usage, Watch, paces_apart, sustain, take_usage, tells, usage_of,
};
use fleetfoot_space::SearchSpace;

pub use self::measured::{DISTURBED, Disturbed, Measured, WARMUP_RUNS, range};

/// Version of the journal's form.
pub const JOURNAL_FORMAT: u32 = 9;
/// The oldest of which tables are made; nothing is measured on behind it.
pub const OLDEST_JOURNAL: u32 = 8;

/// What a journal's name adds to its result's.
const JOURNAL: &str = ".journal";

/// Whoever types the command: reads standard error, and may press Ctrl-C.
#[derive(Debug)]
struct Typist(Arc<AtomicBool>);

impl Watch for Typist {
    fn tell(&self, what: &str) {
        say(what);
    }

    fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// An agent on a device, of which the user is told what takes long.
pub fn start(device: &DeviceConfig) -> Result<Agent> {
    let agent = Agent::start_watched(device, Arc::new(Typist(stop_flag()?)))?;
    Ok(agent)
}

/// A result's journal.
pub fn journal_of(result: &Path) -> PathBuf {
    beside(result, JOURNAL)
}

/// A path whose name is another one's with this suffix.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// A result file and its journal beside it.
#[derive(Debug)]
pub struct Output {
    path: PathBuf,
    journal: PathBuf,
    start: Start,
}

/// What becomes of an earlier run's journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    Anew,
    Resume,
    Replace,
}

impl Output {
    /// Decides what may be written: nothing that exists is overwritten without `force`; `resume` goes on. An earlier
    /// result stays until there is a new one, its journal until the first new measurement.
    pub fn new(path: &Path, resume: bool, force: bool) -> Result<Self> {
        Self::with_journal(path, JOURNAL, resume, force)
    }

    /// As [`new`](Self::new), with a journal whose name is the result's with this suffix.
    pub fn with_journal(path: &Path, suffix: &str, resume: bool, force: bool) -> Result<Self> {
        let journal = beside(path, suffix);
        let start = match (force, resume && journal.exists()) {
            (true, _) => Start::Replace,
            (false, true) => Start::Resume,
            (false, false) => Start::Anew,
        };
        let go_on = if journal.exists() { " or go on with --resume" } else { "" };
        claim(path, start != Start::Anew, &format!("or measure anew with --force{go_on}"))?;
        Ok(Self { path: path.to_path_buf(), journal, start })
    }

    /// The result's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn open(&self, header: &Header) -> Result<(Journal, Records)> {
        match self.start {
            Start::Resume => return Ok(Journal::resume(&self.journal, header)?),
            Start::Replace => match fs::remove_file(&self.journal) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("can't replace {}", self.journal.display()));
                }
                _ => {}
            },
            Start::Anew => {}
        }
        Ok((Journal::create(&self.journal, header)?, Records::default()))
    }
}

/// What is measured, as a journal states it.
#[derive(Clone, Copy, Debug)]
pub struct What<'a> {
    name: &'a str,
    space_toml: Option<&'a str>,
    configuration: Option<&'a Configuration>,
}

impl<'a> What<'a> {
    /// Networks: of a space, or models.
    pub fn networks(of: &'a str) -> Self {
        Self { name: of, space_toml: None, configuration: None }
    }

    /// The units of a space.
    pub fn units(space: &'a SearchSpace) -> Self {
        Self { name: space.name(), space_toml: Some(space.text()), configuration: None }
    }

    /// How to go on where it was stopped: a shard does by itself.
    fn go_on(self) -> &'static str {
        if self.configuration.is_some() { "the same command goes on" } else { "go on with --resume" }
    }

    /// The same, as a part of a whole that is decided by this.
    pub fn part_of(self, configuration: &'a Configuration) -> Self {
        Self { configuration: Some(configuration), ..self }
    }
}

/// In words, for standard error.
pub fn tell_paces(first: Option<Pace>, second: Option<Pace>, whose: &str) {
    if let Some([chain, wide]) = paces_apart(first, second) {
        say(format!("the core's pace {whose}: dependent operations take {chain:+.1} %, independent ones {wide:+.1} %"));
    }
}

/// At what pace a table stands, and what is held against it.
pub fn standing_of(table: &LatencyTable) -> Standing {
    table.provenance.best_vector_ns().map_or(Standing::Usual, Standing::At)
}

/// Measures subjects and keeps the samples in the output's journal, if there is one.
pub fn measure(
    agent: &mut Agent,
    subjects: &[Subject],
    plan: &Plan,
    what: What<'_>,
    conditions: &Conditions,
    output: Option<&Output>,
) -> Result<Measured> {
    let provider_share = ProviderShare::of(agent, subjects)?;
    let header = for_agent(agent, header(subjects, plan, what, conditions));
    let (what, go_on) = (what.name, what.go_on());
    let (mut journal, earlier) = opened(output, &header)?;
    let before = earlier.visits.len();
    let is_begun = earlier != Records::default();
    if before > 0 {
        say(format!("going on behind {before} visits of the journal"));
    }
    let bar = Bar::new(subjects.len(), before, "visits")?;
    let total = subjects.len();
    let mut visits = before as u64;
    let mut watch = |progress: Progress| {
        visits = progress.visits;
        bar.set_total((progress.visits + progress.remaining) as usize);
        bar.set_message(format!("{what}: round {}, {}/{total} known", progress.round, progress.done));
        bar.set(progress.visits as usize);
    };
    let stop = stop_flag()?;
    let mut campaign = Campaign::new(plan.clone(), subjects, earlier, conditions.computes_in_caller());
    let measured = campaign.run(agent, journal.as_mut(), &stop, &mut watch);
    bar.finish();
    let is_begun = is_begun || visits > 0;
    if measured.is_ok() {
        compress(journal);
    } else if !is_begun {
        discard(journal, output);
    }
    let unsteady = campaign.unsteady();
    if let Some(first) = unsteady.first() {
        say(format!(
            "{} of {total} subjects still got faster at the end of their warm-up, such as {first}",
            unsteady.len()
        ));
    }
    let (slower, course, pace, leads) = (campaign.slower(), campaign.course(), campaign.pace(), campaign.leads());
    let (soaked, sharing, contention) = (campaign.soaked(), campaign.sharing(), campaign.contention());
    let (best_pace, capped) = (campaign.best_pace(), campaign.capped(agent.pinned()));
    let (never_quiet, known, is_late) = (campaign.never_quiet(), campaign.known(), campaign.is_late());
    let whole = |subjects| {
        let measured = Measured {
            subjects,
            slower,
            course,
            pace,
            best_pace,
            capped,
            sharing,
            never_quiet,
            known,
            is_late,
            contention,
            leads,
            provider_share,
            soaked,
        };
        measured.tell(plan);
        measured
    };
    measured.map(whole).map_err(|error| ended_early(error, output.is_some(), is_begun, go_on))
}

/// All was measured.
fn compress(journal: Option<Journal>) {
    if let Some(Err(error)) = journal.map(Journal::compress) {
        say(format!("warning: it isn't compressed: {error}"));
    }
}

/// Nothing was measured: there is nothing to go on with.
fn discard(journal: Option<Journal>, output: Option<&Output>) {
    drop(journal);
    if let Some(output) = output {
        let _ = fs::remove_file(&output.journal);
    }
}

/// Has the runtime say how networks' times are divided among their nodes, and keeps that in the output's journal. What is
/// measured behind it goes on there: the output that is given back does.
pub fn node_profiles(
    agent: &mut Agent,
    networks: &NetworkCampaign,
    plan: &Plan,
    what: What<'_>,
    conditions: &Conditions,
    output: Output,
) -> Result<(Vec<NodeProfile>, Output)> {
    let header = for_agent(agent, header(networks.subjects(), plan, what, conditions));
    let (mut journal, earlier) = opened(Some(&output), &header)?;
    let is_begun = earlier != Records::default();
    let earlier = earlier.profiles;
    let bar = Bar::new(0, earlier.len(), "profiles")?;
    bar.set_message(format!("{}: node profiles", what.name));
    let mut taken = earlier.len();
    let mut watch = |done: usize, all: usize| {
        taken = done;
        bar.set_total(all);
        bar.set(done);
    };
    let stop = stop_flag()?;
    let profiles = networks.profile(agent, (journal.as_mut(), earlier), &stop, &mut watch);
    bar.finish();
    let is_begun = is_begun || taken > 0;
    if profiles.is_err() && !is_begun {
        discard(journal, Some(&output));
    }
    let profiles = profiles.map_err(|error| ended_early(error, true, is_begun, what.go_on()))?;
    Ok((profiles, Output { start: Start::Resume, ..output }))
}

/// What another machine measures is kept there, under a name of its own.
fn for_agent(agent: &Agent, header: Header) -> Header {
    if agent.is_remote() { header.named() } else { header }
}

fn header(subjects: &[Subject], plan: &Plan, what: What<'_>, conditions: &Conditions) -> Header {
    Header {
        fleetfoot_journal: JOURNAL_FORMAT,
        space: what.name.to_owned(),
        space_toml: what.space_toml.map(str::to_owned),
        conditions: conditions.clone(),
        seed: plan.seed,
        sitting: plan.sitting,
        subjects: subjects.iter().map(|subject| subject.name.clone()).collect(),
        models: Subject::digest(subjects),
        run: None,
        configuration: what.configuration.cloned(),
    }
}

/// The output's journal, if there is one, and what it holds.
fn opened(output: Option<&Output>, header: &Header) -> Result<(Option<Journal>, Records)> {
    let opened = output.map(|output| output.open(header)).transpose()?;
    Ok(opened.map_or_else(Default::default, |(journal, earlier)| (Some(journal), earlier)))
}

/// What to do next, where something was kept or could have been.
fn ended_early(error: CampaignError, is_kept: bool, is_begun: bool, go_on: &str) -> anyhow::Error {
    match error {
        error if is_kept && is_begun => anyhow!("{error}; everything measured so far is kept, {go_on}"),
        error @ CampaignError::Interrupted if !is_kept => {
            anyhow!("{error}; nothing is kept: name a file with --output")
        }
        error => error.into(),
    }
}

/// Reads what subjects take besides time, and keeps the readings in the output's journal, if there is one. A cost that the
/// device doesn't tell leaves readings without an amount. Whether the subjects run on the device's execution provider is the caller's to ask.
pub fn usage(
    agent: &mut Agent,
    subjects: &[Subject],
    (costs, repeats): (&[Cost], u32),
    what: What<'_>,
    conditions: &Conditions,
    output: Option<&Output>,
) -> Result<Vec<Usage>> {
    let header = header(subjects, &Plan::default(), what, conditions);
    let (mut journal, earlier) = opened(output, &header)?;
    let is_begun = earlier != Records::default();
    let earlier = earlier.usages;
    let total = subjects.len() * costs.len() * repeats as usize;
    let bar = Bar::new(total, earlier.len(), "readings")?;
    let names: Vec<String> = costs.iter().map(Cost::to_string).collect();
    bar.set_message(format!("{}: {}", what.name, names.join(" and ")));
    let mut taken = earlier.len();
    let mut watch = |readings: usize| {
        taken = readings;
        bar.set(readings);
    };
    let stop = stop_flag()?;
    let kept = (journal.as_mut(), earlier);
    let usages = take_usage(agent, subjects, costs, repeats, kept, &stop, &mut watch);
    bar.finish();
    if usages.is_ok() {
        compress(journal);
    }
    usages.map_err(|error| ended_early(error, output.is_some(), is_begun || taken > 0, what.go_on()))
}

/// A device that doesn't tell such a cost is an error.
pub fn check_told(agent: &mut Agent, cost: Cost, conditions: &Conditions) -> Result<()> {
    if tells(cost, &agent.look()?) {
        return Ok(());
    }
    bail!("{cost} is not available: device '{}' {}", conditions.device, UNTOLD[usize::from(cost == Cost::Energy)]);
}

/// What subjects cost besides time, each read so often, and what of them ran on the device's execution provider; `None` on the CPU's.
pub fn cost(
    agent: &mut Agent,
    subjects: &[Subject],
    (cost, repeats): (Cost, u32),
    what: What<'_>,
    conditions: &Conditions,
    output: Option<&Output>,
) -> Result<(Vec<Measurement>, Option<ProviderShare>)> {
    check_told(agent, cost, conditions)?;
    let provider_share = ProviderShare::of(agent, subjects)?;
    let usages = usage(agent, subjects, (&[cost], repeats), what, conditions, output)?;
    let measured = subjects.iter().enumerate().map(|(index, subject)| {
        let lost = || anyhow!("{}: its {cost} wasn't available every time; measure again", subject.name);
        usage_of(&usages, index, cost).ok_or_else(lost)
    });
    Ok((measured.collect::<Result<_>>()?, provider_share))
}

/// Why a device doesn't tell its memory, or its energy.
const UNTOLD: [&str; 2] = [
    "doesn't say what a process has resident (/proc/self/status)",
    "lets nobody read an energy meter (RAPL in /sys/class/powercap: root may) and runs on no battery that says its power",
];

/// Keeps the device busy with one subject after the other, for so long each.
pub fn sustained(
    agent: &mut Agent,
    subjects: &[Subject],
    duration: Duration,
    plan: &Plan,
    what: What<'_>,
    conditions: &Conditions,
    output: Option<&Output>,
) -> Result<Vec<Option<Sustained>>> {
    let conditions = Conditions { soak_seconds: duration.as_secs(), ..conditions.clone() };
    let header = header(subjects, plan, what, &conditions);
    let (mut journal, Records { visits: earlier, .. }) = opened(output, &header)?;
    let bar = Bar::new(subjects.len() * duration.as_secs() as usize, 0, "seconds")?;
    bar.set_message(format!("{}: kept busy", what.name));
    let mut begun = !earlier.is_empty();
    let mut watch = |seconds: f64| {
        begun = true;
        bar.set(seconds as usize);
    };
    let stop = stop_flag()?;
    let kept = (journal.as_mut(), earlier);
    let visits = sustain(agent, subjects, duration, kept, &stop, &mut watch);
    bar.finish();
    let visits = visits.map_err(|error| ended_early(error, output.is_some(), begun, what.go_on()))?;
    compress(journal);
    let detect = conditions.computes_in_caller();
    Ok(visits.iter().map(|visits| Sustained::of_visits(visits, plan.statistic, detect)).collect())
}

/// What intervals are, as files of measurements say it.
pub const INTERVAL: &str = "99 % of what another campaign finds";

/// The head of a file of measurements.
pub fn provenance(agent: &Agent, conditions: &Conditions, plan: &Plan, share: Option<&ProviderShare>) -> Provenance {
    let mut provenance = Provenance::default();
    provenance.set("tool", format!("fleetfoot {}", env!("CARGO_PKG_VERSION")));
    provenance.set("date", date(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())));
    conditions.to_provenance(&mut provenance);
    let machine = agent.machine();
    provenance.set("os", &machine.os);
    provenance.set("arch", &machine.arch);
    provenance.set("interval", INTERVAL);
    provenance.set("seed", plan.seed);
    if machine.clusters.len() > 1 {
        let cluster = |(khz, cores): &(u64, Vec<usize>)| {
            let cores: Vec<String> = cores.iter().map(usize::to_string).collect();
            format!("{} at {:.2} GHz", cores.join(" "), *khz as f64 / 1e6)
        };
        let clusters: Vec<String> = machine.clusters.iter().map(cluster).collect();
        provenance.set("clusters", clusters.join("; "));
    }
    if agent.reconnections() > 0 {
        provenance.set("reconnections", agent.reconnections());
    }
    for (name, value) in agent.facts() {
        provenance.set(name, value);
    }
    if let Some(share) = share {
        share.to_provenance(&mut provenance);
    }
    provenance
}

/// A day of the Gregorian calendar, UTC, from seconds since 1970 (Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms").
fn date(seconds: u64) -> String {
    let days = (seconds / 86_400) as i64 + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::date;

    #[test]
    fn seconds_become_calendar_days() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(951_782_400), "2000-02-29");
        assert_eq!(date(1_795_478_400), "2026-11-24");
    }
}
