//! `fleetfoot export`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use fleetfoot_profiler::{DeviceConfig, write_atomically};
use fleetfoot_search::{AgentRuntime, Check, Layout, Runtime, Source, channel_statistics, compare, to_onnx};
use fleetfoot_space::{SearchSpace, Weights};

use super::train::{RECORD, WEIGHTS, read};
use super::{DataOptions, write_json};

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
    #[arg(long, value_name = "N", default_value_t = 100)]
    images: usize,
    /// Device whose runtime the comparison uses
    #[arg(long, value_name = "DEVICE", default_value = "local-cpu")]
    device: String,
}

/// Runs the command.
pub fn run(options: &Options) -> Result<()> {
    let mut record = read(&options.folder)?;
    let (space, architecture) = SearchSpace::load(&record.space)?.resolve(&record.named)?;
    let weights = Weights::read(&options.folder.join(WEIGHTS))?;
    let dataset = options.data.load(&space)?;
    let count = options.images.min(dataset.test.len());
    if count == 0 {
        bail!("--images 0: an export is never written unchecked");
    }
    let statistics = channel_statistics(&dataset.train);
    let onnx = to_onnx(&space, &architecture, &weights, &statistics)?;
    let images = Source {
        images: dataset.test,
        indices: Arc::new((0..count).collect()),
        statistics,
        layout: Layout::ChannelsLast,
    };
    let mut runtime = AgentRuntime::new(&DeviceConfig::load(&options.device)?, &onnx)?;
    let difference = compare(&space, &architecture, &weights, &images, &mut runtime)?;
    let path = options.output.clone().unwrap_or_else(|| options.folder.join("model.onnx"));
    write_atomically(&path, &onnx).with_context(|| format!("can't write {}", path.display()))?;
    let runtime = runtime.name();
    eprintln!("{}: {runtime} differs from libtorch by at most {difference:.1e} on {count} test images", path.display());
    let file = path.display().to_string();
    record.onnx = Some(Check { file, images: count, max_abs_difference: difference, runtime });
    write_json(&options.folder.join(RECORD), &record)
}
