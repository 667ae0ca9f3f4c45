//! What networks do besides taking their time, as columns behind it.

use std::time::Duration;

use anyhow::Result;
use clap::{Args, ValueEnum};
use fleetfoot_profiler::{
    Agent, Conditions, Cost, HALF_MINUTE, Measurement, Plan, Provenance, Subject, Sustained, USAGE_REPEATS, usage_of,
};
use fleetfoot_space::{Network, Precision, Shape};

use crate::measuring::{self, Output, What};

/// What stands where the device doesn't tell.
const NOT_AVAILABLE: &str = "not available";

/// What is told besides the latency.
#[derive(Debug, Args)]
pub struct MoreOptions {
    /// Tell, too: images a second, the most memory that a process with the network alone has resident (MiB), energy of a
    /// run (mJ, by RAPL or the battery, what the machine takes while idle included)
    #[arg(long, value_enum, value_name = "WHAT", value_delimiter = ',')]
    also: Vec<Also>,
    /// Keep the device busy with each network for so many seconds, and compare the last half minute with the first
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(2 * HALF_MINUTE.as_secs()..=86_400))]
    sustained: Option<u64>,
}

/// What a network can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Also {
    /// Images a second
    Throughput,
    /// Peak resident memory
    Memory,
    /// Energy of a run
    Energy,
}

impl MoreOptions {
    /// What is asked for, in words.
    pub fn asked(&self) -> String {
        let mut asked: Vec<String> = [Also::Throughput, Also::Memory, Also::Energy]
            .into_iter()
            .filter(|also| self.also.contains(also))
            .map(|also| format!("{also:?}").to_lowercase())
            .collect();
        asked.extend(self.sustained.map(|seconds| format!("sustained for {seconds} s")));
        if asked.is_empty() { "nothing".to_owned() } else { asked.join(", ") }
    }
}

/// A column behind the others: a name, and a cell for every network.
pub type Column = (String, Vec<String>);

/// What is measured, and where it is kept.
pub struct Asked<'a> {
    /// The networks.
    pub subjects: &'a [Subject],
    /// How they were measured.
    pub plan: &'a Plan,
    /// What they are.
    pub what: What<'a>,
    /// Under which conditions.
    pub conditions: &'a Conditions,
    /// Where results are kept, with whether a journal is gone on with or replaced.
    pub output: Option<(&'a std::path::Path, bool, bool)>,
}

impl MoreOptions {
    /// Measures what was asked for.
    pub fn columns(
        &self,
        agent: &mut Agent,
        asked: &Asked<'_>,
        measured: &[Measurement],
        head: &mut Provenance,
    ) -> Result<Vec<Column>> {
        let mut columns = Vec::new();
        if self.also.contains(&Also::Throughput) {
            columns.push(throughput(agent, asked, measured)?);
        }
        let costs = [(Also::Memory, Cost::Memory), (Also::Energy, Cost::Energy)];
        let costs: Vec<Cost> =
            costs.into_iter().filter(|(also, _)| self.also.contains(also)).map(|(_, cost)| cost).collect();
        if !costs.is_empty() {
            columns.extend(usage(agent, asked, &costs, head)?);
        }
        if let Some(seconds) = self.sustained {
            columns.extend(sustained(agent, asked, Duration::from_secs(seconds))?);
            head.set("sustained_seconds", seconds);
        }
        Ok(columns)
    }
}

impl Asked<'_> {
    fn output(&self, suffix: &str) -> Result<Option<Output>> {
        let output = |(path, resume, force)| Output::with_journal(path, suffix, resume, force);
        self.output.map(output).transpose()
    }
}

fn throughput(agent: &mut Agent, asked: &Asked<'_>, measured: &[Measurement]) -> Result<Column> {
    let mut cells = Vec::new();
    for (subject, measurement) in asked.subjects.iter().zip(measured) {
        let (model, input) = agent.load_shaped(&subject.onnx)?;
        agent.unload(model)?;
        // The first extent is the batch's; a simulation doesn't tell it, but has been told.
        let batch = input.first().copied().or(asked.conditions.batch).unwrap_or(1);
        cells.push(format!("{:.2}", 1000.0 * batch as f64 / measurement.latency.ms()));
    }
    Ok(("images_per_s".to_owned(), cells))
}

fn usage(agent: &mut Agent, asked: &Asked<'_>, costs: &[Cost], head: &mut Provenance) -> Result<Vec<Column>> {
    // What the runtime takes without a network.
    let empty = Network::empty(Shape::new(1, 1, 1, 1), Precision::Fp32, 1e-3);
    let mut subjects = asked.subjects.to_vec();
    subjects.push(Subject::of_network("empty graph".to_owned(), &empty)?);
    let output = asked.output(".usage.journal")?;
    let repeated = (costs, USAGE_REPEATS);
    let usages = measuring::usage(agent, &subjects, repeated, asked.what, asked.conditions, output.as_ref())?;
    let cell = |subject: usize, cost: Cost| {
        let measured = usage_of(&usages, subject, cost);
        measured.map_or_else(|| NOT_AVAILABLE.to_owned(), |measured| format!("{:.4}", measured.latency.ms()))
    };
    for &cost in costs {
        head.set(&cost.column(&format!("empty_graph_{cost}")), cell(asked.subjects.len(), cost));
    }
    let column =
        |&cost: &Cost| (cost.columns()[0].to_owned(), (0..asked.subjects.len()).map(|s| cell(s, cost)).collect());
    Ok(costs.iter().map(column).collect())
}

fn sustained(agent: &mut Agent, asked: &Asked<'_>, duration: Duration) -> Result<Vec<Column>> {
    let output = asked.output(".sustained.journal")?;
    let Asked { subjects, plan, what, conditions, .. } = *asked;
    let runs = measuring::sustained(agent, subjects, duration, plan, what, conditions, output.as_ref())?;
    let column = |name: &str, of: fn(&Sustained) -> f64| {
        let cell = |run: &Option<Sustained>| run.map_or_else(|| NOT_AVAILABLE.to_owned(), |run| of(&run).to_string());
        (name.to_owned(), runs.iter().map(cell).collect())
    };
    Ok(vec![
        column("first_ms", |run| run.first.latency.ms()),
        column("sustained_ms", |run| run.last.latency.ms()),
        column("sustained_ratio", |run| run.slower()),
    ])
}
