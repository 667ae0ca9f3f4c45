//! `fleetfoot export`.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use fleetfoot_console::{claim_equal, count};
use fleetfoot_profiler::{DeviceConfig, write_atomically};
use fleetfoot_search::{AgentRuntime, Check, Layout, Runtime, Source, compare, to_onnx};
use fleetfoot_space::Weights;

use super::train::{RECORD, WEIGHTS, read};
use super::{DataOptions, Naming, write_json};

/// Options of `export`.
#[derive(Debug, Args)]
pub struct Options {
    /// Folder of a finished training
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// The model to write; default: DIR/model.onnx
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    data: DataOptions,
    /// Test images on which ONNX Runtime's outputs are compared with libtorch's
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = count())]
    images: usize,
    /// Device whose runtime the comparison uses
    #[arg(long, value_name = "DEVICE", default_value = "local-cpu")]
    device: String,
    /// Replace an existing model that is another one
    #[arg(long)]
    force: bool,
}

/// Runs the command.
pub fn run(options: &Options) -> Result<()> {
    let mut record = read(&options.folder)?;
    let (space, architecture) = record.resolve(&options.folder)?;
    let weights = Weights::read(&options.folder.join(WEIGHTS))?;
    let data = options.data.or(&record.images);
    let dataset = data.load(&space)?;
    if dataset.fingerprint() != record.images.sha256 {
        bail!(
            "the data set isn't the one ({}) that {} was trained on: name that one's folder with --data",
            record.dataset,
            options.folder.display()
        );
    }
    let count = options.images.min(dataset.test.len());
    let statistics = record.normalisation.clone();
    let onnx = to_onnx(&space, &architecture, &weights, &statistics)?;
    let images = Source { images: dataset.test.subset(0..count), statistics, layout: Layout::ChannelsLast };
    let mut runtime = AgentRuntime::new(&DeviceConfig::load(&options.device)?, &onnx)?;
    let difference = compare(&space, &architecture, &weights, &images, &mut runtime)?;
    let mut naming = Naming::new(&dataset.test);
    naming.name(|line| eprintln!("{line}"));
    let count = count - dataset.test.corrupt().len();
    if count == 0 {
        bail!("none of the images that were to be compared could be read: compare more, with --images");
    }
    let path = options.output.clone().unwrap_or_else(|| options.folder.join("model.onnx"));
    claim_equal(&path, &onnx, options.force, "or replace it with --force")?;
    write_atomically(&path, &onnx).with_context(|| format!("can't write {}", path.display()))?;
    let runtime = runtime.name();
    eprintln!("{}: {runtime} differs from libtorch by at most {difference:.1e} on {count} test images", path.display());
    let file = path.display().to_string();
    record.onnx = Some(Check { file, images: count, max_abs_difference: difference, runtime });
    write_json(&options.folder.join(RECORD), &record)
}
