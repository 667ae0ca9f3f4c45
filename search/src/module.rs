//! Networks on libtorch: the second interpreter of `fleetfoot-space`'s graphs of layers, beside the ONNX writer.

use fleetfoot_space::{BATCH_NORM_MOMENTUM, Layer, Network, Node, Source, Weights};
use tch::{Kind, TchError, Tensor, no_grad};

use crate::convolution::Geometry;
use crate::error::SearchError;
use crate::layout::Layout;
use crate::native::{BatchNorm, Statistics, dot, graph_wanted};
use crate::placement::Placement;

/// What batch normalisation normalises by, and whether it learns from the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// By the batch's statistics, which also move the running ones.
    Train,
    /// By the batch's statistics; the running ones stay as they are.
    Probe,
    /// By the running statistics.
    Eval,
}

/// A named tensor of a module.
#[derive(Debug)]
pub struct Parameter {
    /// `NODE.PARAMETER`, such as `stage2.0.expand.bn.running_mean`.
    pub name: String,
    /// Its value: 32-bit floats, where the module's placement says.
    pub value: Tensor,
    /// Whether it learns by gradient.
    pub trainable: bool,
    /// The optimiser's momentum; none before the first step.
    pub momentum: Option<Tensor>,
}

impl Parameter {
    /// Its value as a plain row-major tensor.
    pub fn to_weights(&self) -> Result<fleetfoot_space::Tensor, TchError> {
        let plain = self.value.f_detach()?.f_contiguous()?.f_reshape([-1])?;
        let mut data = vec![0.0f32; plain.numel()];
        plain.f_copy_data(&mut data, plain.numel())?;
        let dims = self.value.size().into_iter().map(|extent| extent as usize).collect();
        Ok(fleetfoot_space::Tensor { dims, data })
    }
}

/// A network, or a single operator, with its parameters.
#[derive(Debug)]
pub struct Module {
    network: Network,
    placement: Placement,
    /// In the order of the nodes, and in a node in the order of [`Layer::parameters`].
    parameters: Vec<Parameter>,
    /// The first of every node's parameters.
    first: Vec<usize>,
    consumers: Vec<usize>,
}

impl Module {
    /// A network with given weights.
    pub fn new(network: Network, weights: &Weights, placement: impl Into<Placement>) -> Result<Self, SearchError> {
        let placement = placement.into();
        let mut parameters = Vec::new();
        let mut first = Vec::new();
        for node in network.nodes() {
            first.push(parameters.len());
            for spec in node.layer.parameters() {
                let name = format!("{}.{}", node.name, spec.name);
                let tensor = weights.get(&name, &spec.dims)?;
                let dims: Vec<i64> = spec.dims.iter().map(|&extent| extent as i64).collect();
                let value = placement.tensor(&tensor.data, &dims)?.f_set_requires_grad(spec.trainable)?;
                parameters.push(Parameter { name, value, trainable: spec.trainable, momentum: None });
            }
        }
        let consumers = network.consumers();
        Ok(Self { network, placement, parameters, first, consumers })
    }

    /// The weights that training from scratch starts from; `seed` draws them.
    pub fn initial(network: Network, seed: u64, placement: impl Into<Placement>) -> Result<Self, SearchError> {
        let weights = Weights::initial(&network, seed);
        Self::new(network, &weights, placement)
    }

    /// With a momentum of 0 for whatever learns: the same as none, but the memory is taken.
    pub fn with_momentum(mut self) -> Result<Self, SearchError> {
        for parameter in self.parameters.iter_mut().filter(|parameter| parameter.trainable) {
            parameter.momentum = Some(parameter.value.f_zeros_like()?.f_set_requires_grad(false)?);
        }
        Ok(self)
    }

    /// The graph.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Where its weights lie, and in which numbers it computes.
    pub fn placement(&self) -> Placement {
        self.placement
    }

    /// The memory order of its weights.
    pub fn layout(&self) -> Layout {
        self.placement.layout
    }

    /// All parameters, BN's running statistics included.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// All parameters, to be updated.
    pub fn parameters_mut(&mut self) -> &mut [Parameter] {
        &mut self.parameters
    }

    /// Copies all parameters into weights as they are named in the network.
    pub fn collect(&self, weights: &mut Weights) -> Result<(), TchError> {
        for parameter in &self.parameters {
            weights.insert(parameter.name.clone(), parameter.to_weights()?);
        }
        Ok(())
    }

    /// Whether the layers have the same names and the same groups, whatever their sizes.
    pub fn has_layers_of(&self, other: &Self) -> bool {
        let layer = |node: &Node| {
            let groups = match node.layer {
                Layer::Conv { c_in, groups, .. } if c_in != groups => Some(groups),
                Layer::ChannelShuffle { groups } => Some(groups),
                _ => None,
            };
            (node.name.clone(), groups)
        };
        self.network.nodes().iter().map(layer).eq(other.network.nodes().iter().map(layer))
    }

    /// Starts from another module's weights, as far as they fit. Every channel that both have computes what the other's
    /// does, with 0 for further input channels and for kernel taps further out; further channels start from their own
    /// weights. So a module with at least the other's width and kernels computes what the other computes (Net2Net, Chen
    /// et al., ICLR 2016). A narrower one takes the inner channels that weigh most in the other's projection
    /// (Once-for-All, Cai et al., ICLR 2020), a smaller kernel the middle taps. Momentum is forgotten. A module of [other
    /// layers](Self::has_layers_of) stays as it is.
    pub fn inherit_from(&mut self, other: &Self) -> Result<(), TchError> {
        if !self.has_layers_of(other) {
            return Ok(());
        }
        let order = other.by_weight()?;
        no_grad(|| {
            for (mine, other) in self.parameters.iter_mut().zip(&other.parameters) {
                mine.momentum = None;
                let (mut to, mut from) = (mine.value.shallow_clone(), other.value.shallow_clone());
                let inner = inner_channels(&mine.name).zip(order.as_ref());
                if let Some((dim, order)) =
                    inner.filter(|&(dim, _)| to.size()[dim as usize] < from.size()[dim as usize])
                {
                    from = from.f_index_select(dim, order)?;
                }
                for (dim, (wide, narrow)) in mine.value.size().into_iter().zip(other.value.size()).enumerate() {
                    let common = wide.min(narrow);
                    // Channels (0 and 1) lead, kernel taps lie in the middle.
                    let start = |extent: i64| if dim < 2 { 0 } else { (extent - common) / 2 };
                    to = to.f_narrow(dim as i64, start(wide), common)?;
                    from = from.f_narrow(dim as i64, start(narrow), common)?;
                    if dim == 0 {
                        let _ = to.f_zero_()?;
                    }
                }
                to.f_copy_(&from)?;
            }
            Ok(())
        })
    }

    /// Inner channels by the sum of their absolute weights in the projection, the largest first.
    fn by_weight(&self) -> Result<Option<Tensor>, TchError> {
        let mut projections = self.parameters.iter().filter(|parameter| inner_channels(&parameter.name) == Some(1));
        let Some(projection) = projections.next() else { return Ok(None) };
        let sums = no_grad(|| projection.value.f_abs()?.f_sum_dim_intlist([0, 2, 3].as_slice(), false, None))?;
        Ok(Some(sums.f_argsort(0, true)?))
    }

    /// The network's output for inputs N x C x H x W: N x classes, in 32-bit floats, where the network ends in a linear layer,
    /// else an activation of four dimensions, in the [numbers](Placement::numbers) of all activations. An operator without
    /// layers returns its input.
    pub fn forward(&self, input: &Tensor, mode: Mode) -> Result<Tensor, TchError> {
        // In a graph, every node is one of libtorch's operators.
        self.run(input, mode, !graph_wanted(), |_, _| Ok(()))
    }

    /// The same; `watch` is shown every node's output as soon as it is there. Later nodes may overwrite it.
    pub fn forward_watched(
        &self,
        input: &Tensor,
        mode: Mode,
        watch: impl FnMut(usize, &Tensor) -> Result<(), TchError>,
    ) -> Result<Tensor, TchError> {
        self.run(input, mode, false, watch)
    }

    /// Sum of the products of the output, by the batch's statistics, with a slope of its extents. A last batch normalisation,
    /// and the sum that its output goes into, aren't written down: their products are taken from what they would read.
    pub fn dot(&self, input: &Tensor, slope: &Tensor) -> Result<f64, TchError> {
        let Some((norm, sum)) = self.tail().filter(|_| !graph_wanted()) else {
            return dot(&no_grad(|| self.forward(input, Mode::Probe))?, slope);
        };
        let input = self.taken_in(input, Mode::Probe)?;
        let mut activations =
            self.computed(&input, Mode::Probe, true, &|node| node == norm || Some(node) == sum, |_, _| Ok(()))?;
        let nodes = self.network.nodes();
        let products = self.batch_norm(norm).dot(&activations.take(nodes[norm].inputs[0]), slope)?;
        match sum {
            Some(sum) => Ok(products + dot(&activations.take(nodes[sum].inputs[1]), slope)?),
            None => Ok(products),
        }
    }

    /// A batch normalisation that gives the output, or the first summand of the sum that does.
    fn tail(&self) -> Option<(usize, Option<usize>)> {
        let nodes = self.network.nodes();
        let Source::Node(last) = self.network.output() else { return None };
        let (norm, sum) = match (&nodes[last].layer, nodes[last].inputs.first()) {
            (Layer::Add, Some(&Source::Node(norm))) => (norm, Some(last)),
            _ => (last, None),
        };
        let alone = self.consumers[norm] == 1 && self.consumers[last] == 1;
        (matches!(nodes[norm].layer, Layer::BatchNorm { .. }) && alone).then_some((norm, sum))
    }

    fn run(
        &self,
        input: &Tensor,
        mode: Mode,
        fused: bool,
        watch: impl FnMut(usize, &Tensor) -> Result<(), TchError>,
    ) -> Result<Tensor, TchError> {
        let input = self.taken_in(input, mode)?;
        Ok(self.computed(&input, mode, fused, &|_| false, watch)?.take(self.network.output()))
    }

    /// What is left to be read once all nodes but some are computed.
    fn computed<'a>(
        &self,
        input: &'a Tensor,
        mode: Mode,
        fused: bool,
        without: &dyn Fn(usize) -> bool,
        mut watch: impl FnMut(usize, &Tensor) -> Result<(), TchError>,
    ) -> Result<Activations<'a>, TchError> {
        let mut activations = Activations { values: Vec::new(), left: self.consumers.clone(), input };
        for (index, node) in self.network.nodes().iter().enumerate() {
            if without(index) {
                activations.values.push(None);
                continue;
            }
            let spare = self.is_spare(node.inputs[0], &activations);
            let inputs = node.inputs.iter().map(|&source| activations.take(source)).collect();
            let output =
                if fused { self.fused(index, inputs, mode, spare)?.0 } else { self.apply(index, inputs, mode)? };
            watch(index, &output)?;
            activations.values.push(Some(output));
        }
        Ok(activations)
    }

    /// Whether a source is a convolution's output, which is nobody else's, with one reader left.
    fn is_spare(&self, source: Source, activations: &Activations<'_>) -> bool {
        let Source::Node(index) = source else { return false };
        activations.left[index] == 1 && matches!(self.network.nodes()[index].layer, Layer::Conv { .. })
    }

    /// An input in the numbers of all activations: every layer goes on in those of its input.
    pub(crate) fn taken_in(&self, input: &Tensor, mode: Mode) -> Result<Tensor, TchError> {
        let wanted = self.placement.numbers(mode);
        let own = self.parameters.first().map_or(Ok(wanted), |parameter| parameter.value.f_kind())?;
        // Doubles compute in doubles.
        input.f_to_kind(if wanted == Kind::Float { own } else { wanted })
    }

    /// The parameters from a node's own on.
    pub(crate) fn parameters_of(&self, node: usize) -> &[Parameter] {
        &self.parameters[self.first[node]..]
    }

    /// What a convolution's node convolves.
    pub(crate) fn geometry(&self, node: usize) -> Option<Geometry> {
        let node = &self.network.nodes()[node];
        let map = self.network.shape(node.inputs[0]);
        match node.layer {
            Layer::Conv { kernel, stride, groups, .. } => {
                Some(Geometry { kernel, stride, groups, c_in: map.c, extent: map.h.max(map.w) })
            }
            _ => None,
        }
    }

    /// A node's batch normalisation.
    pub(crate) fn batch_norm(&self, node: usize) -> BatchNorm<'_> {
        let parameters = self.parameters_of(node);
        BatchNorm {
            weight: &parameters[0].value,
            bias: &parameters[1].value,
            eps: f64::from(self.network.bn_eps()),
            relu6: self.is_cut(node),
            over: false,
        }
    }

    /// Whether a batch normalisation's output is read by a ReLU6 and by nothing else: both are computed as one.
    fn is_cut(&self, node: usize) -> bool {
        let reads = |other: &Node| matches!(other.layer, Layer::Relu6) && other.inputs[0] == Source::Node(node);
        self.consumers[node] == 1 && self.network.nodes().iter().any(reads)
    }

    /// Whether a node is a ReLU6 that is computed with the batch normalisation in front of it.
    pub(crate) fn is_done(&self, node: usize) -> bool {
        let node = &self.network.nodes()[node];
        matches!(node.layer, Layer::Relu6) && self.overwritable(node)
    }

    /// A node's output from its inputs where no graph is wanted, and of a batch normalisation the statistics that it went by.
    /// A ReLU6 behind a batch normalisation is computed with that. `spare`: nothing else will read the first input, and a
    /// batch normalisation may write over it.
    pub(crate) fn fused(
        &self,
        index: usize,
        mut inputs: Vec<Tensor>,
        mode: Mode,
        spare: bool,
    ) -> Result<(Tensor, Option<Statistics>), TchError> {
        if self.is_done(index) {
            return Ok((inputs.swap_remove(0), None));
        }
        if !matches!(self.network.nodes()[index].layer, Layer::BatchNorm { .. }) {
            return Ok((self.apply(index, inputs, mode)?, None));
        }
        let norm = BatchNorm { over: spare, ..self.batch_norm(index) };
        let running = &self.parameters_of(index)[2..4];
        let (x, mean, var) = (inputs.swap_remove(0), &running[0].value, &running[1].value);
        let (y, statistics) = match mode {
            Mode::Train => norm.forward(&x, Some((mean, var)), BATCH_NORM_MOMENTUM)?,
            Mode::Probe => norm.forward(&x, None, BATCH_NORM_MOMENTUM)?,
            Mode::Eval => {
                let inverse_std = var.f_add_scalar(norm.eps)?.f_rsqrt()?;
                let statistics = Statistics { mean: mean.shallow_clone(), inverse_std };
                (norm.again(&x, &statistics)?, statistics)
            }
        };
        Ok((y, Some(statistics)))
    }

    /// A node's output from its inputs, by libtorch's operators.
    pub(crate) fn apply(&self, index: usize, mut inputs: Vec<Tensor>, mode: Mode) -> Result<Tensor, TchError> {
        let (node, parameters) = (&self.network.nodes()[index], self.parameters_of(index));
        let mut x = inputs.swap_remove(0);
        let value = |index: usize| &parameters[index].value;
        match node.layer {
            Layer::Conv { .. } => {
                let y =
                    self.geometry(index).map_or_else(|| Ok(x.shallow_clone()), |conv| conv.forward(&x, value(0)))?;
                // With one input channel both orders are the same to libtorch, which then chooses NCHW for the output
                // and for everything behind it.
                let layout = self.layout();
                if layout == Layout::ChannelsLast && y.stride()[1] != 1 { layout.arrange(&y) } else { Ok(y) }
            }
            Layer::BatchNorm { .. } => {
                let eps = f64::from(self.network.bn_eps());
                let (weight, bias) = (Some(value(0)), Some(value(1)));
                let (mean, var) = (mode != Mode::Probe).then(|| (value(2), value(3))).unzip();
                x.f_batch_norm(weight, bias, mean, var, mode != Mode::Eval, BATCH_NORM_MOMENTUM, eps, false)
            }
            // In place where nothing else reads the input and its producer's backward doesn't need it either.
            Layer::Relu6 if self.overwritable(node) => x.f_relu6_(),
            Layer::Relu6 => x.f_relu6(),
            Layer::Add if self.overwritable(node) => x.f_add_(&inputs[0]),
            Layer::Add => x.f_add(&inputs[0]),
            Layer::ChannelShuffle { groups } => self.layout().arrange(&x.f_channel_shuffle(groups as i64)?),
            Layer::GlobalAveragePool => x.f_mean_dim([2, 3].as_slice(), true, None),
            Layer::Linear { .. } => {
                let (weight, bias) = (value(0).f_to_kind(x.f_kind()?)?, value(1).f_to_kind(x.f_kind()?)?);
                x.f_flatten(1, -1)?.f_linear(&weight, Some(&bias))?.f_to_kind(parameters[0].value.f_kind()?)
            }
        }
    }

    /// Whether a node may write into its first input: a BN's output that only this node reads.
    pub(crate) fn overwritable(&self, node: &Node) -> bool {
        let Source::Node(index) = node.inputs[0] else { return false };
        self.consumers[index] == 1 && matches!(self.network.nodes()[index].layer, Layer::BatchNorm { .. })
    }
}

/// Which dimension of an inverted bottleneck's parameter counts its inner channels, those between expansion and
/// projection.
fn inner_channels(name: &str) -> Option<i64> {
    let layer = |layer: &str| name.split('.').any(|part| part == layer);
    match (layer("expand") || layer("depthwise"), layer("project") && name.ends_with("conv.weight")) {
        (true, _) => Some(0),
        (_, true) => Some(1),
        _ => None,
    }
}

/// The outputs of nodes that somebody still waits for.
struct Activations<'a> {
    values: Vec<Option<Tensor>>,
    left: Vec<usize>,
    input: &'a Tensor,
}

impl Activations<'_> {
    fn take(&mut self, source: Source) -> Tensor {
        let Source::Node(index) = source else { return self.input.shallow_clone() };
        self.left[index] -= 1;
        let value = if self.left[index] == 0 { self.values[index].take() } else { None };
        value.or_else(|| self.values[index].as_ref().map(Tensor::shallow_clone)).unwrap_or_default()
    }
}
