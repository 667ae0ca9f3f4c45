//! Which models are loaded on a device whose memory may not hold all of a campaign's.

use std::collections::BTreeMap;

use fleetfoot_protocol::Health;

use crate::agent::{Agent, AgentError, ModelId};
use crate::model::Onnx;

/// The share of the memory that was available at first which stays so.
const SPARED: f64 = 0.25;

/// The models of subjects, by the subjects' numbers. Those that were used longest ago make room for others.
#[derive(Debug, Default)]
pub(crate) struct Residents {
    slots: BTreeMap<usize, Slot>,
    /// Counts uses.
    turn: u64,
    /// Memory that was available before any was loaded, in bytes.
    at_first: Option<u64>,
    /// Bytes of models that may be loaded at a time; `None` as long as memory isn't known to be too small for all.
    most: Option<u64>,
}

#[derive(Debug)]
struct Slot {
    model: ModelId,
    bytes: u64,
    used: u64,
}

impl Residents {
    /// An agent that has just started, with nothing loaded, on a machine in this state.
    pub(crate) fn begin(&mut self, health: &Health) {
        self.slots.clear();
        self.at_first = health.available_bytes;
    }

    /// A subject's model, loaded if it isn't yet, whatever memory is known to hold.
    pub(crate) fn model(&mut self, agent: &mut Agent, (subject, onnx): (usize, &Onnx)) -> Result<ModelId, AgentError> {
        if let Some(model) = self.known(subject) {
            return Ok(model);
        }
        self.make_room(agent, onnx.len() as u64, &[])?;
        self.load(agent, subject, onnx)
    }

    /// The same; `None` where there is no room for it beside those subjects' that have to be `kept`.
    pub(crate) fn model_beside(
        &mut self,
        agent: &mut Agent,
        (subject, onnx): (usize, &Onnx),
        kept: &[usize],
    ) -> Result<Option<ModelId>, AgentError> {
        if let Some(model) = self.known(subject) {
            return Ok(Some(model));
        }
        self.make_room(agent, onnx.len() as u64, kept)?;
        if self.is_too_much(onnx.len() as u64) {
            return Ok(None);
        }
        self.load(agent, subject, onnx).map(Some)
    }

    fn known(&mut self, subject: usize) -> Option<ModelId> {
        self.turn += 1;
        let slot = self.slots.get_mut(&subject)?;
        slot.used = self.turn;
        Some(slot.model)
    }

    fn load(&mut self, agent: &mut Agent, subject: usize, onnx: &Onnx) -> Result<ModelId, AgentError> {
        let (model, bytes) = (agent.load(onnx)?, onnx.len() as u64);
        self.slots.insert(subject, Slot { model, bytes, used: self.turn });
        if self.learn(agent.available_bytes()) {
            let mib = self.most.unwrap_or_default() >> 20;
            agent.tell(&format!(
                "its memory doesn't hold more than {mib} MiB of models at a time: they are loaded anew whenever it is their turn"
            ));
        }
        Ok(model)
    }

    /// Unloads all.
    pub(crate) fn clear(&mut self, agent: &mut Agent) -> Result<(), AgentError> {
        std::mem::take(&mut self.slots).into_values().try_for_each(|slot| agent.unload(slot.model))
    }

    fn bytes(&self) -> u64 {
        self.slots.values().map(|slot| slot.bytes).sum()
    }

    fn is_too_much(&self, more: u64) -> bool {
        self.most.is_some_and(|most| self.bytes() + more > most)
    }

    fn make_room(&mut self, agent: &mut Agent, more: u64, kept: &[usize]) -> Result<(), AgentError> {
        while self.is_too_much(more) {
            let others = self.slots.iter().filter(|(subject, _)| !kept.contains(subject));
            let Some((&oldest, _)) = others.min_by_key(|(_, slot)| slot.used) else { return Ok(()) };
            if let Some(slot) = self.slots.remove(&oldest) {
                agent.unload(slot.model)?;
            }
        }
        Ok(())
    }

    /// Takes note of the memory that is available with what is loaded now; whether that is the first time that it is too little.
    fn learn(&mut self, available: Option<u64>) -> bool {
        let Some((at_first, now)) = self.at_first.zip(available) else { return false };
        let (permitted, taken) = ((1.0 - SPARED) * at_first as f64, at_first.saturating_sub(now) as f64);
        if taken <= permitted {
            return false;
        }
        let fits = (self.bytes() as f64 * permitted / taken) as u64;
        let is_first = self.most.is_none();
        self.most = Some(self.most.map_or(fits, |most| most.min(fits)));
        is_first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(sizes: &[u64], at_first: u64) -> Residents {
        let health = Health { available_bytes: Some(at_first), ..Health::default() };
        let mut residents = Residents::default();
        residents.begin(&health);
        for (subject, &bytes) in sizes.iter().enumerate() {
            residents.slots.insert(subject, Slot { model: ModelId::default(), bytes, used: subject as u64 });
        }
        residents
    }

    #[test]
    fn as_much_is_loaded_as_three_quarters_of_the_memory_hold() {
        let mut residents = with(&[100; 10], 4000);
        assert!(!residents.learn(None) && !residents.learn(Some(1000)) && residents.most.is_none());
        // 1000 bytes of models took 3600 of memory; 3000 are permitted.
        assert!(residents.learn(Some(400)));
        assert_eq!(residents.most, Some(833));
        assert!(residents.is_too_much(0) && !residents.learn(Some(300)));
        assert_eq!(residents.most, Some(810), "what was learnt first is never the last word");
        assert!(!residents.learn(Some(399)));
        assert_eq!(residents.most, Some(810));
        residents.begin(&Health::default());
        assert!(residents.slots.is_empty() && residents.most == Some(810), "another process is on the same machine");
    }
}
