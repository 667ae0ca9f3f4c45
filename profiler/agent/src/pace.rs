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
/// Rounds that a word makes through all cores.
const ROUNDS: usize = 100;

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
    let token = AtomicUsize::new(0);
    let look = |place: usize, core: usize| {
        machine::pin_thread(core)?;
        meet(&ready);
        let pace = here();
        meet(&done);
        let talk_ns = talk(&token, place, cores.len(), start + COMPANY).unwrap_or_default();
        Ok(Pace { talk_ns, ..pace })
    };
    let look = &look;
    thread::scope(|scope| {
        let failed = |core: usize, why: &str| EngineError(format!("a look at core {core}: {why}"));
        let spawn = |(place, &core): (usize, &usize)| {
            let thread = thread::Builder::new().spawn_scoped(scope, move || look(place, core));
            thread.map(|thread| (core, thread)).map_err(|error| failed(core, &error.to_string()))
        };
        let threads: Vec<_> = cores.iter().enumerate().map(spawn).collect();
        let join = |thread: Result<(usize, ScopedJoinHandle<'_, Result<Pace, EngineError>>), EngineError>| {
            let (core, thread) = thread?;
            thread.join().unwrap_or_else(|_| Err(failed(core, "its thread panicked")))
        };
        Ok(worst(&threads.into_iter().map(join).collect::<Result<Vec<_>, _>>()?))
    })
}

/// What it takes in ns until the next of so many threads sees what the one before has written, over some rounds, the fastest of a
/// few times; `None` where it takes until the end.
fn talk(token: &AtomicUsize, place: usize, threads: usize, end: Instant) -> Option<u64> {
    let mut fastest = u64::MAX;
    for repeat in 0..REPEATS {
        let began = Instant::now();
        for round in 0..ROUNDS {
            let turn = (repeat * ROUNDS + round) * threads + place;
            let mut waits = 0u32;
            while token.load(Ordering::Acquire) != turn {
                std::hint::spin_loop();
                waits += 1;
                // The clock is looked at now and then only: it would be part of what is measured.
                if waits.is_multiple_of(1_000) && Instant::now() > end {
                    return None;
                }
            }
            token.store(turn + 1, Ordering::Release);
        }
        let took = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        fastest = fastest.min(took / (ROUNDS * threads) as u64);
    }
    Some(fastest.max(1))
}

/// The slowest clock, with the most contention: cores of several kinds differ in both.
fn worst(paces: &[Pace]) -> Pace {
    let chain_ns = paces.iter().map(|pace| pace.chain_ns).max().unwrap_or_default();
    let contention = paces.iter().map(contention).fold(0.0, f64::max);
    let talk_ns = paces.iter().map(|pace| pace.talk_ns).max().unwrap_or_default();
    Pace { chain_ns, wide_ns: (contention * chain_ns as f64).round() as u64, talk_ns }
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
    Pace { chain_ns: fastest(chain), wide_ns: fastest(wide), talk_ns: 0 }
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
        let pace = |chain_ns, wide_ns| Pace { chain_ns, wide_ns, talk_ns: 0 };
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
    fn threads_tell_each_other_how_far_they_are_and_wait_for_nobody_for_ever() {
        let token = AtomicUsize::new(0);
        let end = Instant::now() + Duration::from_secs(60);
        let took = thread::scope(|scope| {
            let other = scope.spawn(|| talk(&token, 1, 2, end));
            (talk(&token, 0, 2, end), other.join().unwrap())
        });
        assert!(took.0.is_some_and(|ns| ns > 0) && took.1.is_some_and(|ns| ns > 0), "{took:?}");
        assert_eq!(token.load(Ordering::Relaxed), 2 * REPEATS * ROUNDS);
        // Nobody has the first turn.
        assert_eq!(talk(&AtomicUsize::new(0), 1, 2, Instant::now()), None);
    }

    #[test]
    fn the_usual_pace_is_the_one_in_the_middle() {
        let pace = |wide_ns| Pace { chain_ns: 100, wide_ns, talk_ns: 0 };
        assert_eq!(usual(vec![pace(50), pace(90), pace(40)]), pace(50));
        assert_eq!(usual(Vec::new()), Pace::default());
    }
}
