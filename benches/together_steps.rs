//! What it costs that several processes learn together: a weight step and a gate step of each rank alone, all at once on one
//! machine, against the same with averaged gradients. One JSON line: medians in seconds with their quartiles, the exchange's
//! share of a step, bytes that travel. `make bench-together` runs it.
//!
//! Every rank takes the same path. Steps alone and together alternate, and all ranks begin each at once, so that whatever else
//! the machine does meets both alike.
//!
//! Options: `--ranks N` (default 2), `--config NAME` (default: proxyless-32), `--batch N` (a rank's, default: the
//! configuration's), `--size PIXELS`, `--classes N`, `--layout nchw|channels-last` (default: the latter), `--steps N` (default 40), `--threads N` (a rank's, default 1). `--paper` measures nothing and
//! says what a step would cost with more ranks on other networks (docs/scaling.md).

use std::net::TcpListener;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

#[path = "steps/paper.rs"]
mod paper;
#[path = "steps/searched.rs"]
mod searched;
mod steps;

use clap::Parser;
use fleetfoot_console::restart_for_openmp;
use fleetfoot_search::{ALONE, Backend, Compute, Dist, Group, Launch, SearchError};
use searched::Steps;
use serde_json::{Value, json};
use steps::{CONFIGS, layout, round4, say};

type Failure = Box<dyn std::error::Error>;

#[derive(Debug, Parser)]
struct Options {
    #[arg(long, default_value_t = 2)]
    ranks: usize,
    #[arg(long, default_value = "proxyless-32")]
    config: String,
    #[arg(long)]
    batch: Option<i64>,
    #[arg(long)]
    size: Option<i64>,
    #[arg(long)]
    classes: Option<usize>,
    #[arg(long, default_value_t = 40)]
    steps: usize,
    #[arg(long)]
    layout: Option<String>,
    #[arg(long, default_value_t = 1)]
    threads: i32,
    #[arg(long)]
    paper: bool,
    /// What cargo says to benches.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    restart_for_openmp().unwrap_or_else(|| match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    })
}

fn run() -> Result<(), Failure> {
    let options = Options::parse();
    match Launch::of_environment(Dist::Env) {
        Ok(Some(launch)) => rank(&options, &launch),
        _ if options.paper => {
            paper::tell();
            Ok(())
        }
        _ => start(&options),
    }
}

/// Starts the ranks and waits for them.
fn start(options: &Options) -> Result<(), Failure> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let ranks = (0..options.ranks).map(|rank| {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(&arguments).env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", port.to_string());
        let rank = rank.to_string();
        command.env("RANK", &rank).env("LOCAL_RANK", &rank).env("WORLD_SIZE", options.ranks.to_string()).spawn()
    });
    for mut rank in ranks.collect::<Result<Vec<_>, _>>()? {
        if !rank.wait()?.success() {
            return Err("a rank failed".into());
        }
    }
    Ok(())
}

/// A median with its quartiles.
fn spread(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[(quarter * (values.len() - 1)) / 4])
}

fn told(values: Vec<f64>) -> Value {
    let [low, median, high] = spread(values).map(round4);
    json!({ "median": median, "quartiles": [low, high] })
}

fn rank(options: &Options, launch: &Launch) -> Result<(), Failure> {
    fleetfoot_search::keep_memory();
    tch::set_num_threads(options.threads);
    let known = CONFIGS.iter().find(|config| config.0 == options.config);
    let &(name, space, (channels, size), classes, batch) = known.ok_or("no such configuration")?;
    let size = (channels, options.size.unwrap_or(size));
    let config = (name, space, size, options.classes.unwrap_or(classes), options.batch.unwrap_or(batch));
    let group = Group::join(launch, Backend::Gloo, Compute::Cpu, Duration::from_secs(60))?;
    let mut steps = Steps::new(&config, layout(options.layout.as_deref())?.into())?;
    let (mut times, mut bytes) = ([const { Vec::new() }; 4], Vec::new());
    // The first round allocates and isn't counted.
    for round in 0..=options.steps {
        let mut own = [0.0; 4];
        let drawn = steps.draw();
        let parameters = drawn.iter().flat_map(|module| module.parameters()).filter(|parameter| parameter.trainable);
        bytes.push(parameters.map(|parameter| 4 * parameter.value.numel()).sum::<usize>());
        // In turn first: what a step leaves in caches is the next one's.
        for which in [round % 2, 1 - round % 2] {
            let with: &Group = if which == 0 { &ALONE } else { &group };
            for (kind, time) in [which, 2 + which].into_iter().enumerate() {
                group.sum(&mut [0.0])?;
                let start = Instant::now();
                if kind == 0 {
                    steps.weight_step(false, with)?
                } else {
                    gate_step(&mut steps, with)?
                }
                own[time] = start.elapsed().as_secs_f64();
            }
        }
        // A step takes as long as its slowest rank.
        let all = group.gather(&own)?;
        if round > 0 {
            for (index, times) in times.iter_mut().enumerate() {
                times.push(all.iter().map(|own| own[index]).fold(0.0, f64::max));
            }
        }
    }
    if !group.leads() {
        return Ok(());
    }
    let [alone, together, gates_alone, gates_together] = times;
    let share = |alone: &[f64], together: &[f64]| {
        let pairs = alone.iter().zip(together).map(|(alone, together)| 100.0 * (1.0 - alone / together));
        told(pairs.collect())
    };
    let mib = bytes.iter().sum::<usize>() as f64 / bytes.len() as f64 / f64::from(1 << 20);
    say(&json!({
        "config": name, "size": config.2.1, "classes": config.3, "ranks": group.size(), "batch_of_a_rank": config.4,
        "threads_of_a_rank": options.threads, "steps": options.steps,
        "weight_exchange_percent": share(&alone, &together), "gate_exchange_percent": share(&gates_alone, &gates_together),
        "weight_step_alone_s": told(alone), "weight_step_together_s": told(together),
        "gate_step_alone_s": told(gates_alone), "gate_step_together_s": told(gates_together),
        "mean_path_mib": (mib * 10.0).round() / 10.0,
    })
    .to_string());
    Ok(())
}

/// What gates would learn from, together with other ranks.
fn gate_step(steps: &mut Steps, group: &Group) -> Result<(), SearchError> {
    let (_, loss, gradients) = steps.of_gates()?;
    let pairs = gradients.iter().flat_map(|pair| [pair.0, pair.1]);
    group.mean(&mut std::iter::once(loss).chain(pairs).collect::<Vec<f64>>())
}
