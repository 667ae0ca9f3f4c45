//! Whether a device is in a state in which it may be measured, and waiting until it is.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fleetfoot_protocol::Health;

use crate::agent::{Agent, AgentError};
use crate::device::Hygiene;
use crate::look::hottest;

/// Time between two looks at a device that is waited for, and between two that measure.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Time between two looks at Ctrl-C.
const STOP_EVERY: Duration = Duration::from_millis(100);

impl Hygiene {
    /// Why a device in this state isn't measured; `None` if it is.
    pub fn objection(&self, health: &Health) -> Option<String> {
        if let Some(status) = health.thermal_status.filter(|status| *status > self.most_thermal_status) {
            return Some(format!("heat slows it down (Android's thermal status is {status})"));
        }
        if let Some((most, celsius)) = self.most_celsius.zip(hottest(health)).filter(|(most, celsius)| celsius > most) {
            return Some(format!("it has {celsius:.0} °C, more than {most:.0}"));
        }
        if let Some(what) = &health.slowed_by {
            return Some(format!("it is slowed down: {what}"));
        }
        let battery = health.battery.filter(|battery| battery.discharging)?;
        let percent = battery.percent.filter(|percent| *percent < self.least_battery_percent)?;
        Some(format!("its battery has {percent:.0} % and isn't charged"))
    }
}

/// Waits for a device that can't be measured as it is.
#[derive(Debug, Default)]
pub(crate) struct Steward {
    last: Option<Instant>,
    /// Whether it was waited for in vain, and hasn't been fine since: it isn't waited for again.
    gave_up: bool,
}

impl Steward {
    /// Waits until a device that was in this state a moment ago may be measured, at most as long as its configuration says: the state
    /// then, and how long that took.
    pub(crate) fn settle(
        &mut self,
        agent: &mut Agent,
        health: Health,
        stop: &AtomicBool,
    ) -> Result<(Health, Duration), AgentError> {
        let hygiene = agent.device().hygiene.clone();
        let began = Instant::now();
        let (mut health, mut is_told) = (health, false);
        while let Some(objection) = hygiene.objection(&health) {
            let most = Duration::from_secs(hygiene.wait_seconds);
            if self.gave_up {
                return Ok((health, began.elapsed()));
            }
            if !is_told {
                agent.tell(&format!("{objection}; waiting, {} s at most", most.as_secs()));
                is_told = true;
            }
            let next = Instant::now() + LOOK_EVERY.min(most);
            while Instant::now() < next && !stop.load(Ordering::Relaxed) {
                thread::sleep(STOP_EVERY);
            }
            if stop.load(Ordering::Relaxed) {
                return Ok((health, began.elapsed()));
            }
            if began.elapsed() >= most {
                agent.tell(&format!("{objection}, still; going on: intervals and `left_aside` say what that means"));
                self.gave_up = true;
                return Ok((health, began.elapsed()));
            }
            health = agent.look()?;
        }
        self.gave_up = false;
        Ok((health, began.elapsed()))
    }

    /// The same every now and then, whatever the state was: how long was waited.
    pub(crate) fn attend(&mut self, agent: &mut Agent, stop: &AtomicBool) -> Result<Duration, AgentError> {
        if self.last.is_some_and(|last| last.elapsed() < LOOK_EVERY) {
            return Ok(Duration::ZERO);
        }
        let health = agent.look()?;
        let (_, waited) = self.settle(agent, health, stop)?;
        self.last = Some(Instant::now());
        Ok(waited)
    }
}

#[cfg(test)]
mod tests {
    use fleetfoot_protocol::Battery;

    use super::*;

    #[test]
    fn a_device_that_is_hot_or_empty_isnt_measured() {
        let hygiene = Hygiene { most_celsius: Some(70.0), ..Hygiene::default() };
        let cool = Health { thermal_status: Some(0), temperatures: vec![("a".into(), 69.0)], ..Health::default() };
        assert_eq!(hygiene.objection(&cool), None);
        assert_eq!(hygiene.objection(&Health::default()), None, "a device that tells nothing");
        let objects = |health: Health, part: &str| {
            let objection = hygiene.objection(&health);
            assert!(objection.as_ref().is_some_and(|text| text.contains(part)), "{objection:?}");
        };
        objects(Health { thermal_status: Some(1), ..cool.clone() }, "thermal status is 1");
        objects(Health { temperatures: vec![("a".into(), 20.0), ("b".into(), 71.0)], ..cool.clone() }, "71 °C");
        objects(Health { slowed_by: Some("under-voltage".into()), ..cool.clone() }, "under-voltage");
        let battery = |discharging, percent| Health {
            battery: Some(Battery { percent: Some(percent), discharging, ..Battery::default() }),
            ..cool.clone()
        };
        objects(battery(true, 14.0), "14 %");
        assert_eq!(hygiene.objection(&battery(false, 14.0)), None);
        assert_eq!(hygiene.objection(&battery(true, 16.0)), None);
    }
}
