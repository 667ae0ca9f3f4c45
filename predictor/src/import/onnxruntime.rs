//! Profiles of ONNX Runtime (`enable_profiling`): JSON lists of events. Nodes tell their operator and the shapes of what they read and
//! write, from which blocks are recognised in the order in which they ran:
//!
//! * a 1x1 convolution, a depthwise one, a 1x1 one: an inverted bottleneck; without the first, one without expansion;
//! * a 1x1 convolution in front of the global pooling and a matrix product: the head;
//! * any other convolution: a convolution.
//!
//! Activations, sums and changes of layout belong to the block in front of them. A block's time in a run is the sum of its nodes'; its
//! row is the median over the runs.

use std::collections::{BTreeMap, HashMap};

use fleetfoot_profiler::{Context, Provenance, middle_and_spread};
use fleetfoot_space::{Layer, Operator, OperatorKey, Precision, SearchSpace, Shape};
use serde::Deserialize;

use super::{Collected, Entry, Fault, Piece, network_of};

/// Runs in front that don't count where there are more than twice as many: in them memory is laid out and weights come into caches.
const UNCOUNTED: usize = 2;
/// A median's standard error in those of a mean.
const MEDIAN_ERROR: f64 = 1.2533;
/// Channels are padded to multiples of one of these in blocked layouts.
const BLOCKS: [usize; 4] = [1, 4, 8, 16];

#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    cat: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    ts: f64,
    #[serde(default)]
    dur: f64,
    #[serde(default)]
    args: Arguments,
}

#[derive(Default, Deserialize)]
struct Arguments {
    #[serde(default)]
    op_name: String,
    #[serde(default)]
    provider: String,
    #[serde(default)]
    input_type_shape: Vec<BTreeMap<String, Vec<i64>>>,
    #[serde(default)]
    output_type_shape: Vec<BTreeMap<String, Vec<i64>>>,
}

/// A node, and what it took in each run.
struct Node {
    name: String,
    op: String,
    provider: String,
    inputs: Vec<(String, Vec<usize>)>,
    outputs: Vec<(String, Vec<usize>)>,
    /// Microseconds, by run.
    us: BTreeMap<usize, f64>,
}

/// A convolution's extents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Conv {
    c_in: usize,
    c_out: usize,
    kernel: usize,
    stride: usize,
    groups: usize,
    height: usize,
    width: usize,
}

impl Conv {
    fn is_pointwise(&self) -> bool {
        self.kernel == 1 && self.stride == 1
    }

    fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.groups == self.c_in && self.c_in == self.c_out
    }
}

/// What a node does for the block that it belongs to.
enum Step {
    Conv(Conv),
    Pool,
    Linear { c_in: usize, c_out: usize },
    Sum,
    Other,
}

/// Convolutions, by their names in all precisions and layouts.
const CONVS: [&str; 6] = ["Conv", "FusedConv", "NhwcFusedConv", "QLinearConv", "ConvInteger", "NhwcConv"];
const LINEARS: [&str; 6] = ["Gemm", "MatMul", "FusedGemm", "FusedMatMul", "QGemm", "QLinearMatMul"];
const POOLS: [&str; 4] = ["GlobalAveragePool", "ReduceMean", "QLinearGlobalAveragePool", "QLinearReduceMean"];
const SUMS: [&str; 2] = ["Add", "QLinearAdd"];
/// What belongs to the block in front of it.
const OTHERS: [&str; 26] = [
    "Relu",
    "Clip",
    "Min",
    "Max",
    "BatchNormalization",
    "ReorderInput",
    "ReorderOutput",
    "Transpose",
    "Reshape",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Identity",
    "Cast",
    "QuantizeLinear",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "MemcpyToHost",
    "MemcpyFromHost",
    "Shape",
    "Gather",
    "Slice",
    "Concat",
    "Constant",
    "Dropout",
    "Pad",
];

/// Reads a profile. `space`, where given, tells padded channels apart.
pub(super) fn read(text: &str, space: Option<&SearchSpace>) -> Result<Collected, String> {
    let events: Vec<Event> = serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        format!("line {line}, column {column}: it is no profile of ONNX Runtime, a JSON list of events: {error}")
    })?;
    let (nodes, runs) = nodes(events)?;
    let mut collected = Collected::default();
    let counted = if runs > 2 * UNCOUNTED { UNCOUNTED } else { 0 };
    if counted > 0 {
        collected.notes.push(format!("of {runs} runs, the first {counted} don't count"));
    } else {
        collected.notes.push(format!("all {runs} runs count, though the first ones are mostly slower: profile more"));
    }
    collected.notes.push("times of nodes are cut to whole microseconds and hold the profile's own writing".to_owned());
    collected.provenance = provenance(&nodes);
    let is_blocked = nodes.iter().any(|node| node.op.starts_with("Reorder"));
    let blocks = blocks(&nodes, is_blocked, &mut collected);
    let keys = keys(&blocks, space, is_blocked, &mut collected);
    let mut units: Vec<(OperatorKey, Vec<&Block<'_>>)> = Vec::new();
    for (key, block) in keys {
        match units.iter_mut().find(|(known, _)| *known == key) {
            Some((_, all)) => all.push(block),
            None => units.push((key, vec![block])),
        }
    }
    for (key, blocks) in units {
        let of_run = |run: usize| {
            let times: Vec<f64> = blocks.iter().filter_map(|block| block.us(run)).collect();
            (!times.is_empty()).then(|| times.iter().sum::<f64>() / times.len() as f64 / 1000.0)
        };
        let times: Vec<f64> = (counted..runs).filter_map(of_run).collect();
        let Some((ms, spread)) = middle_and_spread(&times) else { continue };
        collected.entries.push(Entry {
            place: format!("node {}", blocks[0].nodes[0].name),
            name: key.to_string(),
            deviation: Some(MEDIAN_ERROR * spread),
            samples: times.len() as u64,
            measured: Some(Context::Network),
            ..Entry::of(Piece::Unit(key), ms)
        });
    }
    Ok(collected)
}

fn provenance(nodes: &[Node]) -> Provenance {
    let mut providers: Vec<&str> =
        nodes.iter().map(|node| node.provider.as_str()).filter(|name| !name.is_empty()).collect();
    providers.sort_unstable();
    providers.dedup();
    let mut provenance = Provenance::default();
    if !providers.is_empty() {
        provenance.set("imported_providers", providers.join(" "));
    }
    provenance.set("statistic", "median");
    provenance
}

/// The nodes in the order in which they first ran, and the number of runs.
fn nodes(events: Vec<Event>) -> Result<(Vec<Node>, usize), String> {
    let is_run = |event: &&Event| event.cat == "Session" && event.name == "model_run";
    let mut runs: Vec<f64> = events.iter().filter(is_run).map(|event| event.ts).collect();
    runs.sort_by(f64::total_cmp);
    let mut of_nodes: Vec<Event> = events.into_iter().filter(|event| event.cat == "Node").collect();
    of_nodes.retain(|event| event.name.ends_with("_kernel_time"));
    of_nodes.sort_by(|a, b| a.ts.total_cmp(&b.ts));
    let mut nodes: Vec<Node> = Vec::new();
    let mut positions: HashMap<String, usize> = HashMap::new();
    for event in of_nodes {
        if !(event.dur.is_finite() && event.dur >= 0.0) {
            return Err(format!("node {} took {} µs", event.name, event.dur));
        }
        let Some(run) = runs.partition_point(|start| *start <= event.ts).checked_sub(1) else { continue };
        let name = event.name.strip_suffix("_kernel_time").unwrap_or(&event.name).to_owned();
        let shapes = |all: Vec<BTreeMap<String, Vec<i64>>>| -> Vec<(String, Vec<usize>)> {
            let shape = |(kind, extents): (String, Vec<i64>)| {
                (kind, extents.into_iter().map(|extent| usize::try_from(extent).unwrap_or_default()).collect())
            };
            all.into_iter().flat_map(|shapes| shapes.into_iter().map(shape)).collect()
        };
        let Arguments { op_name: op, provider, input_type_shape, output_type_shape } = event.args;
        let (inputs, outputs) = (shapes(input_type_shape), shapes(output_type_shape));
        let index = match positions.get(&name) {
            Some(&index) => {
                let known = &nodes[index];
                if (&known.op, &known.inputs, &known.outputs) != (&op, &inputs, &outputs) {
                    let shapes = |shapes: &[(String, Vec<usize>)]| {
                        shapes.first().map(|(_, shape)| format!("{shape:?}")).unwrap_or_default()
                    };
                    return Err(format!(
                        "node {name} reads {} in one run and {} in another: profile one model with inputs of one shape",
                        shapes(&known.inputs),
                        shapes(&inputs)
                    ));
                }
                index
            }
            None => {
                positions.insert(name.clone(), nodes.len());
                nodes.push(Node { name, op, provider, inputs, outputs, us: BTreeMap::new() });
                nodes.len() - 1
            }
        };
        *nodes[index].us.entry(run).or_default() += event.dur;
    }
    match nodes.is_empty() {
        true => Err("it names no node of a run: profile a session that runs its model".to_owned()),
        false => Ok((nodes, runs.len())),
    }
}

fn step(node: &Node) -> Result<Step, String> {
    let op = node.op.as_str();
    if CONVS.contains(&op) {
        return conv(node).map(Step::Conv);
    }
    if LINEARS.contains(&op) {
        let of = |shapes: &[(String, Vec<usize>)]| shapes.first().and_then(|(_, shape)| shape.last().copied());
        let (c_in, c_out) = (of(&node.inputs), of(&node.outputs));
        let extents = c_in.zip(c_out).filter(|(c_in, c_out)| *c_in > 0 && *c_out > 0);
        return extents.map(|(c_in, c_out)| Step::Linear { c_in, c_out }).ok_or_else(|| shapeless(node));
    }
    Ok(match op {
        _ if POOLS.contains(&op) => Step::Pool,
        _ if SUMS.contains(&op) => Step::Sum,
        _ if OTHERS.contains(&op) => Step::Other,
        "AveragePool" if is_global(node) => Step::Pool,
        _ => return Err(format!("no block of fleetfoot has a {op}")),
    })
}

fn is_global(node: &Node) -> bool {
    node.outputs.first().is_some_and(|(_, shape)| shape.len() == 4 && shape[2..] == [1, 1])
}

fn shapeless(node: &Node) -> String {
    format!("its {} has no shapes of two and four extents: profile with ONNX Runtime 1.14 or newer", node.op)
}

fn conv(node: &Node) -> Result<Conv, String> {
    let mut shapes = node.inputs.iter().map(|(_, shape)| shape).filter(|shape| shape.len() == 4);
    let (Some(input), Some(weight)) = (shapes.next(), shapes.next()) else { return Err(shapeless(node)) };
    let Some(output) = node.outputs.iter().map(|(_, shape)| shape).find(|shape| shape.len() == 4) else {
        return Err(shapeless(node));
    };
    let (&[_, c_in, height, width], &[_, c_out, h_out, w_out], &[_, per_group, kernel, kernel_width]) =
        (&input[..], &output[..], &weight[..])
    else {
        return Err(shapeless(node));
    };
    if [c_in, height, width, c_out, h_out, w_out, per_group, kernel].contains(&0) || kernel != kernel_width {
        return Err(format!("its shapes {input:?}, {weight:?} and {output:?} are no square convolution's"));
    }
    let stride = (1..=8).find(|&stride| (height.div_ceil(stride), width.div_ceil(stride)) == (h_out, w_out));
    let stride =
        stride.ok_or_else(|| format!("no stride makes {h_out}x{w_out} of {height}x{width} with \"same\" padding"))?;
    // Blocked layouts pad channels, weights of the first layer not.
    let groups = if c_in % per_group == 0 { c_in / per_group } else { 1 };
    Ok(Conv { c_in, c_out, kernel, stride, groups, height, width })
}

/// Whether what one node writes is what another one reads, though a layout may have padded either.
fn is_as_wide(one: usize, other: usize, is_blocked: bool) -> bool {
    let multiples = if is_blocked { &BLOCKS[..] } else { &BLOCKS[..1] };
    multiples.iter().any(|&multiple| one.next_multiple_of(multiple) == other.next_multiple_of(multiple))
}

/// Nodes that make a unit.
struct Block<'a> {
    nodes: Vec<&'a Node>,
    convs: Vec<Conv>,
    classes: Option<(usize, usize)>,
    shortcut: bool,
    batch: usize,
    precision: Precision,
}

impl Block<'_> {
    /// What it took in a run.
    fn us(&self, run: usize) -> Option<f64> {
        self.nodes.iter().map(|node| node.us.get(&run).copied()).sum()
    }

    /// The unit that it is, by its shapes.
    fn key(&self) -> Result<OperatorKey, String> {
        let first = self.convs[0];
        let operator = match (&self.convs[..], self.classes) {
            ([features], Some((c_hidden, classes))) if c_hidden == features.c_out => {
                Operator::Head { c_in: features.c_in, c_hidden, classes }
            }
            ([_], Some(_)) => {
                return Err("the classifier doesn't read what the convolution in front of it writes".to_owned());
            }
            (&[Conv { c_in, c_out, kernel, stride, groups, .. }], None) => {
                Operator::Conv { kernel, stride, c_in, c_out, groups }
            }
            (&[depthwise, project], None) => Operator::MbConv {
                kernel: depthwise.kernel,
                expansion: None,
                stride: depthwise.stride,
                c_in: depthwise.c_in,
                c_out: project.c_out,
                groups: project.groups,
                shortcut: self.shortcut,
            },
            (&[expand, depthwise, project], None) => {
                if expand.c_out % expand.c_in != 0 {
                    return Err(format!(
                        "{} channels aren't expanded to a multiple, but to {}",
                        expand.c_in, expand.c_out
                    ));
                }
                if expand.groups != project.groups {
                    return Err(format!("its 1x1 convolutions have {} and {} groups", expand.groups, project.groups));
                }
                Operator::MbConv {
                    kernel: depthwise.kernel,
                    expansion: Some(expand.c_out / expand.c_in),
                    stride: depthwise.stride,
                    c_in: expand.c_in,
                    c_out: project.c_out,
                    groups: expand.groups,
                    shortcut: self.shortcut,
                }
            }
            _ => return Err("it is no block".to_owned()),
        };
        let input = Shape::new(self.batch, first.c_in, first.height, first.width);
        let key = OperatorKey { operator, input, precision: self.precision };
        key.to_string().parse::<OperatorKey>().map_err(|error| error.to_string())
    }
}

/// Puts the nodes together to blocks. What is in front of the first convolution belongs to it.
fn blocks<'a>(nodes: &'a [Node], is_blocked: bool, collected: &mut Collected) -> Vec<Block<'a>> {
    let mut steps: Vec<(&Node, Step)> = Vec::new();
    for node in nodes {
        match step(node) {
            Ok(step) => steps.push((node, step)),
            Err(why) => collected.fault(Fault::Inexpressible, format!("node {} ({}): {why}", node.name, node.op)),
        }
    }
    // The convolutions of each block, by their positions among the steps.
    let convs: Vec<(usize, Conv)> = steps
        .iter()
        .enumerate()
        .filter_map(|(index, (_, step))| if let Step::Conv(conv) = step { Some((index, *conv)) } else { None })
        .collect();
    let mut groups: Vec<Vec<(usize, Conv)>> = Vec::new();
    let mut rest = &convs[..];
    while let Some((_, first)) = rest.first() {
        let follows = |index: usize, wanted: fn(&Conv) -> bool| {
            let (Some((_, before)), Some((_, conv))) = (rest.get(index - 1), rest.get(index)) else { return false };
            wanted(conv) && is_as_wide(conv.c_in, before.c_out, is_blocked)
        };
        let depthwise: fn(&Conv) -> bool = Conv::is_depthwise;
        let pointwise: fn(&Conv) -> bool = Conv::is_pointwise;
        let length = match first {
            first if first.is_depthwise() && follows(1, pointwise) => 2,
            first if first.is_pointwise() && follows(1, depthwise) && follows(2, pointwise) => 3,
            _ => 1,
        };
        groups.push(rest[..length].to_vec());
        rest = &rest[length..];
    }
    let mut blocks = Vec::new();
    for (index, group) in groups.iter().enumerate() {
        let from = if index == 0 { 0 } else { group[0].0 };
        let to = groups.get(index + 1).map_or(steps.len(), |next| next[0].0);
        let mut block = Block {
            nodes: steps[from..to].iter().map(|(node, _)| *node).collect(),
            convs: group.iter().map(|(_, conv)| *conv).collect(),
            classes: None,
            shortcut: false,
            batch: 1,
            precision: Precision::Fp32,
        };
        let (mut pooled, mut what) = (false, None);
        for (position, (node, step)) in steps[from..to].iter().enumerate() {
            match step {
                Step::Conv(_) => {
                    let (kind, shape) = &node.inputs[0];
                    (block.batch, block.precision) = (shape[0], precision(kind));
                    // A sum that was fused into a convolution is a fourth input of the output's shape.
                    let output = node.outputs.first().map(|(_, shape)| shape);
                    block.shortcut |=
                        node.inputs.iter().skip(2).any(|(_, shape)| Some(shape) == output && shape.len() == 4);
                }
                Step::Pool => pooled = true,
                Step::Linear { c_in, c_out } if pooled => block.classes = Some((*c_in, *c_out)),
                Step::Linear { .. } => {
                    what = Some(format!("node {}: a {} without a pooling in front", node.name, node.op))
                }
                Step::Sum if position > 0 && !pooled => block.shortcut |= group.len() > 1,
                Step::Sum | Step::Other => {}
            }
        }
        if pooled && block.classes.is_none() {
            what = Some(format!("node {}: a pooling without a classifier behind it", block.nodes[0].name));
        }
        match what {
            Some(what) => collected.fault(Fault::Inexpressible, what),
            None => blocks.push(block),
        }
    }
    blocks
}

fn precision(kind: &str) -> Precision {
    match kind {
        "float16" => Precision::Fp16,
        "int8" | "uint8" => Precision::Int8,
        _ => Precision::Fp32,
    }
}

/// The blocks' keys: by the space's units, where one is given and has such a unit, with its channels padded or not, else by their shapes,
/// where those are what they seem. A block reads what the one in front of it writes: that tells apart what padding makes alike.
fn keys<'a, 'b>(
    blocks: &'a [Block<'b>],
    space: Option<&SearchSpace>,
    is_blocked: bool,
    collected: &mut Collected,
) -> Vec<(OperatorKey, &'a Block<'b>)> {
    let multiples = if is_blocked { &BLOCKS[..] } else { &BLOCKS[..1] };
    let possible = |block: &Block<'_>| -> Vec<Possible> {
        let units = space.map(|space| units(space, block)).unwrap_or_default();
        let is_possible = |unit: &OperatorKey| multiples.iter().any(|&multiple| is_of(block, unit, multiple));
        let known = units.into_iter().filter(is_possible).map(|key| Possible { key, out: out_channels(&key) });
        known.collect()
    };
    let mut all: Vec<Vec<Possible>> = blocks.iter().map(possible).collect();
    for index in 1..all.len() {
        let before: Vec<usize> = all[index - 1].iter().map(|one| one.out).collect();
        narrow(&mut all[index], |one| before.contains(&one.key.input.c));
    }
    for index in (1..all.len()).rev() {
        let behind: Vec<usize> = all[index].iter().map(|one| one.key.input.c).collect();
        narrow(&mut all[index - 1], |one| behind.contains(&one.out));
    }
    let mut keys = Vec::new();
    let mut foreign = 0;
    for (block, possible) in blocks.iter().zip(&all) {
        let key = match possible[..] {
            [Possible { key, .. }] => Ok(key),
            // In a blocked layout shapes are no more than a guess.
            [] if is_blocked && space.is_some() => block.key().and_then(|key| {
                Err(format!("with its channels padded it looks like {key}, which is no unit of the space"))
            }),
            [] => block.key(),
            [Possible { key: one, .. }, Possible { key: other, .. }, ..] => {
                Err(format!("with its channels padded it may be {one} or {other}"))
            }
        };
        foreign += usize::from(space.is_some() && possible.is_empty() && key.is_ok());
        match key {
            Ok(key) => keys.push((key, block)),
            Err(why) => {
                let hint = if is_blocked && space.is_none() { PADDED } else { "" };
                collected.fault(Fault::Inexpressible, format!("node {}: {why}{hint}", block.nodes[0].name));
            }
        }
    }
    if foreign > 0 {
        collected.notes.push(format!("{foreign} blocks are no units of the space; they are imported by their shapes"));
    }
    if is_blocked && space.is_none() {
        collected.notes.push(
            "its runtime computed in a blocked layout, which pads channels to multiples of 8 or 16: name the space with --space where it has other numbers"
                .to_owned(),
        );
    }
    keys
}

/// A unit that a block may be.
struct Possible {
    key: OperatorKey,
    /// Channels that it writes.
    out: usize,
}

/// Keeps what fits, unless nothing does.
fn narrow(possible: &mut Vec<Possible>, fits: impl Fn(&Possible) -> bool) {
    if possible.iter().any(&fits) {
        possible.retain(fits);
    }
}

fn out_channels(key: &OperatorKey) -> usize {
    network_of(&Piece::Unit(*key)).map_or(0, |network| network.out_shape().c)
}

/// The units of a space, those of its named networks with widths of their own too.
fn units(space: &SearchSpace, block: &Block<'_>) -> Vec<OperatorKey> {
    let mut units = space.distinct_units(block.batch, block.precision);
    for name in space.architecture_names() {
        if let Ok((own, _)) = space.resolve(name) {
            units.extend(own.distinct_units(block.batch, block.precision));
        }
    }
    units.retain(|unit| unit.operator != Operator::Zero);
    units.sort_unstable();
    units.dedup();
    units
}

/// What helps where channels are padded.
const PADDED: &str = ": the runtime's blocked layout pads channels, name the space of the network with --space";

/// Whether a block computes a unit, whose channels a blocked layout pads to a multiple.
fn is_of(block: &Block<'_>, unit: &OperatorKey, multiple: usize) -> bool {
    let Some(network) = network_of(&Piece::Unit(*unit)) else { return false };
    let mut input = unit.input;
    let mut convs = Vec::new();
    let (mut classes, mut shortcut) = (None, false);
    for (node, out) in network.walk() {
        match node.layer {
            Layer::Conv { c_in, c_out, kernel, stride, groups } => {
                convs.push((c_in, c_out, kernel, stride, groups > 1, input.h, input.w));
            }
            Layer::Linear { c_in, c_out } => classes = Some((c_in, c_out)),
            Layer::Add => shortcut = true,
            _ => {}
        }
        input = out;
    }
    let padded = |channels: usize| channels.next_multiple_of(multiple);
    convs.len() == block.convs.len()
        && shortcut == block.shortcut
        && classes == block.classes
        && convs.iter().zip(&block.convs).all(|(&(c_in, c_out, kernel, stride, grouped, h, w), found)| {
            let is_as_wide = |own: usize, found: usize| own == found || padded(own) == found;
            is_as_wide(c_in, found.c_in)
                && is_as_wide(c_out, found.c_out)
                && (kernel, stride, h, w) == (found.kernel, found.stride, found.height, found.width)
                && grouped == (found.groups > 1)
        })
}
