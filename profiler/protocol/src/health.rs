//! What a machine's state is, as far as its system tells.

use serde::{Deserialize, Serialize};

/// A machine's state at a moment. What the system doesn't tell is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Health {
    /// When, in nanoseconds since the agent started.
    pub at_ns: u64,
    /// Every core that is online.
    pub cores: Vec<Core>,
    /// Processes that want to run, a mean over the last minute.
    pub load: Option<f64>,
    /// Whether cores may run faster than their nominal frequency for a while.
    pub turbo: Option<bool>,
    /// Whether the machine is a virtual one.
    pub virtual_machine: Option<bool>,
    /// Sensors and their temperatures in degrees Celsius.
    pub temperatures: Vec<(String, f64)>,
    /// Cores' worth of time that the process may use, where that is limited.
    pub quota_cores: Option<f64>,
    /// How often the limit has stopped the process.
    pub quota_stops: Option<u64>,
    /// What the system measures time by, such as `tsc`.
    pub clock: Option<String>,
    /// What the firmware favours, such as `low-power` or `performance`, where it lets that be chosen.
    pub power_profile: Option<String>,
    /// The battery, where there is one.
    pub battery: Option<Battery>,
    /// How much heat slows an Android device down: 0 not at all, 1 light, 2 moderate, 3 severe, up to 6.
    pub thermal_status: Option<u8>,
    /// What slows the device down now, as its firmware says; absent where nothing does, or it doesn't tell.
    pub slowed_by: Option<String>,
    /// Bytes of memory that the agent's process has had resident at most.
    pub peak_resident_bytes: Option<u64>,
    /// Bytes of memory that the agent's process may still have: what the system has left, or its own limits leave, whichever is less.
    pub available_bytes: Option<u64>,
    /// Meters of energy that may be read.
    pub energy: Vec<EnergyMeter>,
    /// GPUs whose state can be read, where something else than the processor computes.
    pub accelerators: Vec<Accelerator>,
}

/// A GPU's state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Accelerator {
    /// Which, such as `GPU 0`.
    pub name: String,
    /// Processes that compute on it, this one among them.
    pub processes: Option<u32>,
    /// Its clock now.
    pub mhz: Option<u32>,
    /// Whether heat slows it down now.
    pub slowed_by_heat: Option<bool>,
    /// Whether its limit of power slows it down now.
    pub slowed_by_power: Option<bool>,
    /// Whether its driver keeps it awake while no process uses it.
    pub is_kept_awake: Option<bool>,
}

/// What a part of the machine has taken since some moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EnergyMeter {
    /// The part, such as `package-0`.
    pub part: String,
    /// Energy, in microjoules.
    pub microjoules: u64,
    /// Where the meter begins at 0 again, in microjoules.
    pub wraps_at: u64,
}

impl EnergyMeter {
    /// What was taken since an earlier reading, which lies less than a turn of the meter back, in microjoules.
    pub fn since(&self, earlier: &Self) -> u64 {
        match self.microjoules.checked_sub(earlier.microjoules) {
            Some(taken) => taken,
            None => (self.wraps_at.saturating_sub(earlier.microjoules)).saturating_add(self.microjoules),
        }
    }
}

/// A core's state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Core {
    /// Its number.
    pub core: usize,
    /// Time since the system started.
    pub ticks: Ticks,
    /// Other logical cores that share its execution units.
    pub siblings: Vec<usize>,
    /// Who sets the frequency, such as `performance`.
    pub governor: Option<String>,
    /// What the processor itself is to favour when it sets the frequency, such as `balance_power`.
    pub preference: Option<String>,
    /// Its frequency now.
    pub frequency_khz: Option<u64>,
    /// The highest frequency that is permitted now.
    pub permitted_khz: Option<u64>,
    /// The highest frequency that it is made for.
    pub maximum_khz: Option<u64>,
    /// How often heat has slowed it down.
    pub throttled: Option<u64>,
}

/// How a core has spent its time, in ticks of the system's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ticks {
    /// At work, for whomever.
    pub busy: u64,
    /// Without work.
    pub idle: u64,
    /// Taken away by the machine's host for others.
    pub stolen: u64,
}

/// A battery's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Battery {
    /// Charge in percent.
    pub percent: Option<f64>,
    /// Whether the machine runs on it.
    pub discharging: bool,
    /// Its temperature in degrees Celsius.
    pub celsius: Option<f64>,
    /// Power that goes out of it, or into it, in milliwatts.
    pub milliwatts: Option<f64>,
}

impl Ticks {
    /// From one moment to a later one.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            busy: self.busy.saturating_sub(earlier.busy),
            idle: self.idle.saturating_sub(earlier.idle),
            stolen: self.stolen.saturating_sub(earlier.stolen),
        }
    }

    /// Share of the time at work, 0 to 1; 0 where no time has passed.
    pub fn busy_share(self) -> f64 {
        self.share(self.busy)
    }

    /// Share of the time that was stolen, 0 to 1; 0 where no time has passed.
    pub fn stolen_share(self) -> f64 {
        self.share(self.stolen)
    }

    fn share(self, part: u64) -> f64 {
        let total = self.busy + self.idle + self.stolen;
        if total == 0 { 0.0 } else { part as f64 / total as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::EnergyMeter;

    #[test]
    fn a_meter_that_began_anew_has_gone_on() {
        let meter = |microjoules| EnergyMeter { part: "package-0".into(), microjoules, wraps_at: 1000 };
        assert_eq!((meter(900).since(&meter(300)), meter(100).since(&meter(950))), (600, 150));
    }
}
