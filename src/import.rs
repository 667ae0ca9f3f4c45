//! `fleetfoot import`: tables, lists of networks and profiles of others.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use fleetfoot_console::claim;
use fleetfoot_predictor::{Columns, Format, LeaveOut, import_networks, import_table, is_of_networks};
use fleetfoot_profiler::{Provenance, write_atomically};
use fleetfoot_space::{SearchSpace, without_mark};

/// Options of `import`.
#[derive(Debug, Args)]
pub struct Options {
    /// A look-up table of ProxylessNAS or Once-for-All (YAML), a CSV with a header (units, or whole networks where it has a column
    /// `architecture`), or a profile of ONNX Runtime (JSON)
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The latency table to write; a file of whole networks where FILE is one
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// The form of FILE: once-for-all, csv or onnxruntime; without it, its beginning tells
    #[arg(long)]
    format: Option<Format>,
    /// What the columns of a CSV mean, as FIELD=COLUMN, and what is the same in all rows, as FIELD:VALUE, such as
    /// `kernel=ks,latency_us=time,stride:1`; columns that aren't named are known by their usual names
    #[arg(long, value_name = "FIELD=COLUMN,…", default_value = "", hide_default_value = true)]
    columns: Columns,
    /// The search space that the table is for, a preset's name or a TOML file: units of it that FILE hasn't are an error
    #[arg(long, value_name = "SPACE")]
    space: Option<String>,
    /// On which device it was measured, as the table is to say
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
    /// What to leave out, with commas between: inexpressible, incomplete and negative, which else are errors; near-zero, far-off, coarse,
    /// first-rows, interpolated and copied, which else are kept and marked in a column `doubts`
    #[arg(long, value_name = "WHAT,…", default_value = "", hide_default_value = true)]
    leave_out: LeaveOut,
    /// Take doubtful numbers for an error
    #[arg(long)]
    strict: bool,
    /// Replace an existing file
    #[arg(long)]
    force: bool,
}

/// Runs the command.
pub fn run(options: &Options) -> Result<()> {
    let (file, output) = (&options.file, &options.output);
    claim(output, options.force, "or replace it with --force")?;
    if output.canonicalize().ok().is_some_and(|output| file.canonicalize().is_ok_and(|file| file == output)) {
        bail!("{} is the imported file itself: write to another file", output.display());
    }
    let bytes = fs::read(file).with_context(|| format!("can't read {}", file.display()))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        anyhow::anyhow!("{}: byte {at} is not text (UTF-8)", file.display())
    })?;
    let text = without_mark(&text);
    let origin = file.display().to_string();
    let format = options.format.or_else(|| Format::recognise(text));
    let format = format.ok_or_else(|| fleetfoot_predictor::ImportError::Unknown(origin.clone()))?;
    if format != Format::Csv && options.columns != Columns::default() {
        bail!("--columns says what a CSV's columns mean, but {origin} is {format}");
    }
    let head = Provenance::from_head(text);
    if head.get("tool").is_some_and(|tool| tool.starts_with("fleetfoot")) {
        bail!("{origin} is a file of fleetfoot's own: use it as it is");
    }
    let space = options.space.as_deref().map(SearchSpace::load).transpose()?;
    let how = (&options.columns, space.as_ref());
    let provenance = provenance(options);
    let (bytes, what, notes, warnings) = if format == Format::Csv && is_of_networks(text, &options.columns) {
        let imported = import_networks(text, &origin, how, &options.leave_out, provenance)?;
        (imported.csv, format!("{} networks", imported.count), imported.notes, imported.warnings)
    } else {
        let imported = import_table(text, &origin, format, how, &options.leave_out, provenance)?;
        let what = format!("{} units", imported.table.rows().len());
        (imported.table.to_csv()?, what, imported.notes, imported.warnings)
    };
    warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    if options.strict && !warnings.is_empty() {
        bail!("{origin}: --strict takes no warnings, and there are {}: nothing was written", warnings.len());
    }
    notes.iter().for_each(|note| eprintln!("note: {note}"));
    write_atomically(output, &bytes).with_context(|| format!("can't write {}", output.display()))?;
    eprintln!("{}: {what} of {origin} ({format})", output.display());
    Ok(())
}

fn provenance(options: &Options) -> Provenance {
    let mut provenance = Provenance::default();
    provenance.set("tool", format!("fleetfoot {}", env!("CARGO_PKG_VERSION")));
    let name = options.file.file_name().map(Path::new).unwrap_or(&options.file);
    provenance.set("imported_from", name.display());
    if let Some(device) = &options.device {
        provenance.set("device", device);
    }
    provenance
}
