//! One of several parts of a file of measurements, and the file that all of them are.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use fleetfoot_console::{Shard, claim_equal, say};
use fleetfoot_profiler::{DeviceConfig, Plan, Subject, write_atomically};
use fleetfoot_space::SearchSpace;

use super::more::Column;
use super::{Asking, Kept, Measured, Options, Told, csv};
use crate::measuring::{self, Disturbed};
use crate::sharding::{
    self, Content, Part, PartFile, REMEDY, Whole, check_dealt, deal_for, is_there, part_path, take_turn,
};

/// No network is everybody's but those by which shards are held against each other.
const COMMON: usize = 0;

/// Measures a shard of these networks, unless it is there.
pub fn run(
    options: &Options,
    device: &DeviceConfig,
    space: Option<&SearchSpace>,
    networks: &[Measured],
    (plan, shard): (&Plan, Shard),
    path: &Path,
) -> Result<()> {
    let subjects: Vec<Subject> = networks.iter().map(|network| network.subject.clone()).collect();
    let positions = deal_for(shard, subjects.len(), COMMON)?;
    let batch = if options.onnx.is_empty() { options.batch.to_string() } else { "each model's own".to_owned() };
    let asked = [("batch", batch), ("also", options.more.asked())];
    let of = ("measurements of networks", options.space.as_deref().unwrap_or("models"));
    let configuration = sharding::setup(of, device, &subjects, plan, &asked)?;
    let path = part_path(path, shard)?;
    if !options.force && is_there(&path, shard, &configuration)? {
        say(format!("{} is there already", path.display()));
        return Ok(());
    }
    let kept = Kept { path: &path, resume: !options.force, force: options.force };
    let output = kept.output()?;
    let _turn = take_turn(device)?;
    let mut agent = measuring::start(device)?;
    let own: Vec<Subject> = positions.iter().map(|position| subjects[*position].clone()).collect();
    let asking = Asking { options, plan, configuration: Some(&configuration) };
    let Told { measured, conditions, head, columns } =
        asking.ask(&mut agent, space, &own, (Some(&kept), Some(&output)))?;
    let named = |position: &usize| (networks[*position].model.clone(), networks[*position].architecture.clone());
    let content = Content::Networks { count: networks.len(), networks: positions.iter().map(named).collect(), columns };
    let part = Part {
        name: format!("shard {shard}"),
        positions,
        conditions,
        head,
        measured,
        leads: (0, 0),
        disturbed: Disturbed::default(),
        profiles: Vec::new(),
        contention: Vec::new(),
    };
    let (count, all) = (part.positions.len(), networks.len());
    PartFile { path: path.clone(), shard, configuration, part, content }.write()?;
    say(format!(
        "{}: shard {shard}, {count} of {all} networks; `fleetfoot merge` makes the file of all shards",
        path.display()
    ));
    Ok(())
}

/// Makes the file of all its parts, which are of so many networks.
pub fn merge(parts: Vec<PartFile>, count: usize, output: &Path, force: bool) -> Result<()> {
    check_dealt(&parts, count, COMMON)?;
    let mut rows: Vec<Option<Row>> = vec![None; count];
    let mut names: Option<Vec<String>> = None;
    for part in &parts {
        let Content::Networks { networks, columns, .. } = &part.content else {
            bail!("parts are of different results")
        };
        let cells = part.part.positions.len();
        let of_part: Vec<String> = columns.iter().map(|(name, _)| name.clone()).collect();
        let fits = networks.len() == cells && columns.iter().all(|(_, column)| column.len() == cells);
        if !fits || *names.get_or_insert_with(|| of_part.clone()) != of_part {
            bail!(
                "{} holds other columns or rows than it has networks: measure it again with --shard {} --force",
                part.path.display(),
                part.shard
            );
        }
        for (own, (position, (model, architecture))) in part.part.positions.iter().zip(networks).enumerate() {
            let cells = columns.iter().map(|(_, column)| column[own].clone()).collect();
            rows[*position].get_or_insert_with(|| (model.clone(), architecture.clone(), cells));
        }
    }
    let of = parts.len();
    let rows = rows.into_iter().collect::<Option<Vec<Row>>>().context("a network was measured by nobody")?;
    let labels: Vec<String> = rows
        .iter()
        .map(|(model, architecture, _)| if model.is_empty() { architecture } else { model }.clone())
        .collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let parts: Vec<Part> = parts.into_iter().map(|part| part.part).collect();
    let mut whole = Whole::of(&parts, &labels, COMMON, REMEDY)?;
    whole.tell_shards(of);
    let column = |(index, name): (usize, String)| -> Column {
        (name, rows.iter().map(|(.., cells)| cells[index].clone()).collect())
    };
    let columns: Vec<Column> = names.unwrap_or_default().into_iter().enumerate().map(column).collect();
    let networks: Vec<(&str, &str)> =
        rows.iter().map(|(model, architecture, _)| (model.as_str(), architecture.as_str())).collect();
    let csv = csv(&whole.head.to_head(), &networks, &whole.measured, &columns)?;
    claim_equal(output, &csv, force, "or replace it with --force")?;
    write_atomically(output, &csv).with_context(|| format!("can't write {}", output.display()))?;
    say(format!(
        "{}: {count} networks from {of} shards, which differ by {:.1} % at most",
        output.display(),
        100.0 * whole.apart
    ));
    Ok(())
}

/// Where a network comes from, what it is, and its cells behind the latency.
type Row = (String, String, Vec<String>);
