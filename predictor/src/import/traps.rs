//! What speaks against published numbers: values near zero or far off, coarse rounding, first rows of a device that wasn't settled, rows
//! that only interpolate others or repeat them.
//!
//! What a row should take is guessed by a robust regression of the logarithms on its multiply-accumulates (depthwise ones eightfold), its
//! activations and its weights; so coarse a guess tells factors, not percents.

use std::collections::BTreeMap;

use fleetfoot_profiler::{Doubt, Doubts, MAD, median};
use fleetfoot_space::{Architecture, Layer, Network, Operator, SearchSpace};

use super::{Entry, Piece, few, first_rows, network_of};

/// By what factor a value differs from the guess that is near zero or far off, and by how many robust standard deviations.
const FACTOR: f64 = 8.0;
const DEVIATIONS: f64 = 6.0;
/// Half a step above this share of a value is coarse.
const COARSE: f64 = 0.01;
/// Fewest rows that tell a step and a guess.
const FEW_FOR_STEP: usize = 5;
const FEW_FOR_GUESS: usize = 5;
/// By what share first rows differ, at least: of networks, which come in any order, and of a table's rows, which mostly come in that of a
/// network, so that what the guess doesn't know shows there, too.
const FIRST_OFF: f64 = 0.1;
const FIRST_OFF_IN_TABLES: f64 = 0.3;
/// What chance makes less often than this isn't chance; of equal values, which aren't spread evenly, so many times more.
const CHANCE: f64 = 0.01;
const MORE_THAN_CHANCE: f64 = 3.0;
/// Relative differences of numbers that are the same but for how they are written.
const SAME: f64 = 1e-9;
/// What is left of exact sums, as a share.
const EXACT: f64 = 1e-4;
const COARSE_SUM: f64 = 1e-3;
/// Multiply-accumulates a second, depthwise ones eightfold, that microcontrollers reach, and that nothing reaches.
const SLOWEST: f64 = 3e7;
const FASTEST: f64 = 1e15;
/// Share of the values that must be multiples of a step.
const STEPPED: f64 = 0.9;
/// Steps that are near each other.
const NEAR: f64 = 20.0;
/// By how much neighbours are taken to differ, where a value between them could be anything.
const APART: f64 = 0.2;

/// What was found.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    /// For people.
    pub warnings: Vec<String>,
    /// The step of which all values are multiples, in ms; 0 where there is none that matters.
    pub step: f64,
}

/// Marks the entries that something speaks against.
pub(super) fn look(entries: &mut [Entry]) -> Found {
    let values: Vec<f64> = entries.iter().map(|entry| entry.ms).collect();
    let mut doubts = vec![Doubts::NONE; entries.len()];
    let mut found = Found { step: step(&values), warnings: Vec::new() };
    found.warnings.extend(coarse(&values, found.step, &mut doubts));
    let descriptors: Vec<Option<Sizes>> = entries.iter().map(|entry| descriptors(&entry.piece)).collect();
    let guesses = guesses(&descriptors, &values);
    mark_outliers(&values, &guesses, &mut doubts);
    for (_, doubts) in entries.iter().zip(&mut doubts).filter(|(entry, _)| !matches!(entry.piece, Piece::Unit(_))) {
        // There are few of a head's halves, and what a classifier takes for its weights nothing else tells.
        doubts.remove(Doubt::FarOff);
    }
    found.warnings.extend(unlikely_unit(&descriptors, &values));
    // Stems and heads stand at the ends of most tables, and are of another kind.
    let residuals = entries.iter().zip(&guesses).zip(&doubts).map(|((entry, guess), doubts)| {
        let is_block =
            matches!(entry.piece, Piece::Unit(key) if matches!(key.operator, Operator::MbConv { expansion: Some(_), .. }));
        (is_block && entry.ms > 0.0 && !doubts.contains(Doubt::NearZero)).then_some((entry.ms / (*guess)?).ln())
    });
    let residuals: Vec<Option<f64>> = residuals.collect();
    let least = (1.0 + FIRST_OFF_IN_TABLES).ln();
    let blocks: Vec<(&Piece, &[f64])> = entries
        .iter()
        .zip(&descriptors)
        .map(|(entry, sizes)| (&entry.piece, sizes.as_ref().map_or(&[][..], |sizes| &sizes[1..])))
        .collect();
    let first = first_rows::of_blocks(&blocks, &residuals, least).or_else(|| first_rows::of_rows(&residuals, least));
    if let Some((first, off)) = first {
        doubts[..first].iter_mut().for_each(|doubts| doubts.insert(Doubt::FirstRows));
        found.warnings.push(say_first(first, off));
    }
    mark_interpolated(entries, found.step, &mut doubts);
    mark_copied(entries, found.step, &mut doubts);
    for doubt in [Doubt::NearZero, Doubt::FarOff, Doubt::Interpolated, Doubt::Copied] {
        let what = match doubt {
            Doubt::NearZero => "next to no time for what is computed",
            Doubt::FarOff => "far more time than the others let expect",
            Doubt::Interpolated => "exactly between the neighbours in one extent, as if interpolated",
            _ => "to the last digit that of another one",
        };
        let told = entries.iter().zip(&doubts).zip(&guesses).filter(|((_, doubts), _)| doubts.contains(doubt));
        let told: Vec<String> = told
            .map(|((entry, _), guess)| {
                let expected = guess.filter(|_| matches!(doubt, Doubt::NearZero | Doubt::FarOff));
                let expected = expected.map(|guess| format!(", about {guess:.3} expected")).unwrap_or_default();
                format!("{}, {}: {} ms{expected}", entry.place, entry.name, entry.ms)
            })
            .collect();
        if !told.is_empty() {
            found.warnings.push(format!("{} {doubt} ({what}): {}", told.len(), few(&told, "; ")));
        }
    }
    for (entry, doubts) in entries.iter_mut().zip(doubts) {
        entry.doubts = entry.doubts.union(doubts);
    }
    found
}

/// What speaks against networks' latencies, in the order in which they were measured: doubts, one for each, and warnings. What is known of
/// the networks tells what they should take; else their median does.
pub(crate) fn of_networks(
    values: &[f64],
    networks: Option<(&SearchSpace, &[Architecture])>,
) -> (Vec<Doubts>, Vec<String>) {
    let mut doubts = vec![Doubts::NONE; values.len()];
    let step = step(values);
    let mut warnings: Vec<String> = coarse(values, step, &mut doubts).into_iter().collect();
    let sizes = |(space, architectures): (&SearchSpace, &[Architecture])| {
        let network = |architecture: &Architecture| space.network(architecture).ok().as_ref().map(sizes);
        architectures.iter().map(network).collect::<Vec<_>>()
    };
    let guesses = match networks {
        Some(networks) => guesses(&sizes(networks), values),
        None => vec![median(values.iter().copied()).filter(|_| values.len() >= FEW_FOR_GUESS); values.len()],
    };
    mark_outliers(values, &guesses, &mut doubts);
    for (doubt, what) in [(Doubt::NearZero, "shorter"), (Doubt::FarOff, "longer")] {
        let count = doubts.iter().filter(|doubts| doubts.contains(doubt)).count();
        if count > 0 {
            warnings.push(format!("{count} {doubt}: more than {FACTOR} times {what} than the others let expect"));
        }
    }
    let residuals = values.iter().zip(&guesses).map(|(ms, guess)| (*ms > 0.0).then_some((ms / (*guess)?).ln()));
    if let Some((first, off)) = first_rows::of_rows(&residuals.collect::<Vec<_>>(), (1.0 + FIRST_OFF).ln()) {
        doubts[..first].iter_mut().for_each(|doubts| doubts.insert(Doubt::FirstRows));
        warnings.push(say_first(first, off));
    }
    if let Some((_, architectures)) = networks
        && is_a_sum(architectures, values, step)
    {
        doubts.iter_mut().for_each(|doubts| doubts.insert(Doubt::Interpolated));
        warnings.push(format!(
            "all {} {}: each is exactly the sum of one number for each block, as if computed from a table, not measured",
            values.len(),
            Doubt::Interpolated
        ));
    }
    (doubts, warnings)
}

/// Whether latencies are sums of one number for every candidate of every decision, as exactly as they are written.
fn is_a_sum(architectures: &[Architecture], values: &[f64], step: f64) -> bool {
    let decisions = architectures.first().map_or(0, |first| first.choices().len());
    let widest = architectures.iter().flat_map(|architecture| architecture.choices()).max().map_or(0, |most| most + 1);
    let columns = 1 + decisions * widest;
    let cells = |architecture: &Architecture| -> Vec<usize> {
        let choices = architecture.choices().enumerate();
        std::iter::once(0).chain(choices.map(|(decision, choice)| 1 + decision * widest + choice)).collect()
    };
    // What is free to fit them all says nothing.
    if 2 * values.len() < 3 * columns {
        return false;
    }
    let rows: Vec<Vec<usize>> = architectures.iter().map(cells).collect();
    // Conjugate gradients on the normal equations, whose products are sums over cells.
    let of =
        |beta: &[f64]| -> Vec<f64> { rows.iter().map(|cells| cells.iter().map(|&cell| beta[cell]).sum()).collect() };
    let back = |residuals: &[f64]| {
        let mut sums = vec![0.0; columns];
        for (cells, residual) in rows.iter().zip(residuals) {
            cells.iter().for_each(|&cell| sums[cell] += residual);
        }
        sums
    };
    let square = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>();
    let mut residuals = values.to_vec();
    let mut gradient = back(&residuals);
    let mut direction = gradient.clone();
    let mut length = square(&gradient);
    for _ in 0..2 * columns {
        let moved = of(&direction);
        let along = square(&moved);
        if along <= f64::MIN_POSITIVE || length <= f64::MIN_POSITIVE {
            break;
        }
        let far = length / along;
        residuals.iter_mut().zip(&moved).for_each(|(residual, moved)| *residual -= far * moved);
        gradient = back(&residuals);
        let next = square(&gradient);
        direction
            .iter_mut()
            .zip(&gradient)
            .for_each(|(direction, gradient)| *direction = gradient + next / length * *direction);
        length = next;
    }
    let middle = median(values.iter().copied()).unwrap_or_default();
    let left = (square(&residuals) / (values.len() - columns.min(values.len() - 1)) as f64).sqrt();
    // Coarse values hide what isn't a sum.
    step <= COARSE_SUM * middle && left <= (EXACT * middle).max(0.4 * step)
}

/// Whether the blocks compute faster or slower than anything there is, as times in another unit say.
fn unlikely_unit(descriptors: &[Option<Sizes>], values: &[f64]) -> Option<String> {
    let each = descriptors.iter().zip(values).filter(|(_, ms)| **ms > 0.0);
    let a_second = median(each.filter_map(|(sizes, ms)| Some((*sizes)?[1].exp() / ms * 1e3)))?;
    let side = match a_second {
        low if low < SLOWEST => "less",
        high if high > FASTEST => "more",
        _ => return None,
    };
    Some(format!(
        "its units compute {a_second:.0e} operations a second in the median, {side} than is likely: are the times really in this unit?"
    ))
}

fn say_first(first: usize, off: f64) -> String {
    let (percent, side) = (100.0 * (off.exp() - 1.0).abs(), if off > 0.0 { "slower" } else { "faster" });
    format!("the first {first} {} are {percent:.0} % {side} than the rest: the device wasn't settled", Doubt::FirstRows)
}

/// The largest step (a power of ten, or five of one) of which nearly all values are multiples; 0 where there are few.
fn step(values: &[f64]) -> f64 {
    let values: Vec<f64> = values.iter().copied().filter(|value| *value > 0.0).collect();
    if values.len() < FEW_FOR_STEP {
        return 0.0;
    }
    let is_step = |step: f64| {
        values.iter().filter(|value| is_multiple(**value, step)).count() as f64 >= STEPPED * values.len() as f64
    };
    let steps = (-9..=3).rev().flat_map(|power| [5.0, 1.0].map(|times| times * 10f64.powi(power)));
    steps.into_iter().find(|&step| is_step(step)).unwrap_or_default()
}

/// Whether a value is so many steps, as exactly as numbers tell: of a step that is next to nothing beside it, any value is.
fn is_multiple(value: f64, step: f64) -> bool {
    let exact = SAME * value;
    4.0 * exact < step && (value / step - (value / step).round()).abs() * step <= exact
}

/// To what values are rounded: the step of which nearly all are multiples, or, where few tell it, the last place in which any is written.
pub(crate) fn resolution(values: &[f64]) -> f64 {
    if values.len() >= FEW_FOR_STEP {
        return step(values);
    }
    values.iter().map(|value| own_step(*value)).reduce(f64::min).unwrap_or_default()
}

/// The last place in which a value is written; 0 beyond the ninth.
fn own_step(value: f64) -> f64 {
    let steps = (0..=9).map(|places| 10f64.powi(-places));
    steps.into_iter().find(|&step| is_multiple(value, step)).unwrap_or_default()
}

/// Marks values that are small against the step; says so where there are such, or where it is whole milliseconds.
fn coarse(values: &[f64], step: f64, doubts: &mut [Doubts]) -> Option<String> {
    let mut count = 0;
    for (value, doubts) in values.iter().zip(doubts).filter(|(value, _)| step / 2.0 > COARSE * **value) {
        if *value > 0.0 && is_multiple(*value, step) {
            doubts.insert(Doubt::Coarse);
            count += 1;
        }
    }
    let middle = median(values.iter().copied()).filter(|middle| *middle > 0.0)?;
    (count > 0 || step >= 1.0).then(|| {
        let whole = if step == 1.0 { "whole milliseconds".to_owned() } else { format!("multiples of {step} ms") };
        let percent = 50.0 * step / middle;
        format!("values are {whole}: rounding alone is up to {percent:.2} % of the median; {count} {}", Doubt::Coarse)
    })
}

/// A constant and logarithms of sizes.
type Sizes = [f64; SIZES];
const SIZES: usize = 5;

/// Logarithms of the sizes that tell roughly what a piece takes.
fn descriptors(piece: &Piece) -> Option<Sizes> {
    network_of(piece).as_ref().map(sizes)
}

fn sizes(network: &Network) -> Sizes {
    let (mut macs, mut kernels) = (0.0, 0);
    for (node, out) in network.walk() {
        kernels +=
            u64::from(matches!(node.layer, Layer::Conv { .. } | Layer::Linear { .. } | Layer::GlobalAveragePool));
        let depthwise = matches!(node.layer, Layer::Conv { c_in, groups, .. } if c_in == groups && groups > 1);
        macs += node.layer.macs(out) as f64 * if depthwise { 8.0 } else { 1.0 };
    }
    let ln = |value: u64| (1.0 + value as f64).ln();
    // Where calls cost most, their number does.
    [1.0, (1.0 + macs).ln(), ln(network.activation_bytes()), ln(network.weight_bytes()), ln(kernels)]
}

/// What the values should be by their descriptors, as nearly as most of them agree.
fn guesses(descriptors: &[Option<Sizes>], values: &[f64]) -> Vec<Option<f64>> {
    let known: Vec<(Sizes, f64)> = descriptors
        .iter()
        .zip(values)
        .filter_map(|(descriptors, value)| Some(((*descriptors)?, value.ln())).filter(|_| *value > 0.0))
        .collect();
    if known.len() < FEW_FOR_GUESS {
        return vec![None; values.len()];
    }
    // A few rows tell a level and an exponent, no more.
    let used = if known.len() < 4 * FEW_FOR_GUESS { 2 } else { SIZES };
    let centre: Sizes =
        std::array::from_fn(|index| known.iter().map(|(x, _)| x[index]).sum::<f64>() / known.len() as f64);
    let centred =
        |x: &Sizes| -> Sizes { std::array::from_fn(|index| if index == 0 { 1.0 } else { x[index] - centre[index] }) };
    let rows: Vec<(Sizes, f64)> = known.iter().map(|(x, y)| (centred(x), *y)).collect();
    let mut weights = vec![1.0; rows.len()];
    let mut beta = [0.0; SIZES];
    // Least absolute deviations, by weights.
    for _ in 0..50 {
        beta = weighted_fit(&rows, &weights, used);
        for (weight, (x, y)) in weights.iter_mut().zip(&rows) {
            *weight = 1.0 / (y - dot(x, &beta)).abs().max(1e-3);
        }
    }
    descriptors.iter().map(|x| x.as_ref().map(|x| dot(&centred(x), &beta).exp())).collect()
}

fn dot(x: &Sizes, beta: &Sizes) -> f64 {
    x.iter().zip(beta).map(|(x, beta)| x * beta).sum()
}

/// Weighted least squares on the first `used` descriptors, with a little of a ridge.
fn weighted_fit(rows: &[(Sizes, f64)], weights: &[f64], used: usize) -> Sizes {
    let mut normal = [[0.0; SIZES + 1]; SIZES];
    let sum: f64 = weights.iter().sum();
    for ((x, y), weight) in rows.iter().zip(weights) {
        for row in 0..used {
            for column in 0..used {
                normal[row][column] += weight * x[row] * x[column] / sum;
            }
            normal[row][SIZES] += weight * x[row] * y / sum;
        }
    }
    (1..used).for_each(|index| normal[index][index] += 1e-4);
    // Gauss and Jordan; the ridge keeps the pivots away from 0.
    for pivot in 0..used {
        let divisor = normal[pivot][pivot].max(1e-12);
        normal[pivot].iter_mut().for_each(|value| *value /= divisor);
        let own = normal[pivot];
        for (_, row) in normal[..used].iter_mut().enumerate().filter(|(row, _)| *row != pivot) {
            let factor = row[pivot];
            row.iter_mut().zip(own).for_each(|(value, own)| *value -= factor * own);
        }
    }
    std::array::from_fn(|index| if index < used { normal[index][SIZES] } else { 0.0 })
}

fn mark_outliers(values: &[f64], guesses: &[Option<f64>], doubts: &mut [Doubts]) {
    let residuals: Vec<Option<f64>> =
        values.iter().zip(guesses).map(|(value, guess)| guess.map(|guess| (value / guess).ln())).collect();
    let spread = MAD * median(residuals.iter().flatten().map(|residual| residual.abs())).unwrap_or_default();
    let most = FACTOR.ln().max(DEVIATIONS * spread);
    // What is small anyway may well take several times what its size says, in calls alone.
    let middle = median(values.iter().copied()).unwrap_or_default();
    for ((residual, value), doubts) in residuals.iter().zip(values).zip(doubts) {
        match residual {
            _ if *value <= 0.0 => doubts.insert(Doubt::NearZero),
            Some(residual) if *residual < -most => doubts.insert(Doubt::NearZero),
            Some(residual) if *residual > most && *value > middle => doubts.insert(Doubt::FarOff),
            _ => {}
        }
    }
}

/// What tells a piece from others of its kind: its extents, by name. Height and width are one, as are they in most tables.
fn extents(piece: &Piece) -> Vec<(&'static str, usize)> {
    match *piece {
        Piece::Unit(key) => {
            let mut all = vec![("height", key.input.h), ("width", key.input.w), ("batch", key.input.n)];
            match key.operator {
                Operator::Conv { kernel, stride, c_in, c_out, groups } => {
                    all.extend([
                        ("kernel", kernel),
                        ("stride", stride),
                        ("c_in", c_in),
                        ("c_out", c_out),
                        ("groups", groups),
                    ]);
                }
                Operator::MbConv { kernel, expansion, stride, c_in, c_out, groups, shortcut } => {
                    // Without its convolution an expansion of 1 is another kind of block.
                    all.extend([("kernel", kernel), ("expansion", expansion.unwrap_or(0)), ("stride", stride)]);
                    all.extend([
                        ("c_in", c_in),
                        ("c_out", c_out),
                        ("groups", groups),
                        ("shortcut", usize::from(shortcut)),
                    ]);
                }
                Operator::Head { c_in, c_hidden, classes } => {
                    all.extend([("c_in", c_in), ("c_hidden", c_hidden), ("classes", classes)]);
                }
                Operator::Zero => {}
            }
            all
        }
        Piece::Features { height, width, c_in, c_hidden } => {
            vec![("height", height), ("width", width), ("c_in", c_in), ("c_hidden", c_hidden)]
        }
        Piece::Classifier { height, width, c_hidden, classes } => {
            vec![("height", height), ("width", width), ("c_hidden", c_hidden), ("classes", classes)]
        }
    }
}

/// Extents along which tables are interpolated.
const AXES: [&str; 8] = ["kernel", "expansion", "c_in", "c_out", "c_hidden", "classes", "batch", "height"];

/// A piece's kind, and its extents but for one.
type Others<'a> = (&'a str, Vec<usize>);

fn kind(piece: &Piece) -> &'static str {
    match piece {
        Piece::Unit(key) => key.operator.kind(),
        Piece::Features { .. } => "features",
        Piece::Classifier { .. } => "classifier",
    }
}

/// Marks what lies on the line between its two neighbours along one extent, as exactly as the file writes its numbers; lines in the
/// extent, in its square, and in logarithms.
fn mark_interpolated(entries: &[Entry], step: f64, doubts: &mut [Doubts]) {
    let mut hits = Vec::new();
    let mut by_chance = 0.0;
    for axis in AXES {
        // By kind and all other extents: this one, and which entry.
        let mut lines: BTreeMap<Others<'_>, Vec<(usize, usize)>> = BTreeMap::new();
        for (index, entry) in entries.iter().enumerate().filter(|(_, entry)| entry.ms > 0.0) {
            let extents = extents(&entry.piece);
            let Some((_, at)) = extents.iter().find(|(name, at)| *name == axis && *at > 0) else { continue };
            // A square picture is one extent.
            let is_square = |name: &str| {
                name == "width"
                    && axis == "height"
                    && extents.iter().any(|(other, value)| *other == "width" && value == at)
            };
            let others = extents.iter().filter(|(name, _)| *name != axis);
            let others = others.map(|(name, value)| if is_square(name) { 0 } else { *value }).collect();
            lines.entry((kind(&entry.piece), others)).or_default().push((*at, index));
        }
        for line in lines.values_mut() {
            line.sort_unstable();
            line.dedup_by_key(|(at, _)| *at);
            for three in line.windows(3) {
                let [before, middle, behind] =
                    [three[0], three[1], three[2]].map(|(at, index)| (at as f64, entries[index].ms));
                // Where the ends were rounded behind the line was drawn, it is off by as much again.
                let written = if step > SAME * middle.1 { step } else { own_step(middle.1) };
                let most = written.max(SAME * middle.1);
                let range = (before.1 - behind.1).abs();
                // Three equal values are no line, they are a resolution.
                if range <= 4.0 * most {
                    continue;
                }
                // A value between its neighbours may be anywhere there, or so far off.
                let chance = 2.0 * most / range.min(APART * middle.1);
                by_chance += (3.0 * chance).min(1.0);
                let share = |map: fn(f64) -> f64| (map(middle.0) - map(before.0)) / (map(behind.0) - map(before.0));
                let on_line = |share: f64| before.1 + share * (behind.1 - before.1);
                let geometric = (before.1.ln() + share(|x| x) * (behind.1 / before.1).ln()).exp();
                let lines = [on_line(share(|x| x)), on_line(share(|x| x * x)), geometric];
                if lines.iter().any(|line| (line - middle.1).abs() <= 1.01 * most) {
                    hits.push(three[1].1);
                }
            }
        }
    }
    if at_least(hits.len(), by_chance) < CHANCE {
        hits.into_iter().for_each(|index| doubts[index].insert(Doubt::Interpolated));
    }
}

/// The probability of so many chance events or more, where so many are to be expected (Poisson).
fn at_least(count: usize, expected: f64) -> f64 {
    let mut term = (-expected).exp();
    let mut fewer = 0.0;
    for index in 0..count {
        fewer += term;
        term *= expected / (index + 1) as f64;
    }
    (1.0 - fewer).max(0.0)
}

/// Marks what has another entry's value, and its deviation, to the last digit.
fn mark_copied(entries: &[Entry], step: f64, doubts: &mut [Doubts]) {
    let mut same: BTreeMap<(u64, u64), Vec<usize>> = BTreeMap::new();
    let mut values = Vec::new();
    for (index, entry) in entries.iter().enumerate().filter(|(_, entry)| entry.ms > 0.0) {
        same.entry((entry.ms.to_bits(), entry.deviation.unwrap_or_default().to_bits())).or_default().push(index);
        values.push(entry.ms);
    }
    values.sort_by(f64::total_cmp);
    // Pairs that are the same by chance: those that are near each other, but not the same, by the number of steps that are near.
    let range = values.last().zip(values.first()).map_or(0.0, |(most, least)| most - least);
    let mut by_chance = 0.0;
    for (index, value) in values.iter().enumerate() {
        let step = step.max(SAME * value);
        let near = (range / step).clamp(1.0, NEAR);
        let up_to = |steps: f64| values.partition_point(|other| other - value <= steps * step);
        by_chance += (up_to(near + 0.5) - up_to(0.5).max(index + 1)) as f64 / near;
    }
    let repeated: Vec<&Vec<usize>> = same.values().filter(|indices| indices.len() > 1).collect();
    let pairs: usize = repeated.iter().map(|indices| indices.len() * (indices.len() - 1) / 2).sum();
    // Where nearly every cell of a coarse scale is taken, equal values say nothing.
    if pairs > 0 && at_least(pairs, MORE_THAN_CHANCE * by_chance) < CHANCE {
        repeated.into_iter().flatten().for_each(|&index| doubts[index].insert(Doubt::Copied));
    }
}
