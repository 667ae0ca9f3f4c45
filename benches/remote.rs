//! What measuring on another machine costs and changes: profiles here and there in turns, with the same plan, on a device whose processor is
//! this one's (an adbd or sshd on this machine).
//!
//!     cargo bench -p fleetfoot --bench remote -- DEVICE.toml [SPACE [ROUNDS [REPEATS]]]

#![allow(clippy::print_stdout)] // What it finds is what it is for.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use fleetfoot_profiler::{Comparison, LatencyTable};

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let Some(device) = arguments.next() else {
        eprintln!("which device? cargo bench -p fleetfoot --bench remote -- DEVICE.toml [SPACE [ROUNDS [REPEATS]]]");
        return;
    };
    let space = arguments.next().unwrap_or_else(|| "fashion-28".to_owned());
    let number =
        |text: Option<String>, otherwise: usize| text.map_or(otherwise, |text| text.parse().expect("a number"));
    let (rounds, repeats) = (number(arguments.next(), 25), number(arguments.next(), 3));
    let folder = tempfile::tempdir().expect("a folder");
    let path = |whose: &str, repeat: usize| folder.path().join(format!("{whose}-{repeat}.csv"));
    // The agent is sent before anything counts.
    profile(&device, &space, 2, &path("first", 0));
    let mut ratios = Vec::new();
    for repeat in 0..repeats {
        let mut seconds = [0.0, 0.0];
        // Who is first changes.
        for which in [repeat % 2, 1 - repeat % 2] {
            let (name, whose) = [("local-cpu", "here"), (device.as_str(), "there")][which];
            seconds[which] = profile(name, &space, rounds, &path(whose, repeat));
        }
        let ratio = seconds[1] / seconds[0];
        println!(
            "{space}, {rounds} rounds: here {:.1} s, on {device} {:.1} s, ratio {ratio:.3}",
            seconds[0], seconds[1]
        );
        ratios.push(ratio);
    }
    ratios.sort_by(f64::total_cmp);
    println!(
        "wall time there over here: {:.3} in the median ({:.3} to {:.3})",
        ratios[repeats / 2],
        ratios[0],
        ratios[repeats - 1]
    );
    let pairs = |a: &str, b: &str| {
        let all = (0..repeats).flat_map(|one| (0..repeats).map(move |other| (one, other)));
        let mut apart: Vec<f64> = all
            .filter(|(one, other)| a != b || one < other)
            .map(|(one, other)| apart(&path(a, one), &path(b, other)))
            .collect();
        apart.sort_by(f64::total_cmp);
        apart
    };
    for (a, b) in [("here", "here"), ("there", "there"), ("here", "there")] {
        let apart = pairs(a, b);
        if let (Some(least), Some(most)) = (apart.first(), apart.last()) {
            let middle = apart[apart.len() / 2];
            println!(
                "units' |difference| in the median, {a} and {b}, {} pairs: {middle:.2} % ({least:.2} to {most:.2})",
                apart.len()
            );
        }
    }
}

/// Seconds that a profile takes, from its start to its end.
fn profile(device: &str, space: &str, rounds: usize, table: &Path) -> f64 {
    let rounds = rounds.to_string();
    let began = Instant::now();
    let mut command = Command::new(PathBuf::from(env!("CARGO_BIN_EXE_fleetfoot")));
    command.args(["profile", "--space", space, "--device", device, "--min-rounds", &rounds, "--max-rounds", &rounds]);
    let status =
        command.arg("-o").arg(table).stdout(Stdio::null()).stderr(Stdio::null()).status().expect("fleetfoot runs");
    assert!(status.success(), "profile on {device}: see what it says by itself");
    began.elapsed().as_secs_f64()
}

fn apart(a: &Path, b: &Path) -> f64 {
    let table = |path: &Path| LatencyTable::read(path).expect("a table").0;
    Comparison::new(&table(a), &table(b)).abs_percent(0.5).expect("units")
}
