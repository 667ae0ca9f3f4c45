//! What a network computes, in plain loops: the ranges that quantisation needs, and what runtimes are held against.

use crate::inference::{Operation, Step, steps};
use crate::network::{Network, Source};
use crate::shape::Shape;
use crate::weights::{Tensor, Weights, WeightsError};

/// The output of a network on an input (N x C x H x W, as many images as there are values for), row-major, in fp32
/// whatever the network's precision. An incomplete image at the end is left out.
pub fn evaluate(network: &Network, weights: &Weights, input: &[f32]) -> Result<Vec<f32>, WeightsError> {
    let steps = steps(network, weights)?;
    let images = input.chunks_exact(network.input().with_batch(1).elements());
    let output = |image: &[f32]| match network.output() {
        Source::Input => image.to_vec(),
        Source::Node(node) => std::mem::take(&mut activations(network, &steps, image)[node]),
    };
    Ok(images.flat_map(output).collect())
}

/// The outputs of all nodes for one image; empty for those that don't come out of a step.
pub(crate) fn activations(network: &Network, steps: &[Step], image: &[f32]) -> Vec<Vec<f32>> {
    let mut values = vec![Vec::new(); network.nodes().len()];
    for step in steps {
        let inputs: Vec<&[f32]> = step
            .inputs
            .iter()
            .map(|source| match *source {
                Source::Input => image,
                Source::Node(node) => values[node].as_slice(),
            })
            .collect();
        let x = inputs[0];
        let shape = network.shape(step.inputs[0]);
        let plane = shape.h * shape.w;
        values[step.node] = match &step.operation {
            Operation::Conv { kernel, stride, groups, weight, bias } => {
                let out = network.shape(Source::Node(step.node));
                Conv { kernel: *kernel, stride: *stride, groups: *groups, weight, bias }.apply(x, shape, out)
            }
            Operation::Relu6 => x.iter().map(|x| x.clamp(0.0, 6.0)).collect(),
            Operation::ChannelShuffle { groups } => {
                // Channel i * groups + g comes from g * (c / groups) + i.
                let from = |c: usize| c % groups * (shape.c / groups) + c / groups;
                (0..shape.c).flat_map(|c| &x[from(c) * plane..][..plane]).copied().collect()
            }
            Operation::Add => x.iter().zip(inputs[1]).map(|(a, b)| a + b).collect(),
            Operation::GlobalAveragePool => {
                x.chunks_exact(plane).map(|channel| channel.iter().sum::<f32>() / plane as f32).collect()
            }
            Operation::Linear { weight, bias } => {
                let filters = weight.data.chunks_exact(x.len()).zip(bias);
                filters.map(|(w, b)| b + w.iter().zip(x).map(|(w, x)| w * x).sum::<f32>()).collect()
            }
        };
    }
    values
}

struct Conv<'a> {
    kernel: usize,
    stride: usize,
    groups: usize,
    weight: &'a Tensor,
    bias: &'a [f32],
}

impl Conv<'_> {
    fn apply(&self, x: &[f32], shape: Shape, out: Shape) -> Vec<f32> {
        let Self { kernel, stride, .. } = *self;
        let (inputs, outputs) = (shape.c / self.groups, out.c / self.groups);
        // What looks at single pixels sees one long row.
        let flat = |shape: Shape| if kernel == 1 && stride == 1 { (1, shape.h * shape.w) } else { (shape.h, shape.w) };
        let ((h, w), (out_h, out_w)) = (flat(shape), flat(out));
        let mut values = Vec::with_capacity(out.c * out_h * out_w);
        for (o, filter) in self.weight.data.chunks_exact(inputs * kernel * kernel).enumerate() {
            let mut plane = vec![self.bias[o]; out_h * out_w];
            for (tap, &weight) in filter.iter().enumerate() {
                let channel = o / outputs * inputs + tap / (kernel * kernel);
                let (dy, dx) = (tap / kernel % kernel, tap % kernel);
                let source = &x[channel * h * w..][..h * w];
                let (columns, first) = self.reach(dx, w, out_w);
                for y in 0..out_h {
                    let Some(row) = (y * stride + dy).checked_sub(kernel / 2).filter(|&row| row < h) else { continue };
                    let target = &mut plane[y * out_w..][columns.clone()];
                    let source = &source[row * w..][..w];
                    accumulate(target, source.get(first..).unwrap_or_default(), stride, weight);
                }
            }
            values.append(&mut plane);
        }
        values
    }

    /// The columns of the output that a column of the kernel has an input for, and the first one's input.
    fn reach(&self, dx: usize, w: usize, out_w: usize) -> (std::ops::Range<usize>, usize) {
        let pad = self.kernel / 2;
        let first = pad.saturating_sub(dx).div_ceil(self.stride).min(out_w);
        let end = (w + pad).saturating_sub(dx).div_ceil(self.stride).min(out_w);
        (first..end.max(first), (first * self.stride + dx).saturating_sub(pad))
    }
}

fn accumulate(target: &mut [f32], source: &[f32], stride: usize, weight: f32) {
    if stride == 1 {
        target.iter_mut().zip(source).for_each(|(t, s)| *t += weight * s);
    } else {
        target.iter_mut().zip(source.iter().step_by(stride)).for_each(|(t, s)| *t += weight * s);
    }
}
