//! What prediction of many networks costs: latencies from a cost matrix, on one thread and on all.

#![allow(clippy::print_stdout)] // What it finds is what it is for.

use std::hint::black_box;
use std::thread;
use std::time::Instant;

use fleetfoot_predictor::CostMatrix;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Architectures of one call, and calls.
const COUNT: usize = 4_000_000;
const ROUNDS: usize = 9;
const DECISIONS: usize = 21;

fn main() {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let rows = (0..DECISIONS).map(|_| (0..7).map(|_| rng.random_range(0.0..3.0)).collect()).collect();
    let Ok(costs) = CostMatrix::new(1.0, rows) else { unreachable!("costs are at least 0") };
    let batch = costs.batch();
    let choices: Vec<u8> = (0..COUNT * DECISIONS).map(|_| rng.random_range(0..7)).collect();
    let mut latencies = vec![0.0; COUNT];
    let all = thread::available_parallelism().map_or(1, usize::from);
    let mut rates = vec![Vec::new(); 2];
    for _ in 0..ROUNDS {
        for (threads, rates) in [1, all].into_iter().zip(&mut rates) {
            let start = Instant::now();
            batch.latencies_ms_on(threads, &choices, &mut latencies).unwrap_or_else(|error| panic!("{error}"));
            black_box(&latencies);
            rates.push(COUNT as f64 / start.elapsed().as_secs_f64() / 1e6);
        }
    }
    for (threads, mut rates) in [1, all].into_iter().zip(rates) {
        rates.sort_by(f64::total_cmp);
        println!(
            "{DECISIONS} decisions, {threads} threads: {:.1} million architectures a second ({:.1} to {:.1}, {ROUNDS} rounds)",
            rates[ROUNDS / 2],
            rates[0],
            rates[ROUNDS - 1]
        );
    }
}
