//! An example: a network is searched with data and a loss of one's own, within a limit, and trained.
//!
//! How many dots, 0 to 9, are in a picture? A dot that is missed costs more than one that isn't there, and five cost more than
//! one, none of which cross entropy knows. `dots.rs` makes the pictures, `criterion.rs` says what an answer is worth; the rest is the library's.
//!
//! ```sh
//! cargo run --release -p own-task -- -o runs/dots --max-macs 4M
//! cargo run --release -p own-task -- -o runs/dots --table data/epyc-milan/fashion-28.csv --target-ms 0.12
//! ```

mod criterion;
mod dots;

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context as _, Result};
use clap::Parser;
use criterion::{Counting, mean_cost};
use dots::{COUNTS, Dots};
use fleetfoot_predictor::{TablePredictor, cost_matrix};
use fleetfoot_search::{
    Bound, Criterion, Dataset, Demand, Found, Learning, Limit, Limits, Recipe, Search, SearchSettings, Training,
    checkpoint_path, keep_memory,
};
use fleetfoot_space::SearchSpace;
use serde_json::json;

/// Pictures that everything is learned from, those of them that gates learn from, and others to test with.
const TRAIN: usize = 3000;
const VALIDATION: usize = 600;
const TEST: usize = 1000;
/// Images of a step.
const BATCH: usize = 32;

/// Search the network that counts dots best within a limit, and train it.
#[derive(Debug, Parser)]
#[command(name = "own-task", max_term_width = 100)]
struct Options {
    /// Folder of the run: one that was stopped is gone on with
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Search space with 10 classes and images of 1 x 28 x 28: a preset's name or a TOML file
    #[arg(long, default_value = "fashion-28")]
    space: String,
    /// Latency table of the space (from `fleetfoot profile`)
    #[arg(long, value_name = "FILE", requires = "target_ms")]
    table: Option<PathBuf>,
    /// Latency that the network may have on the table's device
    #[arg(long, value_name = "MS", requires = "table")]
    target_ms: Option<f64>,
    /// Multiply-accumulates that the network may need, in millions; where no table is given
    #[arg(long, value_name = "MILLIONS", default_value_t = 4.0, conflicts_with = "table")]
    max_macs: f64,
    /// What networks learn by
    #[arg(long, value_enum, default_value_t = Counting::Costs)]
    loss: Counting,
    /// Epochs of the training at the end
    #[arg(long, value_name = "N", default_value_t = 3)]
    epochs: usize,
    /// Seed of everything random
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Threads
    #[arg(long, value_name = "N", default_value_t = 2)]
    threads: i32,
}

fn main() -> Result<()> {
    keep_memory();
    let options = Options::parse();
    tch::set_num_threads(options.threads);
    let space = SearchSpace::load(&options.space)?;
    let dataset = Dataset {
        name: "dots".to_owned(),
        train: Dots { seed: 1, pictures: TRAIN }.into(),
        test: Dots { seed: 2, pictures: TEST }.into(),
    };
    let criterion: Arc<dyn Criterion> = Arc::new(options.loss);
    let found = search(&options, &space, &dataset, &criterion)?;
    let recipe = Recipe {
        epochs: options.epochs,
        batch: BATCH,
        train_images: TRAIN,
        shift: 0,
        seed: options.seed,
        ..Recipe::default()
    };
    let training = Training::new(&space, &found.architecture, &dataset, recipe)?;
    let mut training = training.with_criterion(Arc::clone(&criterion));
    let untrained = training.evaluate()?;
    run(&mut training, &options.output.join("train"), Training::restore)?;
    let trained = training.evaluate()?;
    let result = json!({
        "architecture": found.architecture.to_string(),
        "limits": found.limits,
        "criterion": criterion.name(),
        "loss": trained.loss,
        "mean_cost": mean_cost(trained.accuracy_percent, COUNTS),
        "mean_cost_untrained": mean_cost(untrained.accuracy_percent, COUNTS),
    });
    writeln!(io::stdout(), "{result:#}")?;
    Ok(())
}

/// The network that a search leads to.
fn search(options: &Options, space: &SearchSpace, dataset: &Dataset, criterion: &Arc<dyn Criterion>) -> Result<Found> {
    let settings = SearchSettings {
        warmup_epochs: 2,
        search_epochs: 2,
        inherit_after: 1,
        batch: BATCH,
        gate_batch: 2 * BATCH,
        train_images: TRAIN - VALIDATION,
        validation_images: VALIDATION,
        warmup_lr: 0.1,
        search_lr: 0.05,
        alpha_lr: 0.02,
        weight_steps: 2,
        seed: options.seed,
        ..SearchSettings::default()
    };
    let search = Search::new(space, limits(options, space)?, dataset, settings)?;
    let mut search = search.with_criterion(Arc::clone(criterion));
    run(&mut search, &options.output.join("search"), Search::restore)?;
    let found = search.refined(VALIDATION / 2, &mut |exchange| eprintln!("{exchange}"))?;
    let score = search.judge(&found.architecture)?;
    let cost = mean_cost(100.0 * score.right / VALIDATION as f64, COUNTS);
    eprintln!("found {}: an answer costs {cost:.2} on average, by the supernet", found.architecture);
    Ok(found)
}

/// What the network may need: latency by a table, or multiply-accumulates.
fn limits(options: &Options, space: &SearchSpace) -> Result<Limits> {
    let (Some(table), Some(target_ms)) = (&options.table, options.target_ms) else {
        let (name, unit) = ("multiply-accumulates".to_owned(), "MACs".to_owned());
        let (demand, at_most) = (Demand::macs(space)?, 1e6 * options.max_macs);
        return Ok(Limits::new(vec![Limit { name, unit, demand, at_most, bound: Bound::Cap }])?);
    };
    let (predictor, warnings) = TablePredictor::read(table, None, false)?;
    warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    let predictor = predictor.for_space(&options.space);
    let costs = cost_matrix(space, &predictor, predictor.table().batch(), predictor.table().precision())?;
    Ok(Limits::new(vec![Limit::latency(costs, target_ms)])?)
}

/// Learns to the end, from the folder's checkpoint on if there is one.
fn run<L: Learning>(
    learning: &mut L,
    folder: &Path,
    restore: impl Fn(&mut L, &Path) -> Result<(), fleetfoot_search::SearchError>,
) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("can't make {}", folder.display()))?;
    if checkpoint_path(folder).exists() {
        restore(learning, folder)?;
    }
    let mut told = 0;
    learning.run(folder, &AtomicBool::new(false), &mut |learning| {
        let tenth = 10 * learning.step() / learning.total_steps();
        if tenth > told {
            told = tenth;
            eprintln!("{}: step {} of {}", folder.display(), learning.step(), learning.total_steps());
        }
    })?;
    Ok(())
}
