//! Many architectures at once: the same latencies as one by one, and nothing allocated on the way.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use fleetfoot_predictor::{BatchError, CostMatrix};
use fleetfoot_space::Architecture;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The system's allocator, which counts for each thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every request is handed on as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn matrix(decisions: usize) -> CostMatrix {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let rows = (0..decisions).map(|_| (0..7).map(|_| rng.random_range(0.0..3.0)).collect());
    CostMatrix::new(1.5, rows.collect()).unwrap()
}

fn random_choices(count: usize, decisions: usize) -> Vec<u8> {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    (0..count * decisions).map(|_| rng.random_range(0..7)).collect()
}

#[test]
fn latencies_are_those_of_one_by_one_whatever_the_number_and_the_threads() {
    for decisions in [1, 10, 21] {
        let costs = matrix(decisions);
        for count in [0, 1, 7, 8, 9, 1000] {
            let choices = random_choices(count, decisions);
            for threads in [1, 2, 3, 64] {
                let mut latencies = vec![0.0; count];
                costs.batch().latencies_ms_on(threads, &choices, &mut latencies).unwrap();
                for (own, ms) in choices.chunks(decisions).zip(&latencies) {
                    let architecture = Architecture::new(own.iter().map(|&c| usize::from(c)).collect()).unwrap();
                    assert!((costs.latency_ms(&architecture) - ms).abs() < 1e-12);
                }
            }
        }
    }
}

#[test]
fn what_is_no_architecture_is_an_error_that_says_which() {
    let batch = matrix(21).batch();
    let mut choices = random_choices(100, 21);
    choices[21 * 77 + 3] = 7;
    choices[21 * 90] = 255;
    let mut latencies = vec![0.0; 100];
    for threads in [1, 3] {
        assert_eq!(batch.latencies_ms_on(threads, &choices, &mut latencies), Err(BatchError::Foreign(77)));
    }
    let short = batch.latencies_ms(&choices[1..], &mut latencies).unwrap_err();
    assert!(short.to_string().contains("2099 choices aren't those of 100 architectures with 21 decisions"), "{short}");
}

#[test]
fn nothing_is_allocated() {
    let (batch, choices) = (matrix(21).batch(), random_choices(10_000, 21));
    let mut latencies = vec![0.0; 10_000];
    let before = ALLOCATIONS.get();
    batch.latencies_ms(&choices, &mut latencies).unwrap();
    assert_eq!(ALLOCATIONS.get() - before, 0);
    assert!(latencies.iter().all(|ms| *ms > 1.5));
    drop(std::hint::black_box(vec![1]));
    assert_eq!(ALLOCATIONS.get() - before, 1, "the counter counts");
}
