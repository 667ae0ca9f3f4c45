//! What the system shows of the machine during a campaign: read once a round and kept in the journal.

use fleetfoot_protocol::{Accelerator, Core, Health};
use serde::{Deserialize, Serialize};

/// The machine's state at the end of a round, and what happened since the look before. What the system doesn't tell is
/// absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Look {
    /// The round.
    pub round: u32,
    /// When, in nanoseconds since the campaign began.
    pub at_ns: u64,
    /// Processes that want to run, a mean over the last minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<f64>,
    /// Share of the measuring cores' time that the machine's host took for others, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stolen: Option<f64>,
    /// How many of the other cores were at work, in the mean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub others_busy: Option<f64>,
    /// The lowest frequency of the measuring cores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frequency_mhz: Option<f64>,
    /// The hottest sensor, in degrees Celsius.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hottest_celsius: Option<f64>,
    /// How often heat slowed a measuring core down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttled: Option<u64>,
    /// How often the limit of the process' control group stopped it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota_stops: Option<u64>,
    /// Whether the machine runs on its battery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_battery: Option<bool>,
    /// The battery's charge, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub battery_percent: Option<f64>,
    /// Its temperature, in degrees Celsius.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub battery_celsius: Option<f64>,
    /// How much heat slows an Android device down: 0 not at all, up to 6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thermal_status: Option<u8>,
    /// What of that the device's configuration tolerates.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tolerated_status: u8,
    /// What slows the device down, as its firmware says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slowed_by: Option<String>,
    /// How long was waited in its round for the device to cool down, or its battery to be charged, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waited_s: Option<f64>,
    /// The lowest clock of the GPUs at work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerator_mhz: Option<f64>,
    /// Whether heat, or its limit of power, slows a GPU down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerator_slowed: Option<bool>,
}

impl Look {
    /// Whether the device says that heat or its supply slowed it down.
    pub fn is_slowed(&self) -> bool {
        self.thermal_status.is_some_and(|status| status > self.tolerated_status) || self.slowed_by.is_some()
    }

    /// From the machine's state at two moments; `pinned` are the cores that measure.
    pub fn between(before: &Health, after: &Health, pinned: &[usize], round: u32, at_ns: u64) -> Self {
        let pairs = after.cores.iter().filter_map(|now| {
            let then = before.cores.iter().find(|then| then.core == now.core)?;
            Some((then, now))
        });
        let (ours, others): (Vec<_>, Vec<_>) = pairs.partition(|(_, now)| pinned.contains(&now.core));
        let ticks = |(then, now): &(&Core, &Core)| now.ticks.since(then.ticks);
        let largest = |values: &mut dyn Iterator<Item = f64>| values.reduce(f64::max);
        let throttled = |(then, now): &(&Core, &Core)| Some(now.throttled?.saturating_sub(then.throttled?));
        let at_work = after.accelerators.iter().filter(|gpu| gpu.processes != Some(0));
        let slowed = |gpu: &Accelerator| {
            [gpu.slowed_by_heat, gpu.slowed_by_power].into_iter().flatten().reduce(|heat, power| heat || power)
        };
        Self {
            round,
            at_ns,
            load: after.load,
            stolen: largest(&mut ours.iter().map(|core| ticks(core).stolen_share())),
            others_busy: (!others.is_empty()).then(|| others.iter().map(|core| ticks(core).busy_share()).sum()),
            frequency_mhz: ours.iter().filter_map(|(_, now)| Some(now.frequency_khz? as f64 / 1000.0)).reduce(f64::min),
            hottest_celsius: hottest(after),
            throttled: ours
                .iter()
                .map(throttled)
                .collect::<Option<Vec<u64>>>()
                .filter(|all| !all.is_empty())
                .map(|all| all.iter().sum()),
            quota_stops: after.quota_stops.zip(before.quota_stops).map(|(now, then)| now.saturating_sub(then)),
            on_battery: after.battery.map(|battery| battery.discharging),
            battery_percent: after.battery.and_then(|battery| battery.percent),
            battery_celsius: after.battery.and_then(|battery| battery.celsius),
            thermal_status: after.thermal_status,
            tolerated_status: 0,
            slowed_by: after.slowed_by.clone(),
            waited_s: None,
            accelerator_mhz: at_work.filter_map(|gpu| gpu.mhz).map(f64::from).reduce(f64::min),
            accelerator_slowed: after.accelerators.iter().filter_map(slowed).reduce(|a, b| a || b),
        }
    }
}

fn is_zero(number: &u8) -> bool {
    *number == 0
}

/// The hottest sensor, in degrees Celsius.
pub(crate) fn hottest(health: &Health) -> Option<f64> {
    health.temperatures.iter().map(|(_, celsius)| *celsius).reduce(f64::max)
}

#[cfg(test)]
mod tests {
    use fleetfoot_protocol::{Battery, Ticks};

    use super::*;

    #[test]
    fn what_happened_between_two_moments_is_told_for_the_cores_that_measure() {
        let core = |core, busy, stolen, throttled| Core {
            core,
            ticks: Ticks { busy, idle: 1000 - busy - stolen, stolen },
            frequency_khz: Some(2_000_000 + core as u64),
            throttled: Some(throttled),
            ..Core::default()
        };
        let before = Health {
            cores: (0..3).map(|index| Core { throttled: Some(1), ..Core { core: index, ..Core::default() } }).collect(),
            quota_stops: Some(2),
            ..Health::default()
        };
        let after = Health {
            cores: vec![core(0, 500, 400, 9), core(1, 900, 100, 4), core(2, 250, 0, 1)],
            load: Some(1.5),
            temperatures: vec![("a".into(), 40.0), ("b".into(), 60.0)],
            quota_stops: Some(7),
            battery: Some(Battery { discharging: true, ..Battery::default() }),
            accelerators: vec![
                Accelerator {
                    mhz: Some(1500),
                    processes: Some(1),
                    slowed_by_heat: Some(false),
                    ..Accelerator::default()
                },
                Accelerator {
                    mhz: Some(300),
                    processes: Some(0),
                    slowed_by_power: Some(true),
                    ..Accelerator::default()
                },
            ],
            ..Health::default()
        };
        let look = Look::between(&before, &after, &[1], 3, 5);
        assert_eq!((look.round, look.at_ns, look.load), (3, 5, Some(1.5)));
        assert_eq!((look.stolen, look.others_busy), (Some(0.1), Some(0.75)));
        assert_eq!((look.frequency_mhz, look.hottest_celsius), (Some(2000.001), Some(60.0)));
        assert_eq!((look.throttled, look.quota_stops, look.on_battery), (Some(3), Some(5), Some(true)));
        assert_eq!((look.accelerator_mhz, look.accelerator_slowed), (Some(1500.0), Some(true)));
    }

    #[test]
    fn a_machine_that_shows_nothing_leaves_a_line_that_says_when() {
        let look = Look::between(&Health::default(), &Health::default(), &[0], 2, 7);
        assert_eq!(serde_json::to_string(&look).unwrap(), r#"{"round":2,"at_ns":7}"#);
        assert_eq!(serde_json::from_str::<Look>(r#"{"round":2,"at_ns":7}"#).unwrap(), look);
    }
}
