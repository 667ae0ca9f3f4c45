//! Networks that no table knows, measured in several agents.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use fleetfoot_profiler::{
    Conditions, Context, Cost, DeviceConfig, LatencyTable, NetworkCampaign, Plan, ProviderShare, Subject, Usage,
    relative_variance,
};
use fleetfoot_space::{Architecture, SearchSpace};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::Options;
use crate::measuring::{self, Measured, Output, What, tell_paces};

/// Random architectures, none of them among those that a table in one of these contexts was measured with.
pub fn draw(space: &SearchSpace, count: usize, seed: u64, contexts: &[Context]) -> Result<Vec<Architecture>> {
    let known: HashSet<Architecture> = match contexts.contains(&Context::Network) {
        true => NetworkCampaign::design(space).into_iter().collect(),
        false => HashSet::new(),
    };
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let tries = (0..100 * count).map(|_| space.random(&mut rng));
    let drawn: Vec<Architecture> = tries.filter(|architecture| !known.contains(architecture)).take(count).collect();
    if drawn.len() < count {
        let (name, size) = (space.name(), space.size());
        bail!(
            "space {name} has {size} networks, and a table in context network knows nearly all: none are left to evaluate with"
        );
    }
    Ok(drawn)
}

/// The context in which a table was measured; cold where it doesn't say.
pub fn context_of(table: &LatencyTable) -> Result<Context> {
    let context = table.provenance.get("context").map(str::parse::<Context>);
    Ok(context.transpose()?.unwrap_or_default())
}

/// What was measured in one agent.
#[derive(Debug)]
pub struct Pass {
    /// Latencies of the subjects, in ms.
    pub measured: Vec<f64>,
    /// By what factor the machine was slower than the subjects' references say.
    pub slower: Option<f64>,
}

/// Measures subjects as often as the options say, each time in a new agent. Tables that can't predict for the device are
/// an error.
pub fn measure(
    options: &Options,
    space: &SearchSpace,
    device: &DeviceConfig,
    subjects: &[Subject],
    tables: &[&LatencyTable],
) -> Result<Vec<Pass>> {
    let plan = options.plan.plan()?;
    let fewest = |rounds: u32, parts: usize| rounds.div_ceil(parts as u32).max(6);
    // The rounds are shared among the passes, but a pass may wait longer for the machine to be as fast as for the table.
    let (min_rounds, max_rounds) = (fewest(plan.min_rounds, options.passes), plan.max_rounds.max(6));
    let plan = Plan { min_rounds, max_rounds, ..plan };
    let output = |pass: usize| {
        let path = options.output.as_ref();
        let journal = format!(".pass{}.journal", pass + 1);
        path.map(|path| Output::with_journal(path, &journal, options.resume, options.force)).transpose()
    };
    let soak = |table: &&LatencyTable| Some(Duration::from_secs(table.conditions()?.soak_seconds));
    let soak = tables.first().and_then(soak).unwrap_or(plan.soak).max(plan.soak);
    let standing = tables.first().map_or(plan.standing, |table| measuring::standing_of(table));
    let plan = Plan { soak, standing, ..plan };
    if let Some(table) = tables.first().filter(|table| table.cost() != Cost::Latency) {
        return usage(options, space, device, subjects, (table, &plan));
    }
    let outputs = (0..options.passes).map(output).collect::<Result<Vec<_>>>()?;
    let passes = outputs.iter().enumerate().map(|(pass, output)| {
        let mut agent = measuring::start(device)?;
        let batch = tables.first().map_or(1, |table| table.batch());
        let conditions = agent.conditions(Context::Warm, &plan).at_batch(batch);
        tables.iter().try_for_each(|table| check(table, &conditions))?;
        let plan = Plan { seed: plan.seed.wrapping_add(pass as u64), ..plan.clone() };
        let what = What::networks(space.name());
        let Measured { subjects, slower, pace, .. } =
            measuring::measure(&mut agent, subjects, &plan, what, &conditions, output.as_ref())?;
        if let Some(table) = tables.first() {
            tell_paces(table.provenance.pace(), pace, &format!("in pass {} against that of the table", pass + 1));
        }
        Ok(Pass { measured: subjects.iter().map(|measurement| measurement.latency.ms()).collect(), slower })
    });
    passes.collect()
}

/// Reads what subjects take besides time as often as the options say.
fn usage(
    options: &Options,
    space: &SearchSpace,
    device: &DeviceConfig,
    subjects: &[Subject],
    (table, plan): (&LatencyTable, &Plan),
) -> Result<Vec<Pass>> {
    let mut agent = measuring::start(device)?;
    let cost = table.cost();
    let conditions = agent.conditions(Context::Warm, plan).at_batch(table.batch()).of_cost(cost);
    check(table, &conditions)?;
    let output = |path| Output::with_journal(path, ".usage.journal", options.resume, options.force);
    let output = options.output.as_deref().map(output).transpose()?;
    let (what, passes) = (What::networks(space.name()), options.passes as u32);
    ProviderShare::of(&mut agent, subjects)?;
    let usages = measuring::usage(&mut agent, subjects, (&[cost], passes), what, &conditions, output.as_ref())?;
    let pass = |pass: u32| {
        let of = |usage: &&Usage| usage.repeat == pass;
        let mut own: Vec<&Usage> = usages.iter().filter(of).collect();
        own.sort_by_key(|usage| usage.subject);
        let measured = own.iter().map(|usage| usage.amount).collect::<Option<Vec<f64>>>();
        let measured = measured.with_context(|| format!("{cost} is not available on device '{}'", device.name))?;
        Ok(Pass { measured, slower: None })
    };
    (0..passes).map(pass).collect()
}

fn check(table: &LatencyTable, conditions: &Conditions) -> Result<()> {
    match table.conditions() {
        Some(known) => known.predicts(conditions).with_context(|| {
            format!("the table was measured under other conditions than device '{}' has", conditions.device)
        }),
        None => {
            eprintln!("warning: the table's conditions are unknown; they may not be this device's");
            Ok(())
        }
    }
}

/// Every subject's values, of the first so many, over the passes.
pub fn values(passes: &[Pass], subjects: usize) -> Vec<Vec<f64>> {
    (0..subjects).map(|subject| passes.iter().map(|pass| pass.measured[subject]).collect()).collect()
}

/// Standard deviation of one network's value over passes, root mean square over the networks, in percent.
pub fn repeatability(values: &[Vec<f64>]) -> f64 {
    let variances = values.iter().map(|values| relative_variance(values));
    100.0 * (variances.sum::<f64>() / values.len() as f64).sqrt()
}
