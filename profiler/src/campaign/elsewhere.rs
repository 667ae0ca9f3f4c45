//! A campaign on a device that is another machine: nobody talks while it measures, and what it keeps is taken over.

use fleetfoot_protocol::{Planned, Record, Timed};

use super::{Campaign, CampaignError};
use crate::agent::Agent;
use crate::journal::{Journal, Visit};

/// How long visits may take that are made without a word in between, and how many there may be: what a message can hold.
const TOGETHER_NS: u64 = 500_000_000;
const MOST_TOGETHER: usize = 200;

impl Campaign<'_> {
    /// Takes over what the device still keeps of a run that was ended before it was told.
    pub(super) fn recover(
        &mut self,
        agent: &mut Agent,
        mut journal: Option<&mut Journal>,
    ) -> Result<(), CampaignError> {
        let failed = |source| CampaignError::Agent { subject: "what the device keeps".to_owned(), source };
        // A new journal has the name of one that was replaced.
        if self.log.is_empty() {
            return Ok(());
        }
        for record in agent.kept(&self.session).map_err(failed)? {
            let Record { ahead_ns, planned: Planned { tag: (round, subject), timing, .. }, timed } = record;
            let Some(state) = self.states.get(subject as usize) else { continue };
            let is_next = (self.under_way.max(1)..=self.under_way + 1).contains(&round) && round > state.visited;
            let fits = (timing.batch, timing.samples) == (state.batch, state.samples);
            let is_whole = timed.samples.len() == timing.samples as usize;
            let Timed { mut samples, whole, paces, vectors } = timed;
            samples.iter_mut().for_each(|sample| sample.at_ns = sample.at_ns.saturating_add(ahead_ns));
            let Some(at_ns) = samples.first().map(|sample| sample.at_ns) else { continue };
            if !(is_next && fits && is_whole && state.warmup.is_some() && at_ns >= self.clock.end_ns()) {
                continue;
            }
            let unix_ms = self.clock.unix_ms(at_ns);
            let visit = Visit { round, subject, batch: timing.batch, unix_ms, samples, whole, paces, vectors };
            if let Some(journal) = journal.as_deref_mut() {
                journal.append(&visit)?;
            }
            self.ended = false;
            self.record(visit);
        }
        Ok(())
    }

    /// How many of these subjects are visited before anything is said: together they take about half a second.
    pub(super) fn together(&self, subjects: &[usize]) -> usize {
        let mut ns = 0;
        let known = |index: &usize| {
            let state = &self.states[*index];
            let last = state.rounds.last().map(|round| round.whole.wall_ns);
            last.unwrap_or(2 * self.plan.visit.as_nanos() as u64)
        };
        let fit = subjects.iter().take(MOST_TOGETHER).take_while(|index| {
            ns += known(index);
            ns <= TOGETHER_NS
        });
        fit.count().max(1)
    }

    /// Visits several subjects one after the other, without a word in between: those visits that were made.
    pub(super) fn visits(
        &mut self,
        agent: &mut Agent,
        subjects: &[usize],
        round: u32,
    ) -> Result<(Vec<Visit>, Result<(), CampaignError>), CampaignError> {
        let mut planned = Vec::new();
        for (position, &index) in subjects.iter().enumerate() {
            let subject = &self.subjects[index];
            let failed = |source| CampaignError::Agent { subject: subject.name.clone(), source };
            let (before, subject) = (&subjects[..position], (index, &subject.onnx));
            let model = match before {
                [] => self.residents.model(agent, subject).map(Some),
                _ => self.residents.model_beside(agent, subject, before),
            };
            let Some(model) = model.map_err(failed)? else { break };
            planned.push(((round, index as u32), model, self.states[index].timing(self.subjects[index].evict_bytes)));
        }
        let (timed, made) = agent.series(&self.session, self.clock.at_ns(0), &planned);
        let batches = planned.iter().map(|(_, _, timing)| timing.batch);
        let visits = timed.into_iter().zip(subjects.iter().zip(batches)).map(|(timed, (&index, batch))| {
            let Timed { samples, whole, paces, vectors } = timed;
            self.told(round, index, batch, samples, (whole, paces, vectors))
        });
        let visits: Vec<Visit> = visits.collect();
        let failed = |source| {
            let next = subjects.get(visits.len()).or(subjects.last());
            let subject = next.map(|index| self.subjects[*index].name.clone()).unwrap_or_default();
            CampaignError::Agent { subject, source }
        };
        let made = made.map_err(failed);
        Ok((visits, made))
    }
}
