//! From trained weights to an ONNX model, checked against libtorch on real images.

use std::collections::BTreeMap;

use fleetfoot_profiler::{Agent, AgentError, DeviceConfig};
use fleetfoot_space::{Architecture, Precision, Ranges, SearchSpace, Weights, write_calibrated_onnx, write_onnx};
use serde::{Deserialize, Serialize};
use tch::no_grad;

use crate::batches::{Batch, Source};
use crate::error::SearchError;
use crate::module::{Mode, Module};

/// The largest difference of an output that is permitted, relative to max(1, |output|).
pub const LIMIT: f64 = 1e-4;

/// How an exported model was checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// The model's file.
    pub file: String,
    /// Images that were compared.
    pub images: usize,
    /// The largest difference, relative to max(1, |output|).
    pub max_abs_difference: f64,
    /// The runtime that was compared with.
    pub runtime: String,
}

/// How a model of fewer bits was judged, beside the fp32 model of the same weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reduced {
    /// The model's file.
    pub file: String,
    /// Its accuracy on the test images, in percent.
    pub accuracy_percent: f64,
    /// The fp32 model's accuracy on the same images, in the same runtime.
    pub fp32_accuracy_percent: f64,
    /// Test images.
    pub images: usize,
    /// Training images that the activations' ranges are of; none in fp16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration_images: Option<usize>,
    /// How the ranges were chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observer: Option<String>,
    /// The runtime that both models ran in.
    pub runtime: String,
}

/// The numbers that an exported model computes with.
#[derive(Clone, Debug, PartialEq)]
pub enum Numbers {
    /// 32-bit floats.
    Fp32,
    /// 16-bit floats between fp32 ends.
    Fp16,
    /// 8-bit integers between fp32 ends (QDQ), by these ranges of activations.
    Int8(Ranges),
}

/// Something that runs an ONNX model on one image: its outputs.
pub trait Runtime {
    /// Outputs (classes) of an input (1 x C x H x W).
    fn run(&mut self, dims: &[usize], input: &[f32]) -> Result<Vec<f32>, AgentError>;
    /// Its name and version.
    fn name(&self) -> String;
}

/// ONNX Runtime in an agent, with a model loaded.
#[derive(Debug)]
pub struct AgentRuntime {
    agent: Agent,
    model: fleetfoot_profiler::ModelId,
}

impl AgentRuntime {
    /// Starts an agent and loads a model.
    pub fn new(device: &DeviceConfig, onnx: &[u8]) -> Result<Self, AgentError> {
        let mut agent = Agent::start(device)?;
        let model = agent.load(onnx)?;
        Ok(Self { agent, model })
    }
}

impl Runtime for AgentRuntime {
    fn run(&mut self, dims: &[usize], input: &[f32]) -> Result<Vec<f32>, AgentError> {
        Ok(self.agent.run(self.model, dims, input)?.1)
    }

    fn name(&self) -> String {
        self.agent.runtime().to_owned()
    }
}

/// The ONNX bytes of a trained network in fp32; the normalisation of its input images is in the model's properties.
pub fn to_onnx(
    space: &SearchSpace,
    architecture: &Architecture,
    weights: &Weights,
    statistics: &[(f32, f32)],
) -> Result<Vec<u8>, SearchError> {
    to_onnx_in(&Numbers::Fp32, space, architecture, weights, statistics)
}

/// The same in any numbers.
pub fn to_onnx_in(
    numbers: &Numbers,
    space: &SearchSpace,
    architecture: &Architecture,
    weights: &Weights,
    statistics: &[(f32, f32)],
) -> Result<Vec<u8>, SearchError> {
    let list = |pick: fn(&(f32, f32)) -> f32| {
        let values: Vec<String> = statistics.iter().map(|pair| pick(pair).to_string()).collect();
        values.join(",")
    };
    let mut metadata = BTreeMap::from([
        ("space".to_owned(), space.name().to_owned()),
        ("architecture".to_owned(), architecture.to_string()),
        ("input_mean".to_owned(), list(|pair| pair.0)),
        ("input_std".to_owned(), list(|pair| pair.1)),
        ("input_scale".to_owned(), "pixels / 255".to_owned()),
    ]);
    if space.width_multiplier() != 1.0 {
        metadata.insert("width_multiplier".to_owned(), space.width_multiplier().to_string());
    }
    let network = |precision| space.network_at(architecture, 1, precision);
    Ok(match numbers {
        Numbers::Fp32 => write_onnx(&network(Precision::Fp32)?, weights, &metadata)?,
        Numbers::Fp16 => write_onnx(&network(Precision::Fp16)?, weights, &metadata)?,
        Numbers::Int8(ranges) => write_calibrated_onnx(&network(Precision::Int8)?, weights, ranges, &metadata)?,
    })
}

/// Share of images that a model in a runtime classifies rightly, in percent, of those that can be read.
pub fn accuracy_percent(images: &Source, runtime: &mut impl Runtime) -> Result<f64, SearchError> {
    let (channels, height, width) = images.images.size();
    let dims = [1, channels, height, width];
    let (mut right, mut seen) = (0, 0u32);
    for batch in images.in_order(1) {
        let batch = batch?;
        seen += 1;
        let logits = run(runtime, &dims, &batch)?;
        let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(class, _)| class as i64);
        right += u32::from(best == Some(batch.labels.f_int64_value(&[0])?));
    }
    Ok(100.0 * f64::from(right) / f64::from(seen.max(1)))
}

/// The outputs for a batch of one image.
fn run(runtime: &mut impl Runtime, dims: &[usize], batch: &Batch) -> Result<Vec<f32>, SearchError> {
    let values = Vec::<f32>::try_from(&batch.images.f_contiguous()?.f_reshape([-1])?)?;
    runtime.run(dims, &values).map_err(|error| SearchError::ExportUnchecked(error.to_string()))
}

/// Compares a model's outputs with libtorch's on images: the largest difference, relative to max(1, |output|). More
/// than [`LIMIT`] is an error.
pub fn compare(
    space: &SearchSpace,
    architecture: &Architecture,
    weights: &Weights,
    images: &Source,
    runtime: &mut impl Runtime,
) -> Result<f64, SearchError> {
    let module = Module::new(space.network(architecture)?, weights, images.placement)?;
    let input = space.input();
    let dims = [1, input.c, input.h, input.w];
    let mut largest = 0.0;
    for (image, batch) in images.in_order(1).enumerate() {
        let batch = batch?;
        let expected = no_grad(|| module.forward(&batch.images, Mode::Eval))?.f_reshape([-1])?;
        let expected = Vec::<f32>::try_from(&expected)?;
        let found = run(runtime, &dims, &batch)?;
        if found.len() != expected.len() {
            let what = format!("it has {} outputs, the network {}", found.len(), expected.len());
            return Err(SearchError::ExportUnchecked(what));
        }
        for (found, expected) in found.iter().zip(&expected) {
            let difference = f64::from((found - expected).abs() / expected.abs().max(1.0));
            // A NaN differs from everything.
            if difference.is_nan() || difference > LIMIT {
                return Err(SearchError::ExportDiffers { difference, image, limit: LIMIT });
            }
            largest = f64::max(largest, difference);
        }
    }
    Ok(largest)
}
