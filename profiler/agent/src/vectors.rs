//! How fast dense vector arithmetic is at this moment: what networks are made of, and what lowers a core's clock as nothing else does.
//!
//! A core that computes with its widest vectors has another clock than one that doesn't, and what it is, and how often the core is
//! halted meanwhile, hangs on what a whole package of cores does: scalar loads, however short or dense, show nothing of it.

use std::hint::black_box;
use std::time::{Duration, Instant};

use fleetfoot_protocol::VectorPace;

/// Independent multiply-adds in flight, and how many each chunk makes of each: some microseconds.
const LANES: usize = 12;
const STEPS: usize = 1_000;
/// First chunks that don't count: the clock changes meanwhile.
const UNCOUNTED: usize = 8;
/// How long all of it takes, in which a core may be halted several times, and chunks at least and at most.
const LENGTH: Duration = Duration::from_micros(200);
const CHUNKS: (usize, usize) = (16, 256);
/// A chunk that took so much longer than the fastest, or more than twice as long, was interrupted: halts are shorter.
const INTERRUPTED_NS: u64 = 10_000;

/// The pace now, on the calling thread's core.
pub fn take() -> VectorPace {
    let chunk = widest();
    let start = Instant::now();
    let mut times = Vec::with_capacity(CHUNKS.1);
    while times.len() < CHUNKS.0 || (times.len() < CHUNKS.1 && start.elapsed() < LENGTH) {
        let start = Instant::now();
        chunk();
        times.push(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    summed_up(&times[UNCOUNTED..])
}

fn summed_up(times: &[u64]) -> VectorPace {
    let best_ns = times.iter().copied().min().unwrap_or_default();
    let counted = times.iter().filter(|time| **time - best_ns <= INTERRUPTED_NS.max(best_ns));
    let (sum, count) = counted.fold((0, 0), |(sum, count), time| (sum + time, count + 1));
    VectorPace { best_ns, mean_ns: sum / count.max(1) }
}

/// A chunk with the widest vectors that the core has.
fn widest() -> fn() {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the core has what the function is compiled for.
            return || unsafe { x86::of_512_bits() };
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the core has what the function is compiled for.
            return || unsafe { x86::of_256_bits() };
        }
    }
    of_128_bits
}

/// What every core of an architecture has.
fn of_128_bits() {
    let factor = black_box(0.999f32);
    // Without an instruction for it, `mul_add` is a function call.
    let step = |x: f32| if cfg!(target_arch = "aarch64") { x.mul_add(factor, factor) } else { x * factor + factor };
    let mut values = black_box([[1.0f32; 4]; LANES]);
    for _ in 0..STEPS {
        values.iter_mut().for_each(|lane| *lane = lane.map(step));
    }
    black_box(values);
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{_mm256_fmadd_ps, _mm256_set1_ps, _mm512_fmadd_ps, _mm512_set1_ps};
    use std::hint::black_box;

    use super::{LANES, STEPS};

    #[target_feature(enable = "avx512f")]
    pub(super) fn of_512_bits() {
        let factor = _mm512_set1_ps(black_box(0.999));
        let mut values = black_box([_mm512_set1_ps(1.0); LANES]);
        for _ in 0..STEPS {
            values.iter_mut().for_each(|lane| *lane = _mm512_fmadd_ps(*lane, factor, factor));
        }
        black_box(values);
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn of_256_bits() {
        let factor = _mm256_set1_ps(black_box(0.999));
        let mut values = black_box([_mm256_set1_ps(1.0); LANES]);
        for _ in 0..STEPS {
            values.iter_mut().for_each(|lane| *lane = _mm256_fmadd_ps(*lane, factor, factor));
        }
        black_box(values);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_not_computed_ahead_and_end_within_microseconds() {
        let pace = take();
        // No core starts more than four of them at once, at 8 GHz.
        assert!(pace.best_ns > (LANES * STEPS / 32) as u64 && pace.mean_ns >= pace.best_ns, "{pace:?}");
        for chunk in [widest(), of_128_bits] {
            let start = Instant::now();
            (0..10).for_each(|_| chunk());
            assert!(start.elapsed() > Duration::from_nanos((10 * LANES * STEPS / 32) as u64));
        }
    }

    #[test]
    fn halts_are_part_of_it_and_interrupts_are_not() {
        assert_eq!(summed_up(&[1_600, 8_400, 1_600, 1_600]), VectorPace { best_ns: 1_600, mean_ns: 3_300 });
        assert_eq!(summed_up(&[1_600, 70_000, 1_600, 1_600]), VectorPace { best_ns: 1_600, mean_ns: 1_600 });
        assert_eq!(summed_up(&[]), VectorPace::default());
    }
}
