//! Networks as they run: batch normalisation folded into the convolutions in front of it.

use crate::layer::Layer;
use crate::network::{Network, Node, Source};
use crate::weights::{Tensor, Weights, WeightsError};

/// What a step computes, with its parameters.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Operation {
    /// Convolution with bias; the padding is `kernel / 2` on every side. The weight is C_out x C_in / groups x k x k.
    Conv { kernel: usize, stride: usize, groups: usize, weight: Tensor, bias: Vec<f32> },
    /// `min(max(x, 0), 6)`.
    Relu6,
    /// As [`Layer::ChannelShuffle`].
    ChannelShuffle { groups: usize },
    /// Sum of two activations.
    Add,
    /// Mean over height and width.
    GlobalAveragePool,
    /// Fully connected with bias. The weight is C_out x C_in.
    Linear { weight: Tensor, bias: Vec<f32> },
}

/// One computation of a network in inference form.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Step {
    /// The name of the node that the computation, and its parameters, belong to.
    pub name: String,
    /// What is computed.
    pub operation: Operation,
    /// From where.
    pub inputs: Vec<Source>,
    /// The node whose output comes out.
    pub node: usize,
}

/// The steps of a network in topological order. A convolution carries the BN behind it as its weight and bias:
/// `w' = w g / sqrt(v + eps)`, `b' = b - m g / sqrt(v + eps)`. A BN that has no convolution of its own in front of it is a
/// depthwise 1x1 convolution.
pub(crate) fn steps(network: &Network, weights: &Weights) -> Result<Vec<Step>, WeightsError> {
    let consumers = network.consumers();
    let mut steps: Vec<Step> = Vec::with_capacity(network.nodes().len());
    for (index, node) in network.nodes().iter().enumerate() {
        let parameter = |name: &str| parameter(node, weights, name);
        let operation = match node.layer {
            Layer::Conv { kernel, stride, groups, c_out, .. } => {
                let weight = parameter("weight")?.clone();
                Operation::Conv { kernel, stride, groups, weight, bias: vec![0.0; c_out] }
            }
            Layer::BatchNorm { channels } => {
                let affine = affine(network, node, weights)?;
                let last = steps.last_mut().filter(|last| {
                    node.inputs == [Source::Node(last.node)]
                        && consumers[last.node] == 1
                        && matches!(last.operation, Operation::Conv { .. })
                });
                if let Some(step) = last {
                    fold(step, &affine, index);
                    continue;
                }
                let ones = Tensor { dims: vec![channels, 1, 1, 1], data: vec![1.0; channels] };
                let bias = vec![0.0; channels];
                let identity = Operation::Conv { kernel: 1, stride: 1, groups: channels, weight: ones, bias };
                let (name, inputs) = (node.name.clone(), node.inputs.clone());
                let mut step = Step { name, operation: identity, inputs, node: index };
                fold(&mut step, &affine, index);
                steps.push(step);
                continue;
            }
            Layer::Relu6 => Operation::Relu6,
            Layer::ChannelShuffle { groups } => Operation::ChannelShuffle { groups },
            Layer::Add => Operation::Add,
            Layer::GlobalAveragePool => Operation::GlobalAveragePool,
            Layer::Linear { .. } => {
                Operation::Linear { weight: parameter("weight")?.clone(), bias: parameter("bias")?.data.clone() }
            }
        };
        steps.push(Step { name: node.name.clone(), operation, inputs: node.inputs.clone(), node: index });
    }
    Ok(steps)
}

/// The steps without the ReLU6s that are their convolution's only consumer: where outputs saturate at 0 and at 6 at most,
/// as quantised ones do, nothing is left for them to do.
pub(crate) fn without_clips(network: &Network, steps: Vec<Step>) -> Vec<Step> {
    let consumers = network.consumers();
    let mut kept: Vec<Step> = Vec::with_capacity(steps.len());
    for step in steps {
        let conv = kept.last_mut().filter(|last| {
            step.operation == Operation::Relu6
                && step.inputs == [Source::Node(last.node)]
                && consumers[last.node] == 1
                && matches!(last.operation, Operation::Conv { .. })
        });
        match conv {
            Some(conv) => conv.node = step.node,
            None => kept.push(step),
        }
    }
    kept
}

fn parameter<'a>(node: &Node, weights: &'a Weights, name: &str) -> Result<&'a Tensor, WeightsError> {
    let specs = node.layer.parameters();
    let spec = specs.iter().find(|spec| spec.name == name);
    let dims = spec.map(|spec| spec.dims.clone()).unwrap_or_default();
    weights.get(&format!("{}.{name}", node.name), &dims)
}

/// A BN as factor and addend of each channel.
fn affine(network: &Network, bn: &Node, weights: &Weights) -> Result<Vec<(f64, f32)>, WeightsError> {
    let tensors = ["weight", "bias", "running_mean", "running_var"].map(|name| parameter(bn, weights, name));
    let [gamma, beta, mean, var] = tensors;
    let (gamma, beta, mean, var) = (&gamma?.data, &beta?.data, &mean?.data, &var?.data);
    let eps = f64::from(network.bn_eps());
    let channel = |c: usize| {
        let scale = f64::from(gamma[c]) / (f64::from(var[c]) + eps).sqrt();
        (scale, (f64::from(beta[c]) - f64::from(mean[c]) * scale) as f32)
    };
    Ok((0..gamma.len()).map(channel).collect())
}

fn fold(step: &mut Step, affine: &[(f64, f32)], node: usize) {
    let Operation::Conv { weight, bias, .. } = &mut step.operation else { return };
    let per_channel = weight.data.len() / affine.len();
    for (filter, (scale, _)) in weight.data.chunks_exact_mut(per_channel).zip(affine) {
        filter.iter_mut().for_each(|w| *w = (f64::from(*w) * scale) as f32);
    }
    *bias = affine.iter().map(|(_, addend)| *addend).collect();
    step.node = node;
}
