//! How much faster searched networks are than a family of networks of equal accuracy, such as MobileNetV2 in several widths.
//!
//! `cargo bench -p fleetfoot --bench equal_accuracy -- --latencies measured.csv --found RUN… --family RUN…`, where RUN is the
//! folder of a `fleetfoot train`, all by one recipe, each network by the same seeds, and `measured.csv` is what
//! `fleetfoot measure ARCHITECTURE…` wrote of all of them. Runs of one seed are one replicate: the searched network of that
//! seed is held against the family as that seed trained it.
//!
//! At the searched network's accuracy, the family's latency is interpolated: linear between neighbours by latency, in its
//! logarithm, and of several crossings the fastest. The interval resamples the seeds with replacement. Prints the family's
//! members and one JSON line.

#![allow(clippy::print_stdout)] // What it finds is what it is for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::Parser;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

#[derive(Debug, Parser)]
struct Options {
    /// Latencies of all networks
    #[arg(long)]
    latencies: PathBuf,
    /// Trainings of searched networks
    #[arg(long, num_args = 1.., required = true)]
    found: Vec<PathBuf>,
    /// Trainings of the family
    #[arg(long, num_args = 1.., required = true)]
    family: Vec<PathBuf>,
    /// Seed of the resampling
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// What cargo says to benches
    #[arg(long, hide = true)]
    bench: bool,
}

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const RESAMPLES: usize = 10_000;

/// A training.
struct Run {
    name: String,
    seed: u64,
    latency_ms: f64,
    accuracy_percent: f64,
}

fn main() -> Outcome<()> {
    let options = Options::parse();
    let latencies = latencies(&options.latencies)?;
    let (found, family) = (runs(&options.found, &latencies)?, runs(&options.family, &latencies)?);
    let seeds: BTreeSet<u64> = found.iter().map(|run| run.seed).collect();
    let members = members(&family, &seeds)?;
    let mut spreads = Vec::new();
    for (name, (latency_ms, accuracies)) in &members {
        let (mean, sd) = mean_and_sd(&accuracies.values().copied().collect::<Vec<_>>());
        println!("{name:<14} {latency_ms:.4} ms  {mean:.2} ± {sd:.2} %");
        spreads.push((mean, sd));
    }
    for run in &found {
        println!("{:<14} {:.4} ms  {:.2} %  (seed {})", run.name, run.latency_ms, run.accuracy_percent, run.seed);
    }
    let every: Vec<u64> = seeds.iter().copied().collect();
    let each: Vec<SpeedUp> =
        every.iter().map(|&seed| speed_up(&found, &members, &[seed])).collect::<Option<_>>().ok_or("no runs")?;
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let mut resampled: Vec<f64> = (0..RESAMPLES)
        .filter_map(|_| {
            let drawn: Vec<u64> = every.iter().map(|_| every[rng.random_range(0..every.len())]).collect();
            speed_up(&found, &members, &drawn).map(|drawn| drawn.ratio)
        })
        .collect();
    resampled.sort_by(f64::total_cmp);
    let mut ratios: Vec<f64> = each.iter().map(|each| each.ratio).collect();
    ratios.sort_by(f64::total_cmp);
    let ends = spreads.iter().fold((f64::MAX, f64::MIN), |ends, (mean, _)| (ends.0.min(*mean), ends.1.max(*mean)));
    let noise = (spreads.iter().map(|(_, sd)| sd * sd).sum::<f64>() / spreads.len() as f64).sqrt();
    let line = json!({
        "seeds": every,
        "speed_up_of_each_seed": ratios,
        "median": quantile(&ratios, 0.5),
        "of_means": speed_up(&found, &members, &every).map(|all| all.ratio),
        "interval_90": [quantile(&resampled, 0.05), quantile(&resampled, 0.95)],
        // More accurate than every member: the ratio to the most accurate one, less than the speed-up.
        "beyond_the_family": each.iter().filter(|each| each.side == Side::Above).count(),
        // Less accurate than every member: there is nothing to interpolate, and the ratio is that to the fastest.
        "below_the_family": each.iter().filter(|each| each.side == Side::Below).count(),
        "family_spread_points": ends.1 - ends.0,
        "noise_points": noise,
    });
    println!("{line}");
    Ok(())
}

/// Latencies by what `measure` calls the networks.
fn latencies(path: &Path) -> Outcome<BTreeMap<String, f64>> {
    let mut reader = csv::ReaderBuilder::new().comment(Some(b'#')).from_path(path)?;
    let headers = reader.headers()?.clone();
    let column = |name: &str| {
        headers.iter().position(|header| header == name).ok_or(format!("{}: no column {name}", path.display()))
    };
    let (name, latency) = (column("architecture")?, column("latency_ms")?);
    let mut of = BTreeMap::new();
    for row in reader.records() {
        let row = row?;
        of.insert(row[name].to_owned(), row[latency].parse()?);
    }
    Ok(of)
}

fn runs(folders: &[PathBuf], latencies: &BTreeMap<String, f64>) -> Outcome<Vec<Run>> {
    let mut recipe: Option<Value> = None;
    let mut runs = Vec::new();
    for folder in folders {
        let file = folder.join("train.json");
        let what = |wrong: &str| format!("{}: {wrong}", file.display());
        let text = std::fs::read_to_string(&file).map_err(|error| what(&error.to_string()))?;
        let mut record: Value = serde_json::from_str(&text)?;
        let text = |name: &str| record[name].as_str().map(str::to_owned).ok_or(what(&format!("no {name}")));
        let (named, architecture) = (text("named")?, text("architecture")?);
        let known = latencies.get_key_value(&named).or_else(|| latencies.get_key_value(&architecture));
        let (name, latency_ms) = known.ok_or(what(&format!("{named} was not measured")))?;
        let seed = record["seed"].as_u64().ok_or(what("no seed"))?;
        let accuracy_percent = record["accuracy_percent"].as_f64().ok_or(what("no accuracy"))?;
        let mut own = record["recipe"].take();
        own["seed"] = Value::Null;
        if recipe.get_or_insert_with(|| own.clone()) != &own {
            return Err(what("trained by another recipe than the first").into());
        }
        runs.push(Run { name: name.clone(), seed, latency_ms: *latency_ms, accuracy_percent });
    }
    Ok(runs)
}

/// A network's latency, and its accuracy by seed.
type Member = (f64, BTreeMap<u64, f64>);

fn members(family: &[Run], seeds: &BTreeSet<u64>) -> Outcome<BTreeMap<String, Member>> {
    let mut members: BTreeMap<String, Member> = BTreeMap::new();
    for run in family {
        let member = members.entry(run.name.clone()).or_insert_with(|| (run.latency_ms, BTreeMap::new()));
        member.1.insert(run.seed, run.accuracy_percent);
    }
    for (name, (_, accuracies)) in &members {
        if let Some(seed) = seeds.iter().find(|seed| !accuracies.contains_key(seed)) {
            return Err(format!("{name} was not trained with seed {seed}").into());
        }
    }
    if members.len() < 2 { Err("a family of one network has no curve".into()) } else { Ok(members) }
}

/// Where the searched networks' accuracy lies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Within,
    Above,
    Below,
}

struct SpeedUp {
    ratio: f64,
    side: Side,
}

/// Of the means over these seeds, which may repeat.
fn speed_up(found: &[Run], members: &BTreeMap<String, Member>, seeds: &[u64]) -> Option<SpeedUp> {
    let drawn: Vec<&Run> = seeds.iter().flat_map(|seed| found.iter().filter(move |run| run.seed == *seed)).collect();
    let mean = |values: &mut dyn Iterator<Item = f64>, count: usize| values.sum::<f64>() / count as f64;
    let accuracy = mean(&mut drawn.iter().map(|run| run.accuracy_percent), drawn.len());
    let log_latency = mean(&mut drawn.iter().map(|run| run.latency_ms.ln()), drawn.len());
    let mut curve: Vec<(f64, f64)> = members
        .values()
        .map(|(latency, of)| (latency.ln(), mean(&mut seeds.iter().map(|seed| of[seed]), seeds.len())))
        .collect();
    curve.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (first, best) = (curve.first()?, curve.iter().max_by(|a, b| a.1.total_cmp(&b.1))?);
    let (at, side) = if accuracy <= first.1 {
        (first.0, if accuracy < first.1 { Side::Below } else { Side::Within })
    } else {
        let crossing = curve.windows(2).find(|pair| pair[0].1 < accuracy && accuracy <= pair[1].1);
        crossing.map_or((best.0, Side::Above), |pair| {
            let share = (accuracy - pair[0].1) / (pair[1].1 - pair[0].1);
            (pair[0].0 + share * (pair[1].0 - pair[0].0), Side::Within)
        })
    };
    log_latency.is_finite().then(|| SpeedUp { ratio: (at - log_latency).exp(), side })
}

fn mean_and_sd(values: &[f64]) -> (f64, f64) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (squares / (values.len() as f64 - 1.0).max(1.0)).sqrt())
}

/// Of sorted values, linear between neighbours.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    sorted[below] + (place - place.floor()) * (sorted[above] - sorted[below])
}
