//! How fast the core is at this moment: two loads that never change, of some microseconds each.

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use fleetfoot_protocol::Pace;

use crate::machine;

/// Links of the chain; each waits for the one before, about four cycles.
const LINKS: u32 = 5_000;
/// Steps of the wide load, and its independent values: together more operations than any core can start at once, so that
/// whoever shares the core's front end slows it down, whatever they compute.
const STEPS: u32 = 1_000;
const LANES: usize = 10;
/// Times that each load runs; the fastest counts, since an interrupt only ever adds.
const REPEATS: usize = 3;

/// The pace now, on the calling thread's core, or on these at the same time: each load's is that of the slowest. The chain
/// follows the clock alone; the wide load also tells of somebody else on the core's units.
pub fn take(cores: &[usize]) -> Pace {
    if cores.len() < 2 {
        return here();
    }
    let start = Barrier::new(cores.len());
    let on = |core: usize| {
        let start = &start;
        move || {
            // A thread that can't be pinned tells of wherever it runs.
            let _ = machine::pin_thread(core);
            start.wait();
            here()
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = cores.iter().map(|&core| scope.spawn(on(core))).collect();
        let paces = threads.into_iter().filter_map(|thread| thread.join().ok());
        paces.reduce(|a, b| Pace { chain_ns: a.chain_ns.max(b.chain_ns), wide_ns: a.wide_ns.max(b.wide_ns) })
    })
    .unwrap_or_default()
}

/// The one in the middle by contention, of several.
pub fn usual(mut paces: Vec<Pace>) -> Pace {
    let contention = |pace: &Pace| pace.wide_ns as f64 / pace.chain_ns.max(1) as f64;
    paces.sort_by(|a, b| contention(a).total_cmp(&contention(b)));
    paces.get(paces.len() / 2).copied().unwrap_or_default()
}

fn here() -> Pace {
    Pace { chain_ns: fastest(chain), wide_ns: fastest(wide) }
}

fn fastest(load: fn()) -> u64 {
    let time = |_| {
        let start = Instant::now();
        load();
        u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    };
    (0..REPEATS).map(time).min().unwrap_or_default()
}

fn chain() {
    // Multiplication and shift in turns: steps can neither be joined nor computed ahead.
    let step = |x: u64, _| x.wrapping_mul(6_364_136_223_846_793_005) ^ (x >> 29);
    black_box((0..LINKS).fold(black_box(1), step));
}

fn wide() {
    let mut values: [u64; LANES] = black_box(std::array::from_fn(|lane| lane as u64));
    let addend = black_box(0x9e37_79b9_7f4a_7c15);
    for _ in 0..STEPS {
        values.iter_mut().for_each(|x| *x ^= x.rotate_left(7).wrapping_add(addend));
    }
    black_box(values);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_are_not_computed_ahead_and_end_within_microseconds() {
        let pace = take(&[]);
        // Far below what any processor of today can do, had the loads been optimised away.
        assert!(pace.chain_ns > u64::from(LINKS) / 4 && pace.wide_ns > u64::from(STEPS) / 10, "{pace:?}");
    }

    #[test]
    fn the_pace_of_several_cores_is_that_of_the_slowest() {
        let cores = machine::allowed();
        let pace = take(&[cores[0], cores[0], cores[cores.len() - 1]]);
        assert!(pace.chain_ns > u64::from(LINKS) / 4 && pace.wide_ns > u64::from(STEPS) / 10, "{pace:?}");
    }

    #[test]
    fn the_usual_pace_is_the_one_in_the_middle() {
        let pace = |wide_ns| Pace { chain_ns: 100, wide_ns };
        assert_eq!(usual(vec![pace(50), pace(90), pace(40)]), pace(50));
        assert_eq!(usual(Vec::new()), Pace::default());
    }
}
