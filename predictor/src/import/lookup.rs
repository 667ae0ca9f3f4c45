//! Look-up tables of ProxylessNAS and Once-for-All: YAML whose keys say what was measured, such as
//! `expanded_conv-input:112x112x32-output:112x112x16-expand:1-kernel:3-stride:1-idskip:0`, and whose values are `{count, mean, var}` or
//! `{count, mean, std}` in milliseconds. Extents are height x width x channels.
//!
//! `Conv` is the stem, of kernel 3; `Conv_1` the 1x1 convolution of the head and `Logits` all behind it. Keys that go on with
//! `-se:0-hs:0` are those of MobileNetV3's tables, in which `expand` counts the hidden channels.

use std::collections::HashMap;

use fleetfoot_space::{Operator, OperatorKey, Precision, Shape};
use yaml_rust2::Event;
use yaml_rust2::parser::Parser;
use yaml_rust2::scanner::{Marker, ScanError};

use super::{Collected, Entry, Fault, Piece};

/// The stem's kernel, which keys don't say.
const STEM_KERNEL: usize = 3;
/// The largest extent.
const MOST: usize = 1 << 16;
/// Above it an `expand` below the number of input channels is no ratio.
const MOST_RATIO: usize = 16;

/// Reads such a file. Errors are of the whole file, with their line; what single keys can't say is among the faults.
pub(super) fn read(text: &str) -> Result<Collected, String> {
    let mut events = Parser::new(text.chars());
    let mut next = || events.next_token().map_err(|error| describe(&error));
    let mut collected = Collected::default();
    loop {
        match next()? {
            (Event::StreamStart | Event::DocumentStart | Event::Nothing, _) => {}
            (Event::MappingStart(..), _) => break,
            (Event::StreamEnd, _) => return Err("it holds nothing".to_owned()),
            (_, at) => return Err(format!("line {}: wanted keys with their values", at.line())),
        }
    }
    let mut lines: HashMap<String, usize> = HashMap::new();
    loop {
        let (key, at) = match next()? {
            (Event::Scalar(key, ..), at) => (key, at),
            (Event::MappingEnd, _) => break,
            (_, at) => {
                return Err(format!("line {}: wanted a key such as Conv-input:224x224x3-output:112x112x32", at.line()));
            }
        };
        let line = at.line();
        if let Some(before) = lines.insert(key.clone(), line) {
            return Err(format!("line {line}: {key} stands in line {before} already"));
        }
        let Value { ms, deviation, samples } = value(&mut next, &key, at)?;
        match parse(&key) {
            Ok(piece) => {
                let place = format!("line {line}");
                collected.entries.push(Entry { place, name: key, deviation, samples, ..Entry::of(piece, ms) });
            }
            Err(why) => collected.fault(Fault::Inexpressible, format!("line {line}, {key}: {why}")),
        }
    }
    match next()? {
        (Event::DocumentEnd, _) => {}
        (_, at) => return Err(format!("line {}: nothing was expected here", at.line())),
    }
    match next()? {
        (Event::StreamEnd, _) => Ok(collected),
        (_, at) => Err(format!("line {}: a second document begins: wanted one table", at.line())),
    }
}

fn describe(error: &ScanError) -> String {
    format!("line {}: it is no YAML: {}", error.marker().line(), error.info())
}

/// What stands behind a key.
struct Value {
    ms: f64,
    /// Of the samples, where it is known.
    deviation: Option<f64>,
    /// 0 where unknown.
    samples: u64,
}

/// Reads what stands behind a key: a number, or its mean with what else is known.
fn value(next: &mut impl FnMut() -> Result<(Event, Marker), String>, key: &str, at: Marker) -> Result<Value, String> {
    let wrong = |line: usize, what: String| Err(format!("line {line}, {key}: {what}"));
    let number = |name: &str, text: &str, line: usize| match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => Err(format!("line {line}, {key}: {name} is '{text}', wanted a finite number")),
    };
    let mut fields: HashMap<String, f64> = HashMap::new();
    match next()? {
        (Event::Scalar(text, ..), at) => {
            fields.insert("mean".to_owned(), number("its value", &text, at.line())?);
        }
        (Event::MappingStart(..), _) => loop {
            let (name, line) = match next()? {
                (Event::Scalar(name, ..), at) => (name, at.line()),
                (Event::MappingEnd, _) => break,
                (_, at) => return wrong(at.line(), "wanted count, mean, and var or std".to_owned()),
            };
            let (text, line) = match next()? {
                (Event::Scalar(text, ..), at) => (text, at.line()),
                _ => return wrong(line, format!("{name} is no number")),
            };
            // What isn't known may be anything.
            if !["count", "mean", "var", "std"].contains(&name.as_str()) {
                continue;
            }
            let number = number(&name, &text, line)?;
            if name != "mean" && number < 0.0 {
                return wrong(line, format!("{name} is {number}, wanted at least 0"));
            }
            if name == "count" && (number.fract() != 0.0 || number > 1e15) {
                return wrong(line, format!("count is {text}, wanted a whole number"));
            }
            if fields.insert(name.clone(), number).is_some() {
                return wrong(line, format!("{name} stands there twice"));
            }
        },
        (_, at) => return wrong(at.line(), "wanted a number, or count, mean, and var or std".to_owned()),
    }
    let Some(&ms) = fields.get("mean") else { return wrong(at.line(), "it has no mean".to_owned()) };
    let deviation = fields.get("std").copied().or_else(|| fields.get("var").map(|variance| variance.sqrt()));
    let samples = fields.get("count").map_or(0, |count| *count as u64);
    Ok(Value { ms, deviation, samples })
}

/// What a key means.
pub(super) fn parse(key: &str) -> Result<Piece, String> {
    let mut parts = key.split('-');
    let layer = parts.next().unwrap_or_default();
    let mut named = Vec::new();
    for part in parts {
        let Some((name, value)) = part.split_once(':') else { return Err(format!("'{part}' is no NAME:VALUE")) };
        if named.iter().any(|(known, _)| *known == name) {
            return Err(format!("it has two of '{name}'"));
        }
        named.push((name, value));
    }
    let text = |name: &str| named.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    let wanted = |name: &str| text(name).ok_or_else(|| format!("it has no {name}"));
    let number = |name: &str| {
        let text = wanted(name)?;
        let number = text.parse::<usize>().ok().filter(|number| *number <= MOST);
        number.ok_or_else(|| format!("{name} is '{text}', wanted a whole number of at most {MOST}"))
    };
    let extents = |name: &str| -> Result<Vec<usize>, String> {
        let text = wanted(name)?;
        let extents = text.split('x').map(|extent| extent.parse().ok().filter(|extent| (1..=MOST).contains(extent)));
        extents.collect::<Option<Vec<usize>>>().ok_or_else(|| format!("{name} is '{text}', wanted HxWxC"))
    };
    let shape = |name: &str| match extents(name)?[..] {
        [height, width, channels] => Ok((height, width, channels)),
        _ => Err(format!("{name} is '{}', wanted HxWxC", text(name).unwrap_or_default())),
    };
    let known: &[&str] = match layer {
        "expanded_conv" => &["input", "output", "expand", "kernel", "stride", "idskip", "se", "hs"],
        _ => &["input", "output"],
    };
    if let Some((name, _)) = named.iter().find(|(name, _)| !known.contains(name)) {
        return Err(format!("fleetfoot's blocks have no '{name}'"));
    }
    match layer {
        "Conv" => {
            let ((height, width, c_in), (h_out, w_out, c_out)) = (shape("input")?, shape("output")?);
            let stride = (1..=8).find(|&stride| (height.div_ceil(stride), width.div_ceil(stride)) == (h_out, w_out));
            let stride = stride.ok_or_else(|| format!("no stride makes {h_out}x{w_out} of {height}x{width}"))?;
            unit(Operator::Conv { kernel: STEM_KERNEL, stride, c_in, c_out, groups: 1 }, (height, width, c_in))
        }
        "expanded_conv" => {
            let ((height, width, c_in), (h_out, w_out, c_out)) = (shape("input")?, shape("output")?);
            let (kernel, stride, expand) = (number("kernel")?, number("stride")?, number("expand")?);
            for (name, what) in [("se", "squeeze-and-excitation"), ("hs", "h-swish")] {
                if text(name).is_some_and(|value| value != "0") {
                    return Err(format!("{name}:{}: no block of fleetfoot has {what}", text(name).unwrap_or_default()));
                }
            }
            let is_hidden = (text("se").is_some() || text("hs").is_some()) && !(expand < c_in && expand <= MOST_RATIO);
            let ratio = match is_hidden {
                true if expand % c_in == 0 => expand / c_in,
                true => return Err(format!("{expand} hidden channels are no whole multiple of {c_in} channels")),
                false => expand,
            };
            let shortcut = match text("idskip") {
                Some("0") => false,
                Some("1") => true,
                other => return Err(format!("idskip is '{}', wanted 0 or 1", other.unwrap_or_default())),
            };
            if ratio == 0 || kernel % 2 == 0 || stride == 0 {
                return Err("wanted an odd kernel, a stride and an expansion of at least 1".to_owned());
            }
            if (height.div_ceil(stride), width.div_ceil(stride)) != (h_out, w_out) {
                return Err(format!("stride {stride} doesn't make {h_out}x{w_out} of {height}x{width}"));
            }
            if shortcut && (stride, c_in) != (1, c_out) {
                return Err("idskip:1, but the output hasn't the input's shape".to_owned());
            }
            // MobileNetV2's blocks have no expansion convolution at ratio 1.
            let expansion = (ratio > 1).then_some(ratio);
            let block = Operator::MbConv { kernel, expansion, stride, c_in, c_out, groups: 1, shortcut };
            unit(block, (height, width, c_in))
        }
        "Conv_1" => {
            let ((height, width, c_in), (h_out, w_out, c_hidden)) = (shape("input")?, shape("output")?);
            if (height, width) != (h_out, w_out) {
                return Err("the head's 1x1 convolution keeps height and width".to_owned());
            }
            Ok(Piece::Features { height, width, c_in, c_hidden })
        }
        "Logits" => {
            let (height, width, c_hidden) = shape("input")?;
            let output = extents("output")?;
            match output[..] {
                [classes] | [1, 1, classes] => Ok(Piece::Classifier { height, width, c_hidden, classes }),
                _ => Err("output isn't a number of classes".to_owned()),
            }
        }
        other => Err(format!(
            "layer '{other}' is none of Conv, expanded_conv, Conv_1 (the head's convolution) and Logits (all behind it)"
        )),
    }
}

fn unit(operator: Operator, (height, width, channels): (usize, usize, usize)) -> Result<Piece, String> {
    Ok(Piece::Unit(OperatorKey { operator, input: Shape::new(1, channels, height, width), precision: Precision::Fp32 }))
}

/// The keys that stand for a unit; none where they can't.
pub fn lookup_keys(key: &OperatorKey) -> Vec<String> {
    let Shape { h, w, .. } = key.input;
    match key.operator {
        Operator::Conv { kernel: STEM_KERNEL, stride, c_in, c_out, groups: 1 } => {
            vec![format!("Conv-input:{h}x{w}x{c_in}-output:{}x{}x{c_out}", h.div_ceil(stride), w.div_ceil(stride))]
        }
        Operator::MbConv { kernel, expansion, stride, c_in, c_out, groups: 1, shortcut } if expansion != Some(1) => {
            let output = format!("{}x{}x{c_out}", h.div_ceil(stride), w.div_ceil(stride));
            let (expand, skip) = (expansion.unwrap_or(1), u8::from(shortcut));
            let block = format!("expand:{expand}-kernel:{kernel}-stride:{stride}-idskip:{skip}");
            vec![format!("expanded_conv-input:{h}x{w}x{c_in}-output:{output}-{block}")]
        }
        Operator::Head { c_in, c_hidden, classes } => vec![
            format!("Conv_1-input:{h}x{w}x{c_in}-output:{h}x{w}x{c_hidden}"),
            format!("Logits-input:{h}x{w}x{c_hidden}-output:{classes}"),
        ],
        _ => Vec::new(),
    }
}
