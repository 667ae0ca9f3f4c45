//! How fast the core is at this moment: two loads that never change, of some microseconds each.

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use fleetfoot_protocol::{EngineError, Pace};

use crate::machine;

/// Links of the chain; each waits for the one before, about four cycles.
const LINKS: u32 = 5_000;
/// Steps of the wide load, and its independent values: together more operations than any core can start at once, so that
/// whoever shares the core's front end slows it down, whatever they compute.
const STEPS: u32 = 1_000;
const LANES: usize = 10;
/// Times that each load runs; the fastest counts, since an interrupt only ever adds.
const REPEATS: usize = 3;

/// Time after which cores no longer wait for each other: one that somebody else has taken is looked at when it is free again.
const COMPANY: Duration = Duration::from_millis(5);

/// The pace now, on the calling thread's core, or the worst of these cores, each while the others work, as they do in a run: two cores
/// may be siblings, or a host may put both on one of its own for a while. The chain follows the clock alone; the wide load also
/// tells of somebody else on the core's units.
pub fn take(cores: &[usize]) -> Result<Pace, EngineError> {
    if cores.len() < 2 {
        return Ok(here());
    }
    let (ready, done, start) = (AtomicUsize::new(0), AtomicUsize::new(0), Instant::now());
    // Works until all have come to this point.
    let meet = |count: &AtomicUsize| {
        count.fetch_add(1, Ordering::Relaxed);
        while count.load(Ordering::Relaxed) < cores.len() && start.elapsed() < COMPANY {
            wide();
        }
    };
    let look = |core: usize| {
        machine::pin_thread(core)?;
        meet(&ready);
        let pace = here();
        meet(&done);
        Ok(pace)
    };
    let look = &look;
    thread::scope(|scope| {
        let failed = |core: usize, why: &str| EngineError(format!("a look at core {core}: {why}"));
        let spawn = |&core: &usize| {
            let thread = thread::Builder::new().spawn_scoped(scope, move || look(core));
            thread.map(|thread| (core, thread)).map_err(|error| failed(core, &error.to_string()))
        };
        let threads: Vec<_> = cores.iter().map(spawn).collect();
        let join = |thread: Result<(usize, ScopedJoinHandle<'_, Result<Pace, EngineError>>), EngineError>| {
            let (core, thread) = thread?;
            thread.join().unwrap_or_else(|_| Err(failed(core, "its thread panicked")))
        };
        Ok(worst(&threads.into_iter().map(join).collect::<Result<Vec<_>, _>>()?))
    })
}

/// The slowest clock, with the most contention: cores of several kinds differ in both.
fn worst(paces: &[Pace]) -> Pace {
    let chain_ns = paces.iter().map(|pace| pace.chain_ns).max().unwrap_or_default();
    let contention = paces.iter().map(contention).fold(0.0, f64::max);
    Pace { chain_ns, wide_ns: (contention * chain_ns as f64).round() as u64 }
}

fn contention(pace: &Pace) -> f64 {
    pace.wide_ns as f64 / pace.chain_ns.max(1) as f64
}

/// The one in the middle by contention, of several.
pub fn usual(mut paces: Vec<Pace>) -> Pace {
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
        let pace = take(&[]).unwrap();
        // Far below what any processor of today can do, had the loads been optimised away.
        assert!(pace.chain_ns > u64::from(LINKS) / 4 && pace.wide_ns > u64::from(STEPS) / 10, "{pace:?}");
    }

    #[test]
    fn the_pace_of_several_cores_is_that_of_the_slowest_clock_and_the_most_contention() {
        let pace = |chain_ns, wide_ns| Pace { chain_ns, wide_ns };
        // A slower core that is alone, a faster one with somebody else on it.
        assert_eq!(worst(&[pace(10_000, 4_500), pace(5_000, 4_000)]), pace(10_000, 8_000));
        assert_eq!(worst(&[pace(5_000, 2_000), pace(10_000, 4_500)]), pace(10_000, 4_500));
        assert_eq!(worst(&[]), Pace::default());
        let cores = machine::allowed();
        let looked = take(&[cores[0], cores[cores.len() - 1]]).unwrap();
        assert!(looked.chain_ns > u64::from(LINKS) / 4 && looked.wide_ns > u64::from(STEPS) / 10, "{looked:?}");
        // Nobody has so many cores.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        assert!(take(&[cores[0], 100_000]).unwrap_err().0.contains("core 100000"));
    }

    #[test]
    fn the_usual_pace_is_the_one_in_the_middle() {
        let pace = |wide_ns| Pace { chain_ns: 100, wide_ns };
        assert_eq!(usual(vec![pace(50), pace(90), pace(40)]), pace(50));
        assert_eq!(usual(Vec::new()), Pace::default());
    }
}
