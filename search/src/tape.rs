//! A module's forward and backward passes without a graph of libtorch's: of all activations, only what convolutions put out
//! is kept. What batch normalisation, ReLU6 and sums make of it is computed a second time when a gradient needs it, which
//! takes one pass over memory; libtorch's own graph keeps twice as much.

use fleetfoot_space::{Layer, Source};
use tch::{Kind, TchError, Tensor, no_grad};

use crate::module::{Mode, Module};
use crate::native::{Statistics, Wanted};

/// What a module's forward pass leaves for its backward pass.
#[derive(Debug)]
pub struct Tape {
    input: Tensor,
    /// Outputs of nodes that can't be computed again from others.
    kept: Vec<Option<Tensor>>,
    /// Of batch normalisations: the batch's mean and 1 / standard deviation.
    statistics: Vec<Option<Statistics>>,
}

/// What a backward pass gives.
#[derive(Debug)]
pub struct Slopes {
    /// By the module's input; none where it wasn't wanted.
    pub by_input: Option<Tensor>,
    /// By the trainable parameters, in their order; none where they weren't wanted.
    pub by_parameters: Vec<Tensor>,
}

impl Tape {
    /// The output, and what its gradients need. `mode` is one of those that normalise by the batch.
    pub fn record(module: &Module, input: &Tensor, mode: Mode) -> Result<(Tensor, Self), TchError> {
        let nodes = module.network().nodes();
        let mut tape = Self {
            input: no_grad(|| module.taken_in(input, mode))?,
            kept: Vec::with_capacity(nodes.len()),
            statistics: Vec::with_capacity(nodes.len()),
        };
        let mut left = module.network().consumers();
        // Outputs on their way to the nodes that read them.
        let mut values: Vec<Option<Tensor>> = Vec::with_capacity(nodes.len());
        no_grad(|| {
            for (index, node) in nodes.iter().enumerate() {
                let mut inputs = Vec::with_capacity(node.inputs.len());
                for &source in &node.inputs {
                    inputs.push(tape.taken(&mut values, &mut left, source));
                }
                let (output, statistics) = module.fused(index, inputs, mode, false)?;
                let again = matches!(node.layer, Layer::Conv { .. } | Layer::Linear { .. });
                tape.kept.push(again.then(|| output.shallow_clone()));
                tape.statistics.push(statistics);
                values.push(Some(output));
            }
            let output = tape.taken(&mut values, &mut left, module.network().output());
            Ok((output, tape))
        })
    }

    fn taken(&self, values: &mut [Option<Tensor>], left: &mut [usize], source: Source) -> Tensor {
        let Source::Node(index) = source else { return self.input.shallow_clone() };
        left[index] -= 1;
        let last = if left[index] == 0 { values[index].take() } else { None };
        last.or_else(|| values[index].as_ref().map(Tensor::shallow_clone)).unwrap_or_default()
    }

    /// The value of a source: as it was kept, or computed again from what was.
    fn value(&mut self, module: &Module, source: Source) -> Result<Tensor, TchError> {
        let Source::Node(index) = source else { return Ok(self.input.shallow_clone()) };
        if let Some(kept) = &self.kept[index] {
            return Ok(kept.shallow_clone());
        }
        let node = &module.network().nodes()[index];
        let again = match (&node.layer, &self.statistics[index]) {
            (Layer::BatchNorm { .. }, Some(statistics)) => {
                let statistics = statistics.shallow_clone();
                let x = self.value(module, node.inputs[0])?;
                module.batch_norm(index).again(&x, &statistics)?
            }
            _ => {
                let inputs =
                    node.inputs.iter().map(|&source| self.value(module, source)).collect::<Result<Vec<_>, _>>()?;
                module.fused(index, inputs, Mode::Probe, false)?.0
            }
        };
        self.kept[index] = Some(again.shallow_clone());
        Ok(again)
    }

    /// A tensor of a source's shape and memory order, whatever its values.
    fn alike(&mut self, module: &Module, source: Source) -> Result<Tensor, TchError> {
        let Source::Node(index) = source else { return Ok(self.input.shallow_clone()) };
        let node = &module.network().nodes()[index];
        match node.layer {
            Layer::BatchNorm { .. } | Layer::Relu6 if self.kept[index].is_none() => self.alike(module, node.inputs[0]),
            _ => self.value(module, source),
        }
    }

    /// Gradients by the input and by the parameters, as far as they are wanted, from those by the output.
    pub fn backward(mut self, module: &Module, slope: Tensor, wanted: Wanted) -> Result<Slopes, TchError> {
        no_grad(|| {
            let nodes = module.network().nodes();
            let mut slopes: Vec<Option<Tensor>> = (0..nodes.len()).map(|_| None).collect();
            let mut by_input = None;
            let mut by_parameters: Vec<Vec<Tensor>> = (0..nodes.len()).map(|_| Vec::new()).collect();
            add(&mut slopes, &mut by_input, module.network().output(), slope)?;
            for (index, node) in nodes.iter().enumerate().rev() {
                let Some(slope) = slopes[index].take() else { continue };
                // Nobody asks for the slopes of the images.
                let below = wanted.by_input || node.inputs.iter().any(|source| *source != Source::Input);
                let step = Wanted { by_input: below, ..wanted };
                let (below, own) = self.node_backward(module, index, slope, step)?;
                by_parameters[index] = own;
                for (&source, slope) in node.inputs.iter().zip(below) {
                    add(&mut slopes, &mut by_input, source, slope)?;
                }
                self.kept[index] = None;
            }
            let by_parameters = by_parameters.into_iter().flatten().collect();
            Ok(Slopes { by_input: by_input.filter(|_| wanted.by_input), by_parameters })
        })
    }

    /// Gradients by a node's inputs, in their order, and by its parameters.
    fn node_backward(
        &mut self,
        module: &Module,
        index: usize,
        slope: Tensor,
        wanted: Wanted,
    ) -> Result<(Vec<Tensor>, Vec<Tensor>), TchError> {
        let node = &module.network().nodes()[index];
        let value = |parameter: usize| &module.parameters_of(index)[parameter].value;
        match node.layer {
            Layer::Conv { .. } => {
                // Only the weights' gradients depend on what was convolved.
                let x = if wanted.by_weight {
                    self.value(module, node.inputs[0])?
                } else {
                    self.alike(module, node.inputs[0])?
                };
                let Some(conv) = module.geometry(index) else { return Ok((vec![slope], Vec::new())) };
                let (below, own) = conv.backward(&slope, &x, value(0), wanted)?;
                Ok((below.into_iter().collect(), own.into_iter().collect()))
            }
            Layer::BatchNorm { .. } => {
                let Some(statistics) = self.statistics[index].take() else { return Ok((vec![slope], Vec::new())) };
                let x = self.value(module, node.inputs[0])?;
                let norm = module.batch_norm(index);
                let [below, weight, bias] = norm.backward(slope, &x, &statistics, wanted.by_weight)?;
                Ok((below.into_iter().collect(), weight.into_iter().chain(bias).collect()))
            }
            Layer::Relu6 if module.is_done(index) => Ok((vec![slope], Vec::new())),
            Layer::Relu6 => {
                // Where it is 0 or 6 it was cut, and nothing passes.
                let y = self.value(module, Source::Node(index))?;
                Ok((vec![y.f_hardtanh_backward_grad_input(&slope, &slope, 0.0, 6.0)?], Vec::new()))
            }
            // Two of their own: slopes are overwritten.
            Layer::Add => Ok((vec![slope.copy(), slope], Vec::new())),
            Layer::ChannelShuffle { groups } => {
                let channels = slope.size()[1];
                let back = slope.f_channel_shuffle(channels / groups as i64)?;
                Ok((vec![module.layout().arrange(&back)?], Vec::new()))
            }
            Layer::GlobalAveragePool => {
                let shape = module.network().shape(node.inputs[0]);
                let (h, w) = (shape.h as i64, shape.w as i64);
                let each = slope.f_div_scalar(h * w)?.f_expand([-1, -1, h, w], false)?;
                Ok((vec![module.layout().arrange(&each)?], Vec::new()))
            }
            Layer::Linear { .. } => {
                let x = self.value(module, node.inputs[0])?;
                let numbers = x.f_kind()?;
                let sloped = slope.f_to_kind(numbers)?;
                let below = sloped.f_matmul(&value(0).f_to_kind(numbers)?)?.f_view_as(&x)?;
                if !wanted.by_weight {
                    return Ok((vec![below], Vec::new()));
                }
                let weight = sloped.f_transpose(0, 1)?.f_matmul(&x.f_flatten(1, -1)?)?.f_to_kind(value(0).f_kind()?)?;
                let bias = slope.f_sum_dim_intlist([0].as_slice(), false, None::<Kind>)?;
                Ok((vec![below], vec![weight, bias]))
            }
        }
    }
}

/// Adds to a source's slope.
fn add(
    slopes: &mut [Option<Tensor>],
    by_input: &mut Option<Tensor>,
    source: Source,
    slope: Tensor,
) -> Result<(), TchError> {
    let place = match source {
        Source::Input => by_input,
        Source::Node(index) => &mut slopes[index],
    };
    *place = Some(match place.take() {
        Some(before) => before.f_add(&slope)?,
        None => slope,
    });
    Ok(())
}
