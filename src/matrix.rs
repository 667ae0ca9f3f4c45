//! `fleetfoot matrix`: every network on every device. Whether a search specialises shows in it: a network should be the
//! fastest on the device that it was searched for (Cai, Zhu and Han, "ProxylessNAS", ICLR 2019, table of networks on GPU, CPU
//! and phone).

mod found;
pub mod outcome;
mod table;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use fleetfoot_console::claim;
use fleetfoot_profiler::{DeviceConfig, write_atomically};

use self::found::Found;
use self::outcome::{Column, Matrix};
use crate::cli::{PlanOptions, batch_size};
use crate::measure;
use crate::measuring::Output;
use crate::profile::shelf;
use crate::report::specialised;

/// What the folder of the devices' files adds to the matrix' name.
const FOLDER: &str = "measured";

/// Options of `matrix`.
#[derive(Debug, Args)]
pub struct Options {
    /// Networks of one space: folders of searches, each named by the device of its table, or architectures. DEVICE= in front
    /// says which device a network was searched for, or gives it another name
    #[arg(value_name = "[DEVICE=]RUN|ARCHITECTURE", required = true)]
    networks: Vec<String>,
    /// Search space of the architectures: a preset's name or a TOML file; searches know theirs
    #[arg(long, value_name = "SPACE")]
    space: Option<String>,
    /// Devices to measure on, each given by itself: names of configurations or TOML files
    #[arg(long, value_name = "DEVICE", required = true)]
    device: Vec<String>,
    /// Batch size of the networks
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = batch_size())]
    batch: usize,
    /// The matrix, as CSV with a row for each network on each device; what each device measured is kept in a folder beside it,
    /// FILE with the ending .measured
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Write an HTML page, too: the networks side by side, the matrix below
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    plan: PlanOptions,
    /// Go on with what an earlier run left, or start if there is nothing
    #[arg(long, conflicts_with = "force")]
    resume: bool,
    /// Replace an existing matrix and what its devices measured
    #[arg(long)]
    force: bool,
}

/// Runs the command.
pub fn run(options: &Options) -> Result<()> {
    let devices = options.device.iter().map(|name| DeviceConfig::load(name)).collect::<Result<Vec<_>, _>>()?;
    let folder = options.output.with_extension(FOLDER);
    let files = shelf::paths(&devices, &folder)?;
    let found = Found::read(&options.networks, options.space.as_deref())?;
    let replace = options.resume || options.force;
    for path in std::iter::once(&options.output).chain(&options.report) {
        claim(path, replace, "or replace it with --force")?;
    }
    let plan = options.plan.plan()?;
    let outputs = files.iter().map(|file| Output::new(file, options.resume, options.force));
    let outputs = outputs.collect::<Result<Vec<_>>>()?;
    let mut columns = Vec::new();
    for (device, output) in devices.iter().zip(&outputs) {
        let networks = found.distinct(options.batch, device.precision)?;
        let measured = measure::on_device(device, &found.space, &networks, (options.batch, &plan), output);
        let (measured, head) = measured.with_context(|| format!("device '{}'", device.name))?;
        columns.push(Column { device: device.name.clone(), head, measured: found.spread(&measured) });
    }
    let matrix = Matrix::new(&found, options.batch, &columns)?;
    let json = serde_json::to_string_pretty(&matrix)? + "\n";
    write(&options.output, &matrix.to_csv()?)?;
    if let Some(page) = &options.report {
        write(page, specialised::render(&json)?.as_bytes())?;
        eprintln!("{}", page.display());
    }
    let text = if options.json { json } else { table::table(&matrix) };
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("stdout")?;
    eprintln!("{}", options.output.display());
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomically(path, bytes).with_context(|| format!("can't write {}", path.display()))
}
