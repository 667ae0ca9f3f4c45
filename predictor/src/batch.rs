//! Latencies of many architectures at once, from a cost matrix.

use std::thread;

use crate::cost::CostMatrix;

/// Architectures whose sums run side by side, so that none waits for another's addition.
const LANES: usize = 8;

/// A cost matrix laid out to be looked up fast: a cost for every byte that may stand in a decision's place, NaN where it names no candidate.
#[derive(Clone, Debug)]
pub struct BatchCosts {
    constant_ms: f64,
    rows: Vec<[f64; 256]>,
}

/// Architectures that can't be predicted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The lengths don't fit.
    #[error("{choices} choices aren't those of {architectures} architectures with {decisions} decisions each")]
    Length {
        /// Choices that were given.
        choices: usize,
        /// Latencies that were asked for.
        architectures: usize,
        /// Decisions of the space.
        decisions: usize,
    },
    /// One isn't of the space.
    #[error("architecture {0} (counted from 0) makes a choice that its decision hasn't")]
    Foreign(usize),
}

impl CostMatrix {
    /// The same costs for many architectures.
    pub fn batch(&self) -> BatchCosts {
        let rows = self.rows.iter().map(|row| {
            let mut costs = [f64::NAN; 256];
            costs.iter_mut().zip(row).for_each(|(cost, own)| *cost = *own);
            costs
        });
        BatchCosts { constant_ms: self.constant_ms, rows: rows.collect() }
    }
}

impl BatchCosts {
    /// Latencies in milliseconds of architectures that stand one behind the other, a byte for every choice: the index in its decision's
    /// candidates. Nothing is allocated.
    pub fn latencies_ms(&self, choices: &[u8], latencies_ms: &mut [f64]) -> Result<(), BatchError> {
        let decisions = self.rows.len();
        if choices.len() != decisions * latencies_ms.len() {
            let (choices, architectures) = (choices.len(), latencies_ms.len());
            return Err(BatchError::Length { choices, architectures, decisions });
        }
        if decisions == 0 {
            latencies_ms.fill(self.constant_ms);
            return Ok(());
        }
        let mut groups = choices.chunks_exact(LANES * decisions);
        let mut sums = latencies_ms.chunks_exact_mut(LANES);
        for (group, sums) in (&mut groups).zip(&mut sums) {
            let mut lanes = [self.constant_ms; LANES];
            for (decision, costs) in self.rows.iter().enumerate() {
                for (lane, sum) in lanes.iter_mut().enumerate() {
                    *sum += costs[usize::from(group[lane * decisions + decision])];
                }
            }
            sums.copy_from_slice(&lanes);
        }
        let rest = groups.remainder().chunks_exact(decisions);
        for (architecture, sum) in rest.zip(sums.into_remainder()) {
            let costs = self.rows.iter().zip(architecture).map(|(costs, choice)| costs[usize::from(*choice)]);
            *sum = costs.fold(self.constant_ms, |sum, cost| sum + cost);
        }
        match latencies_ms.iter().position(|ms| ms.is_nan()) {
            Some(foreign) => Err(BatchError::Foreign(foreign)),
            None => Ok(()),
        }
    }

    /// As [`latencies_ms`](Self::latencies_ms), on so many threads.
    pub fn latencies_ms_on(&self, threads: usize, choices: &[u8], latencies_ms: &mut [f64]) -> Result<(), BatchError> {
        let decisions = self.rows.len();
        let part = latencies_ms.len().div_ceil(threads.max(1)).max(1);
        if choices.len() != decisions * latencies_ms.len() || decisions == 0 || part == latencies_ms.len() {
            return self.latencies_ms(choices, latencies_ms);
        }
        let parts = choices.chunks(part * decisions).zip(latencies_ms.chunks_mut(part));
        thread::scope(|scope| {
            let of = |(choices, latencies_ms)| scope.spawn(move || self.latencies_ms(choices, latencies_ms));
            let running: Vec<_> = parts.map(of).collect();
            let mut done = Ok(());
            for (index, thread) in running.into_iter().enumerate() {
                let own = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                done = done.and(own.map_err(|error| match error {
                    BatchError::Foreign(foreign) => BatchError::Foreign(index * part + foreign),
                    other => other,
                }));
            }
            done
        })
    }
}
