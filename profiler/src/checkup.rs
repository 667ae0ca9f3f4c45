//! What on a machine harms measurements, told from two looks at its state with some work between them.

use std::fmt;

use fleetfoot_protocol::{Accelerator, Core, Health, Pace};
use serde::{Deserialize, Serialize};

use crate::pace::{HARMFUL, contention, most_alone};
use crate::statistics::median;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// To know, nothing to mend.
    Note,
    /// Measurements scatter more than they need to, or don't show the device at its best.
    Warning,
    /// Measurements are wrong while it lasts.
    Problem,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Problem => "problem",
        })
    }
}

/// Something that harms measurements.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// What was seen.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

/// A core is busy with something else above this share of its time.
const BUSY: f64 = 0.05;
/// Time that a host takes away, as a share, above which it shows in medians.
const STOLEN: f64 = 0.005;
/// Cores' worth of work elsewhere that caches and memory feel.
const BACKGROUND: f64 = 0.3;
/// Clock sources that are read from slow hardware.
const SLOW_CLOCKS: [&str; 4] = ["hpet", "acpi_pm", "jiffies", "pit"];
/// Power profiles of firmware that slow a machine down.
const SAVERS: [&str; 3] = ["low-power", "cool", "quiet"];
/// Share of the measuring thread's time without the core, above which something else must be on it.
const LOST: f64 = 0.01;
/// Processes that want to run, on average, above which something must be at work.
const LOADED: f64 = 0.5;
/// Degrees Celsius from which processors slow down sooner or later.
const HOT: f64 = 85.0;

/// The findings, the worst first. `pinned` are the cores that measure; between the looks they were as busy as measuring
/// makes them, and the others should have been idle.
pub fn findings(before: &Health, after: &Health, pinned: &[usize]) -> Vec<Finding> {
    let cores = after.cores.iter().map(|core| {
        let earlier = before.cores.iter().find(|earlier| earlier.core == core.core).cloned();
        (earlier.unwrap_or_default(), core)
    });
    let (ours, others): (Vec<_>, Vec<_>) = cores.partition(|(_, core)| pinned.contains(&core.core));
    let mut findings: Vec<Finding> = ours.iter().flat_map(|(then, now)| of_core(then, now)).collect();
    for (_, core) in &ours {
        let siblings = others.iter().filter(|(_, other)| core.siblings.contains(&other.core));
        findings.extend(siblings.filter_map(|(then, sibling)| of_sibling(core, then, sibling)));
    }
    let busy: f64 = others.iter().map(|(then, now)| now.ticks.since(then.ticks).busy_share()).sum();
    if busy > BACKGROUND {
        findings.push(Finding::new(
            Severity::Warning,
            format!("other cores do the work of {busy:.1}: they share caches, memory and heat with the measurement"),
            "stop what runs in the background",
        ));
    }
    findings.extend(of_machine(after));
    findings.extend(after.accelerators.iter().flat_map(of_accelerator));
    findings.extend(of_quota(before, after, pinned.len()));
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

/// Whether something else took the cores that measure: `lost` is the share of the visits' time in which the measuring thread
/// didn't have its core, as far as it computes by itself. Where all cores measure, no other is left to show it, and the load from before is all
/// there is.
pub fn taken_core(lost: Option<f64>, before: &Health, pinned: &[usize]) -> Option<Finding> {
    if let Some(lost) = lost {
        return (lost > LOST).then(|| {
            let what = format!("something else ran on the core that measures for {:.0} % of the time", 100.0 * lost);
            Finding::new(
                Severity::Problem,
                what,
                "stop what runs in the background, or measure on another core (cores)",
            )
        });
    }
    let all_measure = before.cores.iter().all(|core| pinned.contains(&core.core));
    let load = before.load.filter(|&load| all_measure && load > LOADED)?;
    Some(Finding::new(
        Severity::Warning,
        format!("{load:.1} processes wanted to run on average in the minute before, and all cores are to measure"),
        "stop what runs in the background; where that was a measurement itself, wait a minute and ask again",
    ))
}

impl Finding {
    fn new(severity: Severity, what: String, remedy: &str) -> Self {
        Self { severity, what, remedy: remedy.to_owned() }
    }
}

/// Of a core that measures.
fn of_core(then: &Core, now: &Core) -> Vec<Finding> {
    let mut findings = Vec::new();
    let core = now.core;
    let stolen = now.ticks.since(then.ticks).stolen_share();
    if stolen > STOLEN {
        findings.push(Finding::new(
            Severity::Problem,
            format!("the host took {:.1} % of core {core}'s time for other machines", 100.0 * stolen),
            "measure on a machine with cores of its own, or at another time",
        ));
    }
    if let Some((now, then)) = now.throttled.zip(then.throttled).filter(|(now, then)| now > then) {
        findings.push(Finding::new(
            Severity::Problem,
            format!("heat slowed core {core} down {} times just now", now - then),
            "let it cool down, mend its cooling, or cap its frequency",
        ));
    }
    if let Some(governor) = now.governor.as_deref().filter(|governor| *governor != "performance") {
        findings.push(Finding::new(
            Severity::Warning,
            format!("core {core}'s frequency is set by the governor '{governor}'"),
            "set it to 'performance': cpupower frequency-set -g performance",
        ));
    }
    // Under the governor 'performance' drivers ignore it, or are at the highest already.
    let preference = now.preference.as_deref().filter(|_| now.governor.as_deref() != Some("performance"));
    if let Some(preference) = preference.filter(|preference| preference.contains("power")) {
        findings.push(Finding::new(
            Severity::Warning,
            format!("core {core} is to save energy (energy_performance_preference is '{preference}')"),
            "set it to 'performance', or switch the battery saver off",
        ));
    }
    if let Some((permitted, maximum)) = now.permitted_khz.zip(now.maximum_khz).filter(|(p, m)| p < m) {
        let (permitted, maximum) = (permitted as f64 / 1e6, maximum as f64 / 1e6);
        findings.push(Finding::new(
            Severity::Warning,
            format!("core {core} is capped at {permitted:.2} GHz, it is made for {maximum:.2} GHz"),
            "lift the cap (scaling_max_freq), unless the device is used like that",
        ));
    }
    findings
}

/// Of a core that shares its execution units with one that measures.
fn of_sibling(core: &Core, then: &Core, sibling: &Core) -> Option<Finding> {
    let busy = sibling.ticks.since(then.ticks).busy_share();
    (busy > BUSY).then(|| {
        let (core, sibling, percent) = (core.core, sibling.core, 100.0 * busy);
        Finding::new(
            Severity::Problem,
            format!("core {sibling}, which shares its execution units with core {core}, is {percent:.0} % busy"),
            "stop what runs there, or take the core offline while measuring",
        )
    })
}

/// Whether somebody else was on the core's units, which the system may know nothing of: the share of the visits to one subject in
/// which its paces show it and a run took longer, and the finding. `times` are what a run took in each visit. The share isn't known
/// where the pace isn't; somebody who is always there isn't seen.
pub fn shared_core(paces: &[[Pace; 2]], times: &[f64]) -> (Option<f64>, Option<Finding>) {
    let contention = contention(paces);
    if contention.iter().all(|contention| contention.is_nan()) {
        return (None, None);
    }
    let most = most_alone(&contention);
    let visits = || contention.iter().map(|contention| *contention > most).zip(times);
    let usual = |wanted: bool| median(visits().filter(|(shared, _)| *shared == wanted).map(|(_, time)| *time));
    let slower = usual(true).zip(usual(false)).map_or(0.0, |(shared, alone)| shared / alone - 1.0);
    if slower <= HARMFUL {
        return (Some(0.0), None);
    }
    let share = visits().filter(|(shared, _)| *shared).count() as f64 / contention.len() as f64;
    let finding = (share > BUSY).then(|| {
        let (share, slower) = (100.0 * share, 100.0 * slower);
        Finding::new(
            Severity::Warning,
            format!(
                "somebody else is on the execution units of the core that measures for {share:.0} % of the time; a run takes \
                 {slower:.0} % longer then"
            ),
            "measure when it is over: what is measured meanwhile is left aside, and a profile takes the longer for it",
        )
    });
    (Some(share), finding)
}

/// Of what all cores share.
fn of_machine(health: &Health) -> Vec<Finding> {
    let mut findings = Vec::new();
    if health.turbo == Some(true) {
        findings.push(Finding::new(
            Severity::Warning,
            "turbo is on: the frequency depends on heat and on what other cores do".to_owned(),
            "switch it off for numbers that repeat (intel_pstate/no_turbo, cpufreq/boost); leave it on for everyday ones",
        ));
    }
    if let Some((sensor, celsius)) = hottest(health).filter(|(_, celsius)| *celsius >= HOT) {
        findings.push(Finding::new(
            Severity::Warning,
            format!("{sensor} is {celsius:.0} °C hot"),
            "let it cool down before measuring, or mend its cooling",
        ));
    }
    if let Some(profile) = health.power_profile.as_deref().filter(|profile| SAVERS.contains(profile)) {
        findings.push(Finding::new(
            Severity::Warning,
            format!("the machine saves energy: its power profile is '{profile}'"),
            "switch the battery saver off (powerprofilesctl set performance, or platform_profile)",
        ));
    }
    if let Some(battery) = health.battery.filter(|battery| battery.discharging) {
        let charge = battery.percent.map(|percent| format!(" ({percent:.0} % charged)")).unwrap_or_default();
        findings.push(Finding::new(
            Severity::Warning,
            format!("the machine runs on its battery{charge}"),
            "plug it in, and switch battery savers off",
        ));
    }
    if let Some(clock) = health.clock.as_deref().filter(|clock| SLOW_CLOCKS.contains(clock)) {
        findings.push(Finding::new(
            Severity::Warning,
            format!("time is measured by '{clock}', which takes a microsecond or more to read"),
            "boot with a better clock source (tsc, kvm-clock, arch_sys_counter)",
        ));
    }
    if health.virtual_machine == Some(true) {
        findings.push(Finding::new(
            Severity::Note,
            "this is a virtual machine: frequencies, heat and its host's other guests can't be seen".to_owned(),
            "trust only differences that runs at different times agree on",
        ));
    }
    findings
}

/// Of a GPU, while something ran on it.
fn of_accelerator(gpu: &Accelerator) -> Vec<Finding> {
    let name = &gpu.name;
    let mut findings = Vec::new();
    if gpu.slowed_by_heat == Some(true) {
        findings.push(Finding::new(
            Severity::Problem,
            format!("heat slows {name} down"),
            "let it cool down, mend its cooling, or cap its clock",
        ));
    }
    if gpu.slowed_by_power == Some(true) {
        findings.push(Finding::new(
            Severity::Warning,
            format!("its limit of power slows {name} down"),
            "raise the limit (nvidia-smi -pl), or cap the clock below where it strikes (nvidia-smi -lgc)",
        ));
    }
    if let Some(others) = gpu.processes.map(|all| all.saturating_sub(1)).filter(|&others| others > 0) {
        findings.push(Finding::new(
            Severity::Problem,
            format!("{others} other processes compute on {name}"),
            "stop them (nvidia-smi names them), or measure on another GPU (device_id)",
        ));
    }
    if gpu.is_kept_awake == Some(false) {
        findings.push(Finding::new(
            Severity::Note,
            format!("{name}'s driver lets it sleep while no process uses it: first runs wake it"),
            "keep it awake (nvidia-smi -pm 1, or nvidia-persistenced)",
        ));
    }
    findings
}

/// Of the limit of CPU time that a container may have.
fn of_quota(before: &Health, after: &Health, threads: usize) -> Option<Finding> {
    let stops = after.quota_stops.zip(before.quota_stops).map_or(0, |(now, then)| now.saturating_sub(then));
    let scarce = after.quota_cores.filter(|&cores| cores < threads as f64);
    let what = match (stops, scarce) {
        (0, None) => return None,
        (0, Some(cores)) => {
            format!("the process may use {cores:.1} cores' worth of time, but is to measure on {threads}")
        }
        (stops, _) => format!("the control group's limit stopped the process {stops} times just now"),
    };
    Some(Finding::new(Severity::Problem, what, "lift the container's limit of CPU time"))
}

fn hottest(health: &Health) -> Option<(&str, f64)> {
    let hottest = health.temperatures.iter().max_by(|a, b| a.1.total_cmp(&b.1));
    hottest.map(|(sensor, celsius)| (sensor.as_str(), *celsius))
}

#[cfg(test)]
mod tests {
    use fleetfoot_protocol::{Battery, Ticks};

    use super::*;

    fn machine() -> Health {
        let core = |core| Core { core, governor: Some("performance".into()), ..Core::default() };
        Health { cores: (0..4).map(core).collect(), ..Health::default() }
    }

    /// A GPU that this process computes on, as fast as it can.
    fn gpu(change: impl FnOnce(&mut Accelerator)) -> Accelerator {
        let (no, yes) = (Some(false), Some(true));
        let mut gpu = Accelerator {
            name: "GPU 0".into(),
            processes: Some(1),
            slowed_by_heat: no,
            slowed_by_power: no,
            is_kept_awake: yes,
            ..Accelerator::default()
        };
        change(&mut gpu);
        gpu
    }

    fn after(change: impl FnOnce(&mut Health)) -> Vec<String> {
        let before = machine();
        let mut after = machine();
        for core in &mut after.cores {
            core.ticks = if core.core == 3 {
                Ticks { busy: 100, ..Ticks::default() }
            } else {
                Ticks { idle: 100, ..Ticks::default() }
            };
        }
        change(&mut after);
        let findings = findings(&before, &after, &[3]);
        assert!(findings.is_sorted_by_key(|finding| std::cmp::Reverse(finding.severity)));
        findings.into_iter().map(|finding| format!("{}: {}", finding.severity, finding.what)).collect()
    }

    #[test]
    fn a_quiet_machine_has_no_findings() {
        assert_eq!(after(|_| {}), Vec::<String>::new());
        assert_eq!(after(|health| health.accelerators = vec![gpu(|_| {})]), Vec::<String>::new());
    }

    #[test]
    fn each_harm_is_found_alone() {
        type Change = fn(&mut Health);
        let harms: [(Change, &str); 17] = [
            (
                |health| health.cores[3].ticks = Ticks { busy: 98, idle: 0, stolen: 2 },
                "problem: the host took 2.0 % of core 3",
            ),
            (
                |health| {
                    health.cores[3].siblings = vec![1];
                    health.cores[1].ticks = Ticks { busy: 20, idle: 80, stolen: 0 };
                },
                "problem: core 1, which shares its execution units with core 3, is 20 % busy",
            ),
            (|health| health.cores[3].governor = Some("powersave".into()), "warning: core 3's frequency is set by"),
            (
                |health| {
                    (health.cores[3].permitted_khz, health.cores[3].maximum_khz) = (Some(1_500_000), Some(3_000_000))
                },
                "warning: core 3 is capped at 1.50 GHz",
            ),
            (
                |health| health.cores[0].ticks = Ticks { busy: 90, idle: 10, stolen: 0 },
                "warning: other cores do the work of 0.9",
            ),
            (
                |health| {
                    let core = &mut health.cores[3];
                    (core.governor, core.preference) = (None, Some("balance_power".into()));
                },
                "warning: core 3 is to save energy",
            ),
            (|health| health.power_profile = Some("low-power".into()), "warning: the machine saves energy"),
            (|health| health.turbo = Some(true), "warning: turbo is on"),
            (|health| health.temperatures = vec![("a".into(), 40.0), ("b".into(), 90.0)], "warning: b is 90 °C hot"),
            (|health| health.quota_cores = Some(0.5), "problem: the process may use 0.5 cores"),
            (
                |health| {
                    health.battery = Some(Battery { percent: Some(30.0), discharging: true, ..Battery::default() })
                },
                "warning: the machine runs on its battery (30 % charged)",
            ),
            (|health| health.clock = Some("hpet".into()), "warning: time is measured by 'hpet'"),
            (|health| health.virtual_machine = Some(true), "note: this is a virtual machine"),
            (
                |health| health.accelerators = vec![gpu(|gpu| gpu.slowed_by_heat = Some(true))],
                "problem: heat slows GPU 0 down",
            ),
            (
                |health| health.accelerators = vec![gpu(|gpu| gpu.slowed_by_power = Some(true))],
                "warning: its limit of power slows GPU 0 down",
            ),
            (
                |health| health.accelerators = vec![gpu(|gpu| gpu.processes = Some(3))],
                "problem: 2 other processes compute on GPU 0",
            ),
            (
                |health| health.accelerators = vec![gpu(|gpu| gpu.is_kept_awake = Some(false))],
                "note: GPU 0's driver lets it sleep",
            ),
        ];
        for (change, says) in harms {
            let found = after(change);
            assert!(found.len() == 1 && found[0].starts_with(says), "{says}: {found:?}");
        }
    }

    #[test]
    fn a_core_that_somebody_shares_is_found_where_it_matters() {
        let pace = |wide_ns| [Pace { chain_ns: 5_000, wide_ns, talk_ns: 0 }; 2];
        // Every third stretch of ten visits is shared.
        let shared = |index: usize| (index / 10) % 3 == 2;
        let paces: Vec<[Pace; 2]> = (0..300).map(|index| pace(if shared(index) { 3_100 } else { 2_000 })).collect();
        let times = |slower: f64| -> Vec<f64> {
            (0..300).map(|index| if shared(index) { slower } else { 1.0 } + 0.001 * (index % 7) as f64).collect()
        };
        let (share, finding) = shared_core(&paces, &times(1.27));
        assert_eq!(share, Some(1.0 / 3.0));
        let what = finding.unwrap().what;
        assert!(what.contains("% of the time") && what.contains("27 % longer"), "{what}");
        // A clock's coarse steps, say: nothing takes longer.
        assert_eq!(shared_core(&paces, &times(1.0)), (Some(0.0), None));
        assert_eq!(shared_core(&[pace(2_000); 300], &times(1.27)), (Some(0.0), None));
        assert_eq!(shared_core(&[[Pace::default(); 2]; 300], &times(1.27)), (None, None));
        assert_eq!(shared_core(&[], &[]), (None, None));
    }

    #[test]
    fn what_takes_the_measuring_core_is_found() {
        let what = |lost, load, pinned: &[usize]| {
            let before = Health { load, ..machine() };
            taken_core(lost, &before, pinned).map(|finding| finding.what)
        };
        assert!(what(Some(0.3), None, &[3]).unwrap().contains("for 30 % of the time"));
        assert_eq!(what(Some(0.001), Some(4.0), &[3]), None);
        // Several threads: no thread's own time tells.
        assert!(what(None, Some(1.8), &[0, 1, 2, 3]).unwrap().starts_with("1.8 processes"));
        assert_eq!((what(None, Some(1.8), &[2, 3]), what(None, Some(0.1), &[0, 1, 2, 3])), (None, None));
        assert_eq!(what(None, None, &[0, 1, 2, 3]), None);
    }

    #[test]
    fn what_happened_before_the_first_look_is_no_finding() {
        let mut before = machine();
        before.cores[3].throttled = Some(5);
        before.quota_stops = Some(9);
        let mut now = before.clone();
        assert_eq!(findings(&before, &now, &[3]), []);
        (now.cores[3].throttled, now.quota_stops) = (Some(7), Some(10));
        let found = findings(&before, &now, &[3]);
        assert!(found.len() == 2 && found.iter().all(|finding| finding.severity == Severity::Problem), "{found:?}");
    }

    #[test]
    fn other_cores_do_not_matter_for_what_only_the_measuring_one_has() {
        assert_eq!(after(|health| health.cores[0].governor = Some("powersave".into())), Vec::<String>::new());
    }
}
