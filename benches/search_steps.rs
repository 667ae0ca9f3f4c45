//! What a step of the search costs: a weight step (one path), a gate step (two candidates of every decision), and a step of
//! all candidates mixed, as DARTS does it; and how much memory each takes beyond the built weights. One JSON line a
//! configuration. `make bench-search` runs it.
//!
//! Both memory orders, and with `--amp` both precisions, are timed in one process, their steps interleaved; a step ends when
//! what computes has done all of it. Memory is measured in a process of its own for each figure: its peak (VmHWM) minus what
//! was resident once the weights were built, with the momentum that belongs to them (`momentum_mib`) and, by a step of a
//! network of a few channels, libtorch's own code. A GPU's memory isn't measured: there these figures are null.
//!
//! Options: `--config NAME` (default: all), `--layout nchw|channels-last` (default: both), `--amp` (mixed precision, too),
//! `--compute cpu|cuda|cuda:N` (default: cpu), `--steps N` (default 20), `--threads N` (default 2), `--no-memory`.
//! `--size PIXELS`, `--classes N` and `--batch N` change a configuration's geometry.
//!
//! `--plan images=1281167,validation=50000,warmup=40,search=120,weight-steps=5,training=300` says, too, how many hours a search and
//! the training of what it finds would take by these steps (`plan_h`; `plan_recompute_h` where blocks are computed twice). What
//! isn't named is as here: ImageNet by the authors' schedule.

use std::process::ExitCode;

#[path = "steps/memory.rs"]
mod memory;
#[path = "steps/plan.rs"]
mod plan;
#[path = "steps/searched.rs"]
mod searched;
mod steps;

use std::time::Instant;

use clap::{Parser, ValueEnum};
use fleetfoot_console::restart_for_openmp;
use fleetfoot_search::{ALONE, Compute, Layout, Mode, Parameter, Placement, SearchError, Sgd, cross_entropy};
use memory::{TINY, asked, peak_mib, resident_mib};
use plan::Plan;
use searched::Steps;
use serde_json::{Value, json};
use steps::{CONFIGS, Config, layout, round4, say};
use tch::{Kind, Tensor};

#[derive(Debug, Parser)]
struct Options {
    #[arg(long)]
    config: Option<String>,
    #[arg(long)]
    layout: Option<String>,
    #[arg(long)]
    amp: bool,
    #[arg(long, default_value_t = Compute::Cpu)]
    compute: Compute,
    #[arg(long)]
    no_memory: bool,
    #[arg(long, default_value_t = 20)]
    steps: usize,
    #[arg(long, default_value_t = 2)]
    threads: i32,
    #[arg(long)]
    size: Option<i64>,
    #[arg(long)]
    classes: Option<usize>,
    #[arg(long)]
    batch: Option<i64>,
    #[arg(long)]
    plan: Option<Plan>,
    /// In a process of its own: measure the memory of this.
    #[arg(long, hide = true)]
    memory: Option<Kept>,
    /// What cargo says to benches.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is kept for the backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kept {
    OnePath,
    Recomputed,
    AllPaths,
}

fn main() -> ExitCode {
    // As the search itself does.
    restart_for_openmp().unwrap_or_else(|| match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    })
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    fleetfoot_search::keep_memory();
    let options = Options::parse();
    tch::set_num_threads(options.threads);
    options.compute.prepare()?;
    let configs = CONFIGS.iter().filter(|config| options.config.as_ref().is_none_or(|wanted| wanted == config.0));
    for config in configs.map(|config| options.changed(config)) {
        let config = &config;
        match options.memory {
            Some(kept) => {
                let layout = layout(options.layout.as_deref())?;
                let placement = Placement { layout, compute: options.compute, amp: options.amp };
                say(&memory(config, placement, kept, options.steps)?.to_string());
            }
            None => times(config, &options)?,
        }
    }
    Ok(())
}

impl Options {
    /// A configuration in the geometry that is asked for.
    fn changed(&self, &(name, space, (channels, size), classes, batch): &Config) -> Config {
        let size = (channels, self.size.unwrap_or(size));
        (name, space, size, self.classes.unwrap_or(classes), self.batch.unwrap_or(batch))
    }
}

/// What is to be timed.
fn placements(options: &Options) -> Result<Vec<Placement>, String> {
    let layouts = match &options.layout {
        Some(text) => vec![layout(Some(text))?],
        None => vec![Layout::ChannelsLast, Layout::Nchw],
    };
    let amp = if options.amp { &[false, true][..] } else { &[false] };
    let both = |layout: Layout| amp.iter().map(move |&amp| Placement { layout, compute: options.compute, amp });
    Ok(layouts.into_iter().flat_map(both).collect())
}

/// Times of all placements, interleaved, and their memory.
fn times(config: &Config, options: &Options) -> Result<(), Box<dyn std::error::Error>> {
    let placements = placements(options)?;
    let mut steps = placements.iter().map(|placement| Steps::new(config, *placement)).collect::<Result<Vec<_>, _>>()?;
    let mut times = vec![[0.0; 4]; placements.len()];
    // The first step of each kind allocates and isn't counted.
    for round in 0..=options.steps {
        for (steps, times) in steps.iter_mut().zip(&mut times) {
            steps.draw();
            let start = Instant::now();
            let elapsed = || {
                options.compute.synchronize();
                start.elapsed()
            };
            steps.weight_step(false, &ALONE)?;
            let weight = elapsed();
            steps.weight_step(true, &ALONE)?;
            let recomputed = elapsed();
            steps.gate_step()?;
            let gate = elapsed();
            // Mixing all takes long: every fourth round.
            let mixed = round.is_multiple_of(4);
            if mixed {
                steps.all_paths_step()?;
            }
            let all = elapsed();
            if round > 0 {
                let share = 1.0 / options.steps as f64;
                times[0] += share * weight.as_secs_f64();
                times[1] += share * (recomputed - weight).as_secs_f64();
                times[2] += share * (gate - recomputed).as_secs_f64();
                if mixed {
                    times[3] += (all - gate).as_secs_f64() / (options.steps / 4).max(1) as f64;
                }
            }
        }
    }
    drop(steps);
    for (placement, [weight, recomputed, gate, all]) in placements.iter().zip(times) {
        let numbers = [options.threads as usize, options.steps, config.2.1 as usize, config.3, config.4 as usize];
        let [threads, count, size, classes, batch] = numbers.map(|number| number.to_string());
        let layout = placement.layout.to_string();
        let memory = |kept: &str| -> Result<Value, Box<dyn std::error::Error>> {
            if options.no_memory || options.compute != Compute::Cpu {
                return Ok(Value::Null);
            }
            let geometry = ["--config", config.0, "--layout", &layout, "--steps", &count, "--threads", &threads];
            let amp: &[&str] = if placement.amp { &["--amp"] } else { &[] };
            let own = ["--size", &size, "--classes", &classes, "--batch", &batch, "--memory", kept];
            Ok(asked(&[&geometry[..], amp, &own].concat())?.into())
        };
        let mut line = json!({
            "config": config.0, "layout": layout, "compute": options.compute, "amp": placement.amp, "size": config.2.1,
            "classes": config.3, "batch": config.4,
            "threads": options.threads,
            "weight_step_s": round4(weight), "recompute_step_s": round4(recomputed), "arch_step_s": round4(gate),
            "all_paths_step_s": round4(all), "memory_mib": memory("one-path")?,
            "momentum_mib": momentum(config, *placement)?, "memory_recompute_mib": memory("recomputed")?, "memory_all_paths_mib": memory("all-paths")?,
        });
        if let Some(plan) = &options.plan {
            line["plan_h"] = plan.hours(config.4 as f64, weight, gate);
            line["plan_recompute_h"] = plan.hours(config.4 as f64, recomputed, gate);
        }
        say(&line.to_string());
    }
    Ok(())
}

/// MiB beyond the built weights at the peak of so many steps.
fn memory(config: &Config, placement: Placement, kept: Kept, count: usize) -> Result<f64, Box<dyn std::error::Error>> {
    // So that libtorch's code is there, which isn't the search's memory.
    let mut tiny = Steps::new(&TINY, placement)?;
    tiny.draw();
    tiny.weight_step(false, &ALONE)?;
    drop(tiny);
    let mut steps = Steps::new(config, placement)?;
    let built = resident_mib()?;
    let count = if kept == Kept::AllPaths { 3 } else { count };
    for _ in 0..count {
        steps.draw();
        match kept {
            Kept::OnePath => {
                steps.weight_step(false, &ALONE)?;
                steps.gate_step()?;
            }
            Kept::Recomputed => {
                steps.weight_step(true, &ALONE)?;
            }
            Kept::AllPaths => steps.all_paths_step()?,
        }
    }
    Ok((peak_mib()? - built).round())
}

/// MiB of momentum.
fn momentum(config: &Config, placement: Placement) -> Result<f64, SearchError> {
    let steps = Steps::new(config, placement)?;
    let tensors =
        steps.supernet.modules().flat_map(|(_, module)| module.parameters()).filter_map(|p| p.momentum.as_ref());
    Ok((4.0 * tensors.map(Tensor::numel).sum::<usize>() as f64 / f64::from(1 << 20)).round())
}

impl Steps {
    fn gate_step(&mut self) -> Result<(), SearchError> {
        let (pairs, _, gradients) = self.of_gates()?;
        // Not to the point where drawing gets easy.
        self.gates.step_pairs(&pairs, &gradients, 1e-4);
        Ok(())
    }

    /// `y = sum_i p_i o_i(x)` in every decision, with gradients of all weights and all p.
    fn all_paths_step(&mut self) -> Result<(), SearchError> {
        let device = self.batch.labels.device();
        let p: Vec<Tensor> = self
            .gates
            .logits()
            .iter()
            .map(|row| {
                let row: Vec<f32> = row.iter().map(|&logit| logit as f32).collect();
                Tensor::from_slice(&row).to_device(device).set_requires_grad(true)
            })
            .collect();
        let mut x = self.supernet.front(&self.batch.images, Mode::Train)?;
        for (decision, logits) in p.iter().enumerate() {
            let q = logits.f_softmax(0, Kind::Float)?;
            let mut sum: Option<Tensor> = None;
            for candidate in self.supernet.candidates(decision) {
                let y = self.supernet.candidate(decision, candidate, &x, Mode::Train)?;
                let y = y.f_mul(&q.f_select(0, candidate as i64)?)?;
                sum = Some(match sum {
                    Some(sum) => sum.f_add(&y)?,
                    None => y,
                });
            }
            x = sum.unwrap_or(x);
        }
        let loss = cross_entropy(&self.supernet.head(&x, Mode::Train)?, &self.batch.labels, 0.1)?;
        let mut parameters: Vec<&mut Parameter> = self
            .supernet
            .modules_mut()
            .flat_map(|(_, module)| module.parameters_mut())
            .filter(|parameter| parameter.trainable)
            .collect();
        let mut values: Vec<&Tensor> = parameters.iter().map(|parameter| &parameter.value).collect();
        let weights = values.len();
        values.extend(&p);
        let mut gradients = Tensor::f_run_backward(&[&loss], &values, false, false)?;
        gradients.truncate(weights);
        Ok(Sgd::default().step(&mut parameters, &gradients, 0.01)?)
    }
}
