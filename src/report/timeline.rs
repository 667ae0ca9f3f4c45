//! How the machine behaved while the latency table was measured.

use std::path::Path;

use anyhow::{Context, Result};
use fleetfoot_profiler::{Course, Journal, Look, Spent};
use serde::{Deserialize, Serialize};

use super::facts::{Facts, Format};
use super::markup::{Element, Markup, element, text};
use super::plot::{Axis, Plot};

/// Steps that the timeline is shown in.
const STEPS: usize = 400;

/// What the journal of the latency table says of the machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timeline {
    /// What was spent.
    #[serde(flatten)]
    pub spent: Spent,
    /// The machine's speed over time.
    pub steps: Vec<Step>,
    /// The largest share of a measuring core's time in a round that the host took for others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub most_stolen_percent: Option<f64>,
    /// The most other cores that were at work in a round.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub most_others_busy: Option<f64>,
    /// The highest load.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub highest_load: Option<f64>,
    /// The lowest frequency of a measuring core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lowest_mhz: Option<f64>,
    /// The highest frequency of a measuring core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub highest_mhz: Option<f64>,
    /// The hottest that a sensor got.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hottest_celsius: Option<f64>,
    /// How often heat slowed a measuring core down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttled: Option<u64>,
    /// How often the limit of the process' control group stopped it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota_stops: Option<u64>,
    /// Rounds in which the machine ran on its battery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rounds_on_battery: Option<u64>,
    /// The lowest clock of a GPU at work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lowest_accelerator_mhz: Option<f64>,
    /// The highest clock of a GPU at work, of each round's lowest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub highest_accelerator_mhz: Option<f64>,
    /// Rounds in which heat, or its limit of power, slowed a GPU down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rounds_accelerator_slowed: Option<u64>,
}

/// Some visits that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Start, since the campaign began.
    pub minutes: f64,
    /// By how much the machine was slower than it usually is at the core's best pace; absent where that isn't known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slower_percent: Option<f64>,
    /// Whether most of them were disturbed.
    pub disturbed: bool,
}

impl Timeline {
    /// From a latency table's journal; `None` where there is none.
    pub fn read(journal: &Path) -> Result<Option<Self>> {
        if !journal.exists() {
            return Ok(None);
        }
        let (header, records) = Journal::read(journal)?;
        let course = Course::recall(&header, records).with_context(|| journal.display().to_string())?;
        Ok((!course.moments().is_empty()).then(|| Self::of(&course)))
    }

    fn of(course: &Course) -> Self {
        let looks = || course.looks().iter();
        let most = |value: fn(&Look) -> Option<f64>| looks().filter_map(value).reduce(f64::max);
        let step = |moment: fleetfoot_profiler::Moment| Step {
            minutes: moment.at_ns as f64 / 60e9,
            slower_percent: moment.slower.map(|slower| 100.0 * (slower - 1.0)),
            disturbed: moment.disturbed,
        };
        let sum = |value: fn(&Look) -> Option<u64>| looks().filter_map(value).reduce(|a, b| a.saturating_add(b));
        Self {
            spent: course.spent(),
            steps: course.steps(STEPS).into_iter().map(step).collect(),
            most_stolen_percent: most(|look| look.stolen).map(|share| 100.0 * share),
            most_others_busy: most(|look| look.others_busy),
            highest_load: most(|look| look.load),
            lowest_mhz: looks().filter_map(|look| look.frequency_mhz).reduce(f64::min),
            highest_mhz: most(|look| look.frequency_mhz),
            hottest_celsius: most(|look| look.hottest_celsius),
            throttled: sum(|look| look.throttled),
            quota_stops: sum(|look| look.quota_stops),
            rounds_on_battery: sum(|look| look.on_battery.map(u64::from)),
            lowest_accelerator_mhz: looks().filter_map(|look| look.accelerator_mhz).reduce(f64::min),
            highest_accelerator_mhz: most(|look| look.accelerator_mhz),
            rounds_accelerator_slowed: sum(|look| look.accelerator_slowed.map(u64::from)),
        }
    }
}

/// The plot: by how much the machine was slower, what was disturbed shaded.
pub fn plot(timeline: &Timeline) -> Markup {
    let steps = &timeline.steps;
    let known = || steps.iter().filter_map(|step| Some((step.minutes, step.slower_percent?)));
    let end = steps.last().map_or(0.0, |step| step.minutes);
    let mut plot = Plot::new(
        "Speed of the machine while the table was measured",
        Axis::around("minutes", [0.0, end]),
        Axis::around("slower than at its best (%)", known().map(|(_, slower)| slower).chain([0.0])),
    );
    let next = steps.iter().skip(1).map(|step| step.minutes).chain([end]);
    for (step, to) in steps.iter().zip(next).filter(|(step, _)| step.disturbed) {
        plot.shade(step.minutes, to);
    }
    plot.line("curve", &known().collect::<Vec<_>>());
    plot.finish()
}

/// What was spent, and what the system showed.
pub fn figures(timeline: &Timeline, facts: &Facts) -> Markup {
    let shown = [
        ("measuring", "seconds_measuring", 0, " s", true),
        ("waiting for a quiet machine", "seconds_waiting", 0, " s", true),
        ("disturbed windows", "disturbed_windows", 0, "", true),
        ("samples taken again", "samples_taken_again", 0, "", true),
        (
            "taken by the host, at most",
            "most_stolen_percent",
            1,
            " % of a core",
            timeline.most_stolen_percent.is_some(),
        ),
        ("other cores at work, at most", "most_others_busy", 1, "", timeline.most_others_busy.is_some()),
        ("load, at most", "highest_load", 2, "", timeline.highest_load.is_some()),
        ("frequency, at least", "lowest_mhz", 0, " MHz", timeline.lowest_mhz.is_some()),
        ("frequency, at most", "highest_mhz", 0, " MHz", timeline.highest_mhz.is_some()),
        ("hottest sensor", "hottest_celsius", 0, " °C", timeline.hottest_celsius.is_some()),
        ("slowed down by heat", "throttled", 0, " times", timeline.throttled.is_some()),
        ("stopped by a limit of CPU time", "quota_stops", 0, " times", timeline.quota_stops.is_some()),
        ("on its battery", "rounds_on_battery", 0, " rounds", timeline.rounds_on_battery.is_some()),
    ];
    let figure = |(name, field, decimals, unit, _): (&str, &str, usize, &str, bool)| -> [Element; 2] {
        let value = facts.show(&format!("/timeline/{field}"), Format::Fixed(decimals));
        [element("dt").text(name), element("dd").child(value).text(unit)]
    };
    let unknown: Vec<&str> = shown.iter().filter(|(.., known)| !known).map(|(name, ..)| *name).collect();
    // Most machines have none: that nothing is known of it isn't worth saying.
    let of_accelerators = [
        ("GPU's clock, at least", "lowest_accelerator_mhz", 0, " MHz", timeline.lowest_accelerator_mhz.is_some()),
        ("GPU's clock, at most", "highest_accelerator_mhz", 0, " MHz", timeline.highest_accelerator_mhz.is_some()),
        (
            "GPU slowed down by heat or power",
            "rounds_accelerator_slowed",
            0,
            " rounds",
            timeline.rounds_accelerator_slowed.is_some(),
        ),
    ];
    let list = element("dl").class("figures");
    let list = list.children(shown.into_iter().chain(of_accelerators).filter(|(.., known)| *known).flat_map(figure));
    let absent = (!unknown.is_empty())
        .then(|| element("p").class("beside").text(&format!("Not shown by the system: {}.", unknown.join("; "))));
    Markup::join([Markup::from(list)].into_iter().chain(absent.map(Markup::from)))
}

/// The plot's words.
pub fn caption() -> Markup {
    text("Shaded: disturbed; left aside and measured again, unless hardly anything was quiet.")
}
