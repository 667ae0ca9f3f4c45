//! What a step would cost with more ranks on faster networks: a model, with constants that were measured or are said to be assumed.

use super::steps::say;

/// What carries gradients.
struct Wire {
    name: &'static str,
    /// Bytes that a rank sends in a second, and how long the shortest message takes.
    bytes_per_s: f64,
    latency_s: f64,
}

/// The first was measured (`fleetfoot search --dist-check`); the others are assumptions: nine tenths of the line, and what
/// TCP, RoCE and NVLink take to answer.
const WIRES: [Wire; 4] = [
    Wire { name: "loopback, measured", bytes_per_s: 1.65e9, latency_s: 70e-6 },
    Wire { name: "10 Gb/s", bytes_per_s: 1.1e9, latency_s: 50e-6 },
    Wire { name: "100 Gb/s", bytes_per_s: 11e9, latency_s: 15e-6 },
    Wire { name: "NVLink", bytes_per_s: 200e9, latency_s: 5e-6 },
];
/// Ranks.
const RANKS: [usize; 8] = [1, 2, 4, 8, 16, 32, 64, 128];
/// Bytes of a bucket; sums of a few numbers in a step (loss and mark, whether to stop, a fifth of the gates').
const BUCKET: f64 = 4.0 * 1048576.0;
const SMALL: f64 = 2.2;

/// A search: name, seconds of a step's whole batch on one rank, bytes of a path's gradients, steps in all.
struct Task {
    name: &'static str,
    one_rank_s: f64,
    bytes: f64,
    steps: f64,
    /// Whether each further rank brings a batch of its own; else all share one.
    each_its_own: bool,
}

const TASKS: [Task; 2] = [
    Task {
        name: "proxyless-224 at 32 x 32, 64 images a rank, a core of an EPYC each (measured: 0.080 s, 10.1 MiB)",
        one_rank_s: 0.080,
        bytes: 10.1 * 1048576.0,
        steps: 0.0,
        each_its_own: true,
    },
    Task {
        name: "ImageNet, 256 images shared by all (the authors' 200 GPU hours for 800,640 steps: 0.90 s; 15.3 MiB measured)",
        one_rank_s: 200.0 * 3600.0 / 800_640.0,
        bytes: 15.3 * 1048576.0,
        steps: 800_640.0,
        each_its_own: false,
    },
];

impl Wire {
    /// A ring: every byte is sent 2 (n - 1) / n times, every sum takes 2 (n - 1) messages one after the other.
    fn exchange_s(&self, bytes: f64, ranks: f64) -> f64 {
        let sums = (bytes / BUCKET).ceil() + SMALL;
        2.0 * (ranks - 1.0) / ranks * bytes / self.bytes_per_s + sums * 2.0 * (ranks - 1.0) * self.latency_s
    }
}

/// Prints it.
pub fn tell() {
    for task in &TASKS {
        say(&format!("\n{}\n", task.name));
        say(&format!("| ranks | {} |", WIRES.map(|wire| wire.name).join(" | ")));
        say(&format!("|---{}|", "|---".repeat(WIRES.len())));
        for ranks in RANKS {
            let count = ranks as f64;
            let compute = if task.each_its_own { task.one_rank_s } else { task.one_rank_s / count };
            let cells = WIRES.map(|wire| {
                let exchange = wire.exchange_s(task.bytes, count);
                let step = compute + exchange;
                let share = 100.0 * exchange / step;
                let hours = step * task.steps / 3600.0;
                let hours = if task.steps > 0.0 { format!(", {hours:.1} h") } else { String::new() };
                format!("{:.1} ms, {share:.0} %{hours}", 1e3 * step)
            });
            say(&format!("| {ranks} | {} |", cells.join(" | ")));
        }
    }
}
