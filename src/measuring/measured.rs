//! What measuring brought, and how it is told.

use fleetfoot_console::say;
use fleetfoot_profiler::{BestPace, Course, Look, Measurement, Pace, Plan, Provenance, ProviderShare, Sharing, Soak};
use serde::{Deserialize, Serialize};

/// What measuring brought.
#[derive(Debug)]
pub struct Measured {
    /// Of every subject.
    pub subjects: Vec<Measurement>,
    /// By what factor the machine was slower than the subjects' references say; `None` without references.
    pub slower: Option<f64>,
    /// How it went.
    pub course: Course,
    /// The core's usual pace in what counts.
    pub pace: Option<Pace>,
    /// At what pace of dense vector arithmetic the values stand.
    pub best_pace: Option<BestPace>,
    /// The cores that measure which may not run as fast as they are made for ([`Campaign::capped`](fleetfoot_profiler::Campaign::capped)).
    pub capped: Vec<(usize, u64, u64)>,
    /// How often somebody else was on its units.
    pub sharing: Sharing,
    /// Subjects that were hardly ever measured undisturbed ([`Campaign::never_quiet`](fleetfoot_profiler::Campaign::never_quiet)).
    pub never_quiet: usize,
    /// Subjects whose interval is as narrow as was asked for.
    pub known: usize,
    /// Whether the plan's time ended it ([`Campaign::is_late`](fleetfoot_profiler::Campaign::is_late)).
    pub is_late: bool,
    /// How much contention there was at every visit ([`Campaign::contention`](fleetfoot_profiler::Campaign::contention)).
    pub contention: Vec<f64>,
    /// Untimed runs in front of every visit, the fewest and the most.
    pub leads: (u32, u32),
    /// What ran on the device's execution provider; `None` on the CPU's.
    pub provider_share: Option<ProviderShare>,
    /// How the device was kept busy beforehand, if it was.
    pub soaked: Option<Soak>,
}

/// Name of how many untimed runs stood in front of each visit.
pub const WARMUP_RUNS: &str = "warmup_runs";
/// Names of what disturbances did, as [`Disturbed`] writes them.
pub const DISTURBED: [&str; 2] = ["left_aside", "hardly_ever_quiet"];

/// The fewest and the most, in words.
pub fn range((least, most): (u32, u32)) -> String {
    if least == most { least.to_string() } else { format!("{least} to {most}") }
}

/// Samples that don't count, and all.
fn left_aside(subjects: &[Measurement]) -> [usize; 2] {
    let left_aside: usize = subjects.iter().map(|subject| subject.disturbed).sum();
    [left_aside, left_aside + subjects.iter().map(|subject| subject.samples).sum::<usize>()]
}

/// What disturbances did to a campaign, besides what measurements say of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disturbed {
    /// Stretches of visits in a row that were disturbed.
    pub windows: usize,
    /// Subjects that were hardly ever measured undisturbed.
    pub never_quiet: usize,
}

impl Disturbed {
    /// As lines of a file's head.
    pub fn to_provenance(self, subjects: &[Measurement], provenance: &mut Provenance) {
        let ([left_aside, samples], windows) = (left_aside(subjects), self.windows);
        provenance.set(DISTURBED[0], format!("{left_aside} of {samples} samples, {windows} disturbed windows"));
        if self.never_quiet > 0 {
            provenance.set(DISTURBED[1], format!("{} of {} subjects", self.never_quiet, subjects.len()));
        }
    }
}

/// A usual slow-down that is told.
const NOTEWORTHY: f64 = 0.01;

impl Measured {
    /// Writes down how it was measured.
    pub fn to_provenance(&self, plan: &Plan, provenance: &mut Provenance) {
        let Plan { min_rounds, max_rounds, max_time, half_width, sitting, visit, .. } = plan;
        let (percent, visit) = (100.0 * half_width, visit.as_secs_f64() * 1e3);
        let time = max_time.map_or(String::new(), |most| format!(", at most {} s", most.as_secs()));
        let plan = format!(
            "{min_rounds} to {max_rounds} rounds{time}, until within {percent} %; visits of {visit} ms; a process for {sitting} rounds"
        );
        provenance.set("plan", plan);
        if let Some(soak) = self.soaked {
            provenance.set("soak_slower_percent", format!("{:.2}", 100.0 * (soak.last_ns / soak.first_ns - 1.0)));
        }
        provenance.set(WARMUP_RUNS, range(self.leads));
        if let Some(pace) = self.pace {
            provenance.set_pace(pace);
        }
        provenance.set_best_pace(self.best_pace);
        if let Some(capped) = self.capped() {
            provenance.set("capped", capped);
        }
        let looks = || self.course.looks().iter();
        if let Some(status) = looks().filter_map(|look| look.thermal_status).max() {
            provenance.set("thermal_status", format!("{status} at most"));
        }
        let battery = |of: fn(&Look) -> Option<f64>| {
            let told = || looks().filter_map(of);
            Some((told().reduce(f64::min)?, told().reduce(f64::max)?))
        };
        if let Some((least, most)) = battery(|look| look.battery_percent) {
            let celsius = battery(|look| look.battery_celsius);
            let celsius = celsius.map(|(_, most)| format!(", {most:.1} degrees Celsius at most")).unwrap_or_default();
            let power = if looks().any(|look| look.on_battery == Some(true)) { "discharging" } else { "on power" };
            provenance.set("battery", format!("{least:.0} to {most:.0} %, {power}{celsius}"));
        }
        provenance.set_sharing(self.sharing);
        Disturbed { windows: self.course.spent().disturbed_windows, never_quiet: self.never_quiet }
            .to_provenance(&self.subjects, provenance);
    }

    /// In words; `None` where none is.
    fn capped(&self) -> Option<String> {
        let ghz = |khz: u64| khz as f64 / 1e6;
        let core = |&(core, permitted, maximum): &(usize, u64, u64)| {
            format!("core {core} at {:.2} of {:.2} GHz", ghz(permitted), ghz(maximum))
        };
        let cores: Vec<String> = self.capped.iter().map(core).collect();
        (!cores.is_empty()).then(|| cores.join(", "))
    }

    /// In words, for standard error.
    pub(super) fn tell(&self, plan: &Plan) {
        let ([left_aside, samples], spent, count) =
            (left_aside(&self.subjects), self.course.spent(), self.subjects.len());
        say(format!(
            "{} of {count} subjects known to ±{} %; {left_aside} of {samples} samples left aside; {:.0} s measuring, {:.0} s waiting; {} \
             disturbed windows",
            self.known,
            100.0 * plan.half_width,
            spent.seconds_measuring,
            spent.seconds_waiting,
            spent.disturbed_windows,
        ));
        if let Some(capped) = self.capped() {
            say(format!(
                "capped: {capped}; the numbers are of that (who may write there lifts it by scaling_max_freq; phones cap cores by themselves, when they are warm or save power)"
            ));
        }
        if let Some(most) = plan.max_time.filter(|_| self.is_late) {
            say(format!(
                "the {} s of --max-time were over before all was done: intervals say how well it is known; --resume with more of them goes on",
                most.as_secs()
            ));
        }
        if let Some(best) = self.best_pace.filter(|best| best.slower > 1.0 + NOTEWORTHY) {
            say(format!(
                "values are those at the core's best pace; by its clock under vectors and its halts, runs usually took {:.0} % longer",
                100.0 * (best.slower - 1.0)
            ));
        }
        if self.sharing.is_crowded {
            say(format!(
                "somebody else was on the core's execution units at {:.0} % of the visits, and rarely not: what counts is where that was \
                 least, and likely too slow; `fleetfoot doctor` tells when it is over",
                100.0 * self.sharing.share
            ));
        }
        if self.never_quiet > 0 {
            say(format!(
                "{} of {count} subjects were hardly ever measured undisturbed, so that what was disturbed counts, too: they are likely too \
                 slow; `fleetfoot doctor` says what disturbs, measure again without it",
                self.never_quiet
            ));
        }
    }
}
