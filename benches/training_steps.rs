//! What a step of a training costs: by libtorch's own graph of the whole network, by our own passes, by these with each block
//! computed a second time, and in two parts; and how much memory each takes beyond weights and momentum. One JSON line a
//! configuration. `make bench-training` runs it.
//!
//! All four are timed in one process on networks of their own, their steps interleaved. Memory is measured in a process of its
//! own for each figure: its peak (VmHWM) minus what was resident once the weights were built.
//!
//! Options: `--config NAME` (default: all), `--architecture NAME` (default `k3e6`), `--layout nchw|channels-last` (default
//! `channels-last`), `--steps N` (default 20), `--threads N` (default 2).

#[path = "steps/memory.rs"]
mod memory;
mod steps;

use std::time::Instant;

use clap::{Parser, ValueEnum};
use fleetfoot_search::{
    ALONE, Backward, Batch, Chain, CrossEntropy, Layout, Mode, Module, Parameter, SearchError, Sgd, cross_entropy,
    learn,
};
use fleetfoot_space::Weights;
use memory::{TINY, asked, peak_mib, resident_mib};
use serde_json::json;
use steps::{CONFIGS, Config, layout, round4, say, space_and_batch};
use tch::Tensor;

#[derive(Debug, Parser)]
struct Options {
    #[arg(long)]
    config: Option<String>,
    #[arg(long, default_value = "k3e6")]
    architecture: String,
    #[arg(long)]
    layout: Option<String>,
    #[arg(long, default_value_t = 20)]
    steps: usize,
    #[arg(long, default_value_t = 2)]
    threads: i32,
    /// In a process of its own: measure the memory of this.
    #[arg(long, hide = true)]
    memory: Option<How>,
    /// What cargo says to benches.
    #[arg(long, hide = true)]
    bench: bool,
}

/// How a step's gradients are computed.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum How {
    Libtorch,
    Own,
    Recomputed,
    TwoParts,
}

const ALL: [How; 4] = [How::Libtorch, How::Own, How::Recomputed, How::TwoParts];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    fleetfoot_search::keep_memory();
    let options = Options::parse();
    tch::set_num_threads(options.threads);
    let configs = CONFIGS.iter().filter(|config| options.config.as_ref().is_none_or(|wanted| wanted == config.0));
    for config in configs {
        match options.memory {
            Some(how) => say(&memory(config, &options, how)?.to_string()),
            None => times(config, &options)?,
        }
    }
    Ok(())
}

/// Mean times of the four, and their memory.
fn times(config: &Config, options: &Options) -> Result<(), Box<dyn std::error::Error>> {
    let layout = layout(options.layout.as_deref())?;
    let trained = ALL.map(|how| Trained::new(config, &options.architecture, layout, how));
    let mut trained = trained.into_iter().collect::<Result<Vec<Trained>, _>>()?;
    let mut seconds = [0.0; ALL.len()];
    // The first step of each kind allocates and isn't counted.
    for round in 0..=options.steps {
        for (trained, seconds) in trained.iter_mut().zip(&mut seconds) {
            let start = Instant::now();
            trained.step()?;
            if round > 0 {
                *seconds += start.elapsed().as_secs_f64() / options.steps as f64;
            }
        }
    }
    drop(trained);
    let (threads, name) = (options.threads.to_string(), layout.to_string());
    let memory = |how: How| {
        let how = how.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let geometry = ["--config", config.0, "--layout", &name, "--architecture", &options.architecture];
        asked(&[&geometry[..], &["--steps", "3", "--threads", &threads, "--memory", &how]].concat())
    };
    let [libtorch, own, recomputed, two_parts] = seconds.map(round4);
    let line = json!({
        "config": config.0, "architecture": options.architecture, "layout": name, "batch": config.4,
        "threads": options.threads, "libtorch_step_s": libtorch, "own_step_s": own, "recompute_step_s": recomputed,
        "two_parts_step_s": two_parts, "memory_libtorch_mib": memory(How::Libtorch)?,
        "memory_own_mib": memory(How::Own)?, "memory_recompute_mib": memory(How::Recomputed)?,
        "memory_two_parts_mib": memory(How::TwoParts)?,
    });
    say(&line.to_string());
    Ok(())
}

/// MiB beyond the built weights at the peak of so many steps.
fn memory(config: &Config, options: &Options, how: How) -> Result<f64, Box<dyn std::error::Error>> {
    let layout = layout(options.layout.as_deref())?;
    // So that libtorch's code is there, which isn't the training's memory.
    Trained::new(&TINY, "k3e6", layout, how)?.step()?;
    let mut trained = Trained::new(config, &options.architecture, layout, how)?;
    let built = resident_mib()?;
    (0..options.steps).try_for_each(|_| trained.step())?;
    Ok((peak_mib()? - built).round())
}

/// A network that learns.
struct Trained {
    weights: Learning,
    batch: Batch,
}

enum Learning {
    /// The whole network at once, through libtorch's own graph.
    Whole(Module),
    Apart(Chain, Backward<'static>),
}

impl Trained {
    fn new(config: &Config, architecture: &str, layout: Layout, how: How) -> Result<Self, SearchError> {
        let (space, batch) = space_and_batch(config, layout)?;
        let (space, architecture) = space.resolve(architecture)?;
        let network = space.network(&architecture)?;
        let backward = |recompute, parts| -> Result<_, SearchError> {
            let chain = Chain::initial(network.clone(), 1, layout)?.with_momentum()?;
            Ok(Learning::Apart(
                chain,
                Backward { criterion: &CrossEntropy, smoothing: 0.1, recompute, parts, group: &ALONE },
            ))
        };
        let weights = match how {
            How::Libtorch => {
                Learning::Whole(Module::new(network.clone(), &Weights::initial(&network, 1), layout)?.with_momentum()?)
            }
            How::Own => backward(false, 1)?,
            How::Recomputed => backward(true, 1)?,
            How::TwoParts => backward(false, 2)?,
        };
        Ok(Self { weights, batch })
    }

    fn step(&mut self) -> Result<(), SearchError> {
        let (sgd, Batch { images, labels }) = (Sgd::default(), &self.batch);
        match &mut self.weights {
            Learning::Whole(module) => {
                let loss = cross_entropy(&module.forward(images, Mode::Train)?, labels, 0.1)?;
                let trainable = module.parameters_mut().iter_mut().filter(|parameter| parameter.trainable);
                let mut parameters: Vec<&mut Parameter> = trainable.collect();
                let values: Vec<&Tensor> = parameters.iter().map(|parameter| &parameter.value).collect();
                let gradients = Tensor::f_run_backward(&[&loss], &values, false, false)?;
                Ok(sgd.step(&mut parameters, &gradients, 0.01)?)
            }
            Learning::Apart(chain, how) => {
                let mut update = |module: &mut Module, gradients: &[Tensor]| sgd.update(module, gradients, 0.01);
                let targets = labels.shallow_clone().into();
                learn(&mut chain.modules_mut(), images, &targets, *how, &mut update).map(drop)
            }
        }
    }
}
