//! The clocks, and the caches in front of them.

use std::hint::black_box;
use std::time::Instant;

use fleetfoot_protocol::{Sample, Whole};

/// Bytes of a cache line on every processor that counts.
const LINE: usize = 64;

/// Takes samples with one clock and one eviction buffer.
#[derive(Debug)]
pub struct Timer {
    start: Instant,
    evict: Vec<u8>,
}

impl Default for Timer {
    fn default() -> Self {
        Self { start: Instant::now(), evict: Vec::new() }
    }
}

impl Timer {
    /// Nanoseconds since the agent started.
    pub fn now_ns(&self) -> u64 {
        nanoseconds(self.start)
    }

    /// One sample: `batch` runs. With `evict_bytes`, as many bytes are touched before each run and `input` is read
    /// again, since in a network the layer in front has just written it.
    pub fn sample<E>(
        &mut self,
        batch: u32,
        evict_bytes: usize,
        input: &[f32],
        mut run: impl FnMut() -> Result<(), E>,
    ) -> Result<Sample, E> {
        let mut sample = Sample { at_ns: nanoseconds(self.start), wall_ns: 0, cpu_ns: 0 };
        let (stretches, runs) = if evict_bytes == 0 { (1, batch) } else { (batch, 1) };
        for _ in 0..stretches {
            if evict_bytes > 0 {
                self.touch(evict_bytes);
                black_box(input.iter().step_by(LINE / size_of::<f32>()).sum::<f32>());
            }
            let cpu = thread_cpu_ns();
            let wall = Instant::now();
            for _ in 0..runs {
                run()?;
            }
            sample.wall_ns += nanoseconds(wall);
            sample.cpu_ns += thread_cpu_ns().saturating_sub(cpu);
        }
        Ok(sample)
    }

    /// What a stretch of work takes.
    pub fn whole<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> (T, Whole) {
        let (wall, cpu) = (Instant::now(), thread_cpu_ns());
        let result = work(self);
        (result, Whole { wall_ns: nanoseconds(wall), cpu_ns: thread_cpu_ns().saturating_sub(cpu) })
    }

    /// Reads one byte a line over a buffer of this size.
    fn touch(&mut self, bytes: usize) {
        if self.evict.len() < bytes {
            // Not zero: pages that were never written are all one page.
            self.evict.resize(bytes, 1);
        }
        black_box(self.evict[..bytes].iter().step_by(LINE).fold(0u8, |sum, &byte| sum.wrapping_add(byte)));
    }
}

fn nanoseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(unix)]
fn thread_cpu_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call fills the structure that it is given.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) } != 0;
    if failed { 0 } else { time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64 }
}

#[cfg(not(unix))]
fn thread_cpu_ns() -> u64 {
    0
}
