//! `fleetfoot show`: what a space or an architecture is.

use std::io::{self, Write};

use anyhow::Result;
use clap::Args;
use fleetfoot_space::{Network, SearchSpace, preset_names};
use serde_json::{Value, json};

/// Options of `show`.
#[derive(Debug, Args)]
pub struct Options {
    /// Search space: a preset's name or a TOML file; without it the presets are listed
    #[arg(long, value_name = "SPACE")]
    space: Option<String>,
    /// An architecture: digits, or a name that the space's file gives, with a width multiplier, too (k3e6@0.75); without it the space itself is shown
    #[arg(requires = "space")]
    architecture: Option<String>,
    /// Print JSON
    #[arg(long, requires = "architecture")]
    json: bool,
    /// Print the space's TOML, to be copied and edited
    #[arg(long, requires = "space", conflicts_with = "architecture")]
    toml: bool,
}

/// Runs the command.
pub fn run(options: &Options) -> Result<()> {
    let mut out = io::stdout().lock();
    let Some(name) = &options.space else {
        for name in preset_names() {
            writeln!(out, "{name}")?;
        }
        return Ok(());
    };
    if options.toml {
        out.write_all(SearchSpace::load(name)?.text().as_bytes())?;
        return Ok(());
    }
    let space = SearchSpace::load(name)?;
    match &options.architecture {
        None => show_space(&mut out, &space)?,
        Some(text) => {
            let (space, architecture) = space.resolve(text)?;
            let network = space.network(&architecture)?;
            if options.json {
                serde_json::to_writer(&mut out, &describe(&network)?)?;
                writeln!(out)?;
            } else {
                show_network(&mut out, &network)?;
            }
        }
    }
    Ok(())
}

fn show_space(out: &mut impl Write, space: &SearchSpace) -> io::Result<()> {
    writeln!(
        out,
        "space {}: input {}, {} classes, {:.3e} architectures",
        space.name(),
        space.input(),
        space.classes(),
        space.size()
    )?;
    for unit in space.front() {
        writeln!(out, "  {:<10} {} (fixed)", unit.name, unit.key)?;
    }
    for decision in space.decisions() {
        let candidates: Vec<String> = decision.candidates.iter().map(ToString::to_string).collect();
        let (c_out, stride) = (decision.c_out, decision.stride);
        writeln!(
            out,
            "  {:<10} {} -> {c_out}, stride {stride}: {}",
            decision.name,
            decision.input,
            candidates.join(" ")
        )?;
    }
    for unit in space.back() {
        writeln!(out, "  {:<10} {} (fixed)", unit.name, unit.key)?;
    }
    for (name, choices) in space.named_architectures() {
        writeln!(out, "  {name} = {choices}")?;
    }
    Ok(())
}

fn show_network(out: &mut impl Write, network: &Network) -> Result<()> {
    writeln!(out, "{:<10} {:>12} {:>10}  unit", "place", "MACs", "params")?;
    for unit in network.units() {
        let alone = Network::of_unit(&unit.key, network.bn_eps())?;
        writeln!(out, "{:<10} {:>12} {:>10}  {}", unit.name, alone.macs(), alone.params(), unit.key)?;
    }
    writeln!(out, "{:<10} {:>12} {:>10}", "total", network.macs(), network.params())?;
    Ok(())
}

fn describe(network: &Network) -> Result<Value> {
    let units = network.units().iter().map(|unit| {
        let alone = Network::of_unit(&unit.key, network.bn_eps())?;
        let out = alone.out_shape();
        Ok(json!({
            "name": unit.name,
            "operator": unit.key.operator.to_string(),
            "key": unit.key.to_string(),
            "input": [unit.key.input.n, unit.key.input.c, unit.key.input.h, unit.key.input.w],
            "output": [out.n, out.c, out.h, out.w],
            "macs": alone.macs(),
            "params": alone.params(),
        }))
    });
    let units = units.collect::<Result<Vec<Value>>>()?;
    Ok(json!({ "macs": network.macs(), "params": network.params(), "units": units }))
}
