//! What the network may need, from the command line.

use std::fmt;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use fleetfoot_console::usage;
use fleetfoot_predictor::{CostMatrix, TablePredictor, cost_matrix};
use fleetfoot_profiler::{Budget, Configuration, Cost, DeviceConfig, sha256};
use fleetfoot_search::{Bound, Demand, Limit, Limits};
use fleetfoot_space::{Precision, SearchSpace};
use serde::{Deserialize, Serialize};

/// Limits: at least one is wanted.
#[derive(Clone, Debug, Args)]
pub struct BudgetOptions {
    /// The device's latency table (from `fleetfoot profile`); several devices: one each, a --target behind each
    #[arg(long, value_name = "FILE")]
    table: Vec<PathBuf>,
    /// Estimate units that the table hasn't, by regression
    #[arg(long, requires = "table")]
    estimate: bool,
    /// The regression (from `fleetfoot fit`); without it, one is fitted to the table on the spot
    #[arg(long, value_name = "FILE", requires = "estimate")]
    model: Option<PathBuf>,
    /// What the network may cost on the device, with its unit: a latency (0.25ms, 250us), a throughput (4000/s), or what else
    /// the table is of (3.5MiB, 12mJ)
    #[arg(long, value_name = "COST", requires = "table")]
    target: Vec<Budget>,
    /// Search once for each of these targets of the one table, each in a folder of its own, DIR/TARGET/seedN
    #[arg(long, value_name = "COST,COST,…", value_delimiter = ',', requires = "table", conflicts_with_all = ["target", "device_weights"])]
    targets: Vec<Budget>,
    /// Of several devices, hold the mean of latency over target at 1, weighted by these; without it, every device's target is
    /// held
    #[arg(long, value_name = "W,W,…", value_delimiter = ',', value_parser = fleetfoot_console::positive)]
    device_weights: Vec<f64>,
    /// Multiply-accumulates that the network may need for an image, such as 300M
    #[arg(long, value_name = "N", value_parser = amount)]
    max_macs: Option<f64>,
    /// Parameters that the network may have, such as 4M
    #[arg(long, value_name = "N", value_parser = amount)]
    max_params: Option<f64>,
    /// Memory that weights and activations may need for an image, such as 3.5MiB; what a runtime takes besides isn't counted
    #[arg(long, value_name = "SIZE")]
    max_memory: Option<Budget>,
}

/// The limits with what else is known of their tables.
#[derive(Debug)]
pub struct Budgets {
    pub limits: Limits,
    /// The devices' parts, where the first limit is a weighted mean of them.
    pub weighted: Vec<Weighted>,
    /// What the first limit is of: `latency`, `memory`, `energy`, `macs`, `params`.
    pub cost: String,
    /// Its unit in lower case, with which names of amounts end.
    pub suffix: String,
    /// Its cost matrix, where it is of a table.
    pub costs: Option<CostMatrix>,
    /// Units of the space whose cost was never measured.
    pub estimated: Vec<String>,
    /// The devices of the tables, as those name them.
    pub devices: Vec<String>,
    /// Images that the tables' networks compute at a time.
    pub batch: usize,
    /// Of the tables that are of latency, each with a limit of its own: the table and the precision that it is of.
    latencies: Vec<(PathBuf, Precision)>,
}

/// A device's part in a weighted mean of latency over target.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Weighted {
    /// The device's latency and target.
    #[serde(flatten)]
    limit: Limit,
    /// Its share of the mean; all add up to 1.
    weight: f64,
}

impl Budgets {
    /// Devices to measure on belong to tables of latency, one each, and compute in their precisions.
    pub fn check_devices(&self, devices: &[String]) -> Result<()> {
        if !devices.is_empty() && devices.len() != self.latencies.len() {
            return Err(usage(format!(
                "{} times --measure-on for {} tables of latency with a target each: wanted a device for each",
                devices.len(),
                self.latencies.len()
            )));
        }
        for (name, (table, ours)) in devices.iter().zip(&self.latencies) {
            let checked = DeviceConfig::load(name)?.check_precision(*ours, "--measure-on");
            checked.with_context(|| table.display().to_string())?;
        }
        Ok(())
    }
}

/// A table's limit.
struct OfTable {
    limit: Limit,
    costs: CostMatrix,
    device: String,
    cost: Cost,
    precision: Precision,
    batch: usize,
    estimated: Vec<String>,
}

/// One of several targets.
#[derive(Clone, Copy, Debug)]
pub struct Target(Budget);

impl Target {
    /// The name of its folder.
    pub fn folder(self) -> String {
        self.to_string().replace("/s", "_per_s")
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.to_string().replace(' ', ""))
    }
}

impl BudgetOptions {
    /// The targets of a list; none where one search is asked for.
    pub fn targets(&self) -> Result<Vec<Target>> {
        if !self.targets.is_empty() && self.table.len() != 1 {
            return Err(usage(format!(
                "--targets is a list for one table, here are {}: of several devices, name one --target for each --table",
                self.table.len()
            )));
        }
        Ok(self.targets.iter().copied().map(Target).collect())
    }

    /// Aims at one of the list's targets.
    pub fn aim(&mut self, target: Option<Target>) {
        if let Some(Target(target)) = target {
            self.target = vec![target];
        }
        self.targets.clear();
    }

    /// What decides a search, besides a list's targets.
    pub fn configure(&self, configuration: &mut Configuration) -> Result<()> {
        for (name, path) in
            self.table.iter().map(|table| ("table", table)).chain(self.model.iter().map(|model| ("model", model)))
        {
            let bytes = std::fs::read(path).with_context(|| format!("can't read {}", path.display()))?;
            configuration.set(name, sha256(&bytes));
        }
        let listed = |values: Vec<String>| values.join(", ");
        configuration.set("target", listed(self.target.iter().map(Budget::to_string).collect()));
        configuration.set("device_weights", listed(self.device_weights.iter().map(f64::to_string).collect()));
        configuration.set("estimate", self.estimate);
        for (name, most) in [("max_macs", self.max_macs), ("max_params", self.max_params)] {
            configuration.set(name, most.map_or_else(|| "none".to_owned(), |most| most.to_string()));
        }
        configuration.set("max_memory", self.max_memory.map_or_else(|| "none".to_owned(), |most| most.to_string()));
        Ok(())
    }

    /// Reads the tables; `named` is the space as it was named.
    pub fn read(&self, space: &SearchSpace, named: &str) -> Result<Budgets> {
        if self.table.len() != self.target.len() {
            let (tables, targets) = (self.table.len(), self.target.len());
            return Err(usage(format!(
                "{tables} times --table, {targets} times --target: wanted one target for each table"
            )));
        }
        let tables =
            (0..self.table.len()).map(|index| self.of_table(index, space, named)).collect::<Result<Vec<_>>>()?;
        let (batch, latencies) = self.measurable(&tables)?;
        let first = tables.first().map(|table| (table.cost, table.costs.clone(), table.precision));
        let devices = tables.iter().map(|table| table.device.clone()).collect();
        let estimated = tables.iter().flat_map(|table| table.estimated.clone()).collect();
        let (mut limits, weighted) = self.weighted(tables)?;
        let cap = |name: &str, unit: &str, demand: Demand, at_most: f64| Limit {
            name: name.to_owned(),
            unit: unit.to_owned(),
            demand,
            at_most,
            bound: Bound::Cap,
        };
        if let Some(at_most) = self.max_macs {
            limits.push(cap("multiply-accumulates", "MACs", Demand::macs(space)?, at_most));
        }
        if let Some(at_most) = self.max_params {
            limits.push(cap("parameters", "params", Demand::params(space)?, at_most));
        }
        if let Some(budget) = self.max_memory {
            let precision = first.as_ref().map_or(Precision::Fp32, |(_, _, precision)| *precision);
            let at_most = budget.amount(Cost::Memory, 1)?.ms();
            limits.push(cap("memory of weights and activations", "MiB", Demand::memory(space, precision)?, at_most));
        }
        if limits.is_empty() {
            return Err(usage("no limit: give --table with --target, or --max-macs, --max-params or --max-memory"));
        }
        let limits = Limits::new(limits)?;
        let unit = limits.first().unit.to_lowercase();
        let cost = match &first {
            Some((cost, ..)) => cost.to_string(),
            None if unit == "mib" => "memory".to_owned(),
            None => unit.clone(),
        };
        let costs = first.map(|(_, costs, _)| costs);
        Ok(Budgets { suffix: unit, cost, costs, estimated, devices, batch, latencies, limits, weighted })
    }

    fn of_table(&self, index: usize, space: &SearchSpace, named: &str) -> Result<OfTable> {
        let (table, target) = (&self.table[index], self.target[index]);
        let (predictor, warnings) = TablePredictor::read(table, self.model.as_deref(), self.estimate)?;
        warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
        let predictor = predictor.for_space(named);
        let (batch, precision) = (predictor.table().batch(), predictor.table().precision());
        let cost = predictor.table().cost();
        let costs = cost_matrix(space, &predictor, batch, precision)?;
        let at_most = target.amount(cost, batch)?.ms();
        let device =
            predictor.table().provenance.get("device").map_or_else(|| table.display().to_string(), str::to_owned);
        let name = if self.table.len() > 1 { format!("{cost} on {device}") } else { cost.to_string() };
        if batch > 1 {
            eprintln!(
                "the table is of {precision} at batch {batch}: latencies, the target too, are those of {batch} images"
            );
        }
        let estimated: Vec<String> = predictor.unmeasured(space).iter().map(ToString::to_string).collect();
        if let Some(first) = estimated.first() {
            eprintln!("warning: {} units of the space are estimated by regression, such as {first}", estimated.len());
        }
        let demand = Demand::Sum(costs.clone());
        let limit = Limit { name, unit: cost.unit().to_owned(), demand, at_most, bound: Bound::Target };
        Ok(OfTable { limit, costs, device, cost, precision, batch, estimated })
    }

    /// The tables' batch size, which they share, and those that have a latency of their own to be measured.
    fn measurable(&self, tables: &[OfTable]) -> Result<(usize, Vec<(PathBuf, Precision)>)> {
        let batch = tables.first().map_or(1, |table| table.batch);
        if let Some(other) = tables.iter().position(|table| table.batch != batch) {
            bail!(
                "{} is of batch {batch}, {} of batch {}: a search takes tables of one batch size",
                self.table[0].display(),
                self.table[other].display(),
                tables[other].batch
            );
        }
        let own = self.device_weights.is_empty() && tables.iter().all(|table| table.cost == Cost::Latency);
        let named = self.table.iter().cloned().zip(tables.iter().map(|table| table.precision));
        Ok((batch, if own { named.collect() } else { Vec::new() }))
    }

    /// The tables' limits; or the one that a weighted mean of them is, and its parts.
    fn weighted(&self, tables: Vec<OfTable>) -> Result<(Vec<Limit>, Vec<Weighted>)> {
        if self.device_weights.is_empty() {
            return Ok((tables.into_iter().map(|table| table.limit).collect(), Vec::new()));
        }
        if self.device_weights.len() != tables.len() {
            let (weights, tables) = (self.device_weights.len(), tables.len());
            return Err(usage(format!("{weights} weights in --device-weights for {tables} tables: wanted one each")));
        }
        let sum: f64 = self.device_weights.iter().sum();
        let mut mean = CostMatrix { constant_ms: 0.0, rows: space_of(&tables) };
        for (table, weight) in tables.iter().zip(&self.device_weights) {
            let share = weight / sum / table.limit.at_most;
            mean.constant_ms += share * table.costs.constant_ms;
            for (mean, row) in mean.rows.iter_mut().flatten().zip(table.costs.rows.iter().flatten()) {
                *mean += share * row;
            }
        }
        if !mean.constant_ms.is_finite() {
            bail!("the weighted mean of the devices is no number");
        }
        let (name, unit) = ("weighted mean of latency over target".to_owned(), "of target".to_owned());
        let limit = Limit { name, unit, demand: Demand::Sum(mean), at_most: 1.0, bound: Bound::Target };
        let parts = tables.into_iter().zip(&self.device_weights);
        let parts = parts.map(|(table, weight)| Weighted { limit: table.limit, weight: weight / sum });
        Ok((vec![limit], parts.collect()))
    }
}

/// Nothing for each candidate.
fn space_of(tables: &[OfTable]) -> Vec<Vec<f64>> {
    let rows = tables.first().map(|table| table.costs.rows.iter().map(|row| vec![0.0; row.len()]).collect());
    rows.unwrap_or_default()
}

/// A number, plain or with k, M or G behind it.
fn amount(text: &str) -> Result<f64, String> {
    let factors = [('k', 1e3), ('K', 1e3), ('M', 1e6), ('G', 1e9)];
    let (number, factor) = factors
        .into_iter()
        .find_map(|(letter, factor)| Some((text.strip_suffix(letter)?, factor)))
        .unwrap_or((text, 1.0));
    let amount = number.parse::<f64>().ok().map(|number| number * factor);
    let amount = amount.filter(|amount| amount.is_finite() && *amount > 0.0);
    amount.ok_or_else(|| "wanted a number above 0, such as 300M, 2.5G or 4000000".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_decimal_multiples() {
        assert_eq!(amount("300M"), Ok(3e8));
        assert_eq!(amount("2.5k"), Ok(2500.0));
        assert_eq!(amount("17"), Ok(17.0));
        for wrong in ["", "M", "-3M", "0", "3 M", "1e400", "3MB", "nan"] {
            assert!(amount(wrong).is_err(), "{wrong}");
        }
    }
}
