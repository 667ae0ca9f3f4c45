//! A campaign's time.

use std::time::{SystemTime, UNIX_EPOCH};

use fleetfoot_protocol::{Health, Sample};

use crate::journal::Visit;

/// The campaign's time, which goes on over the agents that it uses one after the other.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock {
    /// Unix time in milliseconds at which the campaign began; `None` before its first visit.
    began_unix_ms: Option<u64>,
    /// End of the last sample, in ns of the campaign.
    end_ns: u64,
    /// What the campaign's time is ahead of the agent's, in ns; agents that start later than the campaign are behind.
    ahead_ns: u64,
}

impl Clock {
    /// Goes on behind a visit that was made.
    pub(crate) fn pass(&mut self, visit: &Visit) {
        let (Some(first), Some(last)) = (visit.samples.first(), visit.samples.last()) else { return };
        self.began_unix_ms.get_or_insert(visit.unix_ms.saturating_sub(first.at_ns / 1_000_000));
        self.end_ns = self.end_ns.max(last.at_ns.saturating_add(last.wall_ns));
    }

    /// Sets the campaign's time against an agent's. No time passes for a simulation while nobody measures.
    pub(crate) fn set(&mut self, health: &Health, is_simulated: bool) {
        let (now_ns, unix_ms) = (health.at_ns, unix_ms());
        self.ahead_ns = match self.began_unix_ms {
            _ if is_simulated => self.end_ns.saturating_sub(now_ns),
            // A clock that was set back must not put later samples in front of earlier ones.
            Some(began) => {
                let since_ns = unix_ms.saturating_sub(began).saturating_mul(1_000_000).max(self.end_ns);
                since_ns.saturating_sub(now_ns)
            }
            None => 0,
        };
        if is_simulated {
            self.began_unix_ms = Some(0);
        } else {
            self.began_unix_ms.get_or_insert(unix_ms.saturating_sub(now_ns / 1_000_000));
        }
    }

    /// A moment of the agent in the campaign's time.
    pub(crate) fn at_ns(&self, agent_ns: u64) -> u64 {
        agent_ns.saturating_add(self.ahead_ns)
    }

    /// End of the last sample, in ns of the campaign.
    pub(crate) fn end_ns(&self) -> u64 {
        self.end_ns
    }

    /// Samples of the agent in the campaign's time.
    pub(crate) fn tell(&self, samples: Vec<Sample>) -> Vec<Sample> {
        let at = |sample: Sample| Sample { at_ns: self.at_ns(sample.at_ns), ..sample };
        samples.into_iter().map(at).collect()
    }

    /// Unix time in milliseconds of a moment of the campaign.
    pub(crate) fn unix_ms(&self, at_ns: u64) -> u64 {
        self.began_unix_ms.unwrap_or_default().saturating_add(at_ns / 1_000_000)
    }
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
