//! CSVs with a header, whose columns mean what their names say or what a mapping says.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use fleetfoot_profiler::{Context, csv_fault, csv_records};
use fleetfoot_space::{Operator, OperatorKey, Precision, RecordLines, Shape, without_mark};

use super::{Collected, Entry, Fault, Piece, lookup};

/// What a column can mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Field {
    Architecture,
    Key,
    Operator,
    Kernel,
    Expansion,
    ExpansionConv,
    Stride,
    CIn,
    COut,
    Groups,
    Shortcut,
    CHidden,
    Classes,
    Batch,
    Height,
    Width,
    Precision,
    Measured,
    Samples,
    Latency,
    Low,
    High,
    Deviation,
}

use Field::*;

/// Each field's name, and others that it goes by in published tables; all in lower case, with `_` for what is no letter or digit.
const NAMES: [(Field, &str, &[&str]); 23] = [
    (Architecture, "architecture", &["arch", "arch_str", "genotype"]),
    (Key, "key", &["operator_key", "block_key"]),
    (Operator, "operator", &["op", "kind", "op_type", "layer", "layer_type", "block", "block_type"]),
    (Kernel, "kernel", &["k", "ks", "kernel_size"]),
    (Expansion, "expansion", &["expand", "expand_ratio", "expansion_ratio", "e", "t"]),
    (ExpansionConv, "expansion_conv", &[]),
    (Stride, "stride", &["s", "strides"]),
    (CIn, "c_in", &["cin", "in_channels", "input_channels", "in_channel", "input_channel", "inp"]),
    (COut, "c_out", &["cout", "out_channels", "output_channels", "out_channel", "output_channel", "oup"]),
    (Groups, "groups", &["group", "g"]),
    (Shortcut, "shortcut", &["skip", "idskip", "id_skip", "residual", "use_res_connect"]),
    (CHidden, "c_hidden", &["hidden_channels", "hidden"]),
    (Classes, "classes", &["num_classes", "n_classes"]),
    (Batch, "batch", &["batch_size", "bs"]),
    (Height, "height", &["h", "in_h", "h_in", "input_h", "input_height", "input_size", "resolution", "hw", "fsize"]),
    (Width, "width", &["w", "in_w", "w_in", "input_w", "input_width"]),
    (Precision, "precision", &["dtype"]),
    (Measured, "measured", &[]),
    (Samples, "samples", &["n", "count", "runs", "repeats", "num_samples"]),
    (
        Latency,
        "latency",
        &[
            "lat",
            "time",
            "mean",
            "median",
            "runtime",
            "avg",
            "mean_latency",
            "median_latency",
            "avg_latency",
            "inference_time",
        ],
    ),
    (Low, "low", &["lower", "ci_low"]),
    (High, "high", &["upper", "ci_high"]),
    (Deviation, "deviation", &["std", "stddev", "std_dev", "sd"]),
];

/// Units of time, by the endings of columns' names, in milliseconds.
const UNITS: [(&str, f64); 4] = [("_ms", 1.0), ("_us", 1e-3), ("_ns", 1e-6), ("_s", 1e3)];

impl Field {
    const fn is_time(self) -> bool {
        matches!(self, Latency | Low | High | Deviation)
    }

    fn name(self) -> &'static str {
        NAMES.iter().find(|(field, ..)| *field == self).map_or("", |(_, name, _)| name)
    }
}

/// A field, and for times its unit in milliseconds.
type Meaning = (Field, f64);

/// A name that means nothing here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ColumnsError(String);

/// What a column's own name means: by one of the names that it goes by, with its unit for times. `Err` where a time has no unit.
fn meaning(name: &str, strict: bool) -> Result<Option<Meaning>, ColumnsError> {
    let plain: String =
        name.trim().to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let plain = plain.trim_matches('_').replace("__", "_");
    let of = |text: &str| {
        NAMES
            .iter()
            .find(|(_, name, others)| *name == text || (!strict && others.contains(&text)))
            .map(|(field, ..)| *field)
    };
    if let Some(field) = of(&plain).filter(|field| !field.is_time()) {
        return Ok(Some((field, 1.0)));
    }
    for (ending, ms) in UNITS {
        let Some(base) = plain.strip_suffix(ending) else { continue };
        if let Some(field) = of(base).filter(|field| field.is_time()) {
            return Ok(Some((field, ms)));
        }
    }
    // A column that is called after its unit only.
    if !strict && let Some((_, ms)) = UNITS.iter().find(|(ending, _)| ending[1..] == plain && plain != "s") {
        return Ok(Some((Latency, *ms)));
    }
    match of(&plain) {
        Some(field) => {
            let name = field.name();
            Err(ColumnsError(format!(
                "'{plain}' doesn't say its unit: wanted {name}_ms, {name}_us, {name}_ns or {name}_s"
            )))
        }
        None => Ok(None),
    }
}

/// Which columns mean what: `FIELD=COLUMN`, and `FIELD:VALUE` for what is the same in all rows, with commas between.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Columns {
    named: Vec<(Meaning, String)>,
    constant: BTreeMap<Field, String>,
}

impl FromStr for Columns {
    type Err = ColumnsError;

    fn from_str(text: &str) -> Result<Self, ColumnsError> {
        let mut columns = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let at = part.find(['=', ':']).ok_or_else(|| {
                ColumnsError(format!("'{part}' is neither FIELD=COLUMN nor FIELD:VALUE, such as kernel=ks or stride:1"))
            })?;
            let (name, rest) = (part[..at].trim(), part[at + 1..].trim());
            let known = || {
                NAMES
                    .iter()
                    .map(|(field, name, _)| if field.is_time() { format!("{name}_ms") } else { (*name).to_owned() })
            };
            let (field, ms) = meaning(name, true)?.ok_or_else(|| {
                ColumnsError(format!("'{name}' is no field: wanted {}", known().collect::<Vec<_>>().join(", ")))
            })?;
            let twice =
                columns.named.iter().any(|((known, _), _)| *known == field) || columns.constant.contains_key(&field);
            if twice {
                return Err(ColumnsError(format!("{} is named twice", field.name())));
            }
            match part.as_bytes()[at] {
                b'=' => columns.named.push(((field, ms), rest.to_owned())),
                _ if field.is_time() => {
                    return Err(ColumnsError(format!("{name}:{rest}: times are read from a column")));
                }
                _ => {
                    columns.constant.insert(field, rest.to_owned());
                }
            }
        }
        Ok(columns)
    }
}

/// Where each field stands in a file.
struct Layout<'a> {
    positions: BTreeMap<Field, (usize, f64)>,
    constant: &'a BTreeMap<Field, String>,
    /// Columns that mean nothing here.
    unread: Vec<String>,
}

impl Layout<'_> {
    fn find<'a>(header: &csv::StringRecord, columns: &'a Columns) -> Result<Layout<'a>, String> {
        let mut positions: BTreeMap<Field, (usize, f64)> = BTreeMap::new();
        for ((field, ms), name) in &columns.named {
            let index = header.iter().position(|column| column == name);
            let index = index.ok_or_else(|| {
                let all = header.iter().collect::<Vec<_>>().join(", ");
                format!("it has no column '{name}'; its columns are: {all}")
            })?;
            positions.insert(*field, (index, *ms));
        }
        let taken: Vec<usize> = positions.values().map(|(index, _)| *index).collect();
        let mut guessed: BTreeMap<Field, (usize, f64)> = BTreeMap::new();
        // Times that don't say their unit, and what nobody knows.
        let (mut unsaid, mut unread) = (Vec::new(), Vec::new());
        for (index, name) in header.iter().enumerate().filter(|(index, _)| !taken.contains(index)) {
            match meaning(name, false) {
                Ok(Some((field, ms))) if !positions.contains_key(&field) && !columns.constant.contains_key(&field) => {
                    if let Some((other, _)) = guessed.insert(field, (index, ms)) {
                        return Err(format!(
                            "columns '{}' and '{name}' may both be the {}: say with --columns which one is, {}",
                            &header[other],
                            field.name(),
                            example(field, &header[other], &header[index])
                        ));
                    }
                }
                Ok(_) => unread.push(name.to_owned()),
                Err(error) => unsaid.push((index, error)),
            }
        }
        positions.extend(guessed);
        if !positions.contains_key(&Latency) {
            let all = header.iter().collect::<Vec<_>>().join(", ");
            return Err(match unsaid.first() {
                Some((index, error)) => {
                    format!("column {error}: say it with --columns, such as latency_ms={}", &header[*index])
                }
                None => format!(
                    "no column is known as the latency: name it with --columns latency_ms=COLUMN; its columns, between commas, are: {all}"
                ),
            });
        }
        if let Some((index, error)) = unsaid.first() {
            return Err(format!("column {error}: say it with --columns, such as deviation_ms={}", &header[*index]));
        }
        if positions.contains_key(&Low) != positions.contains_key(&High) {
            return Err(
                "it has one end of intervals, low or high, but not the other: name it with --columns".to_owned()
            );
        }
        Ok(Layout { positions, constant: &columns.constant, unread })
    }

    /// What is known of a field in a record.
    fn text<'r>(&'r self, record: &'r csv::StringRecord, field: Field) -> Option<&'r str> {
        let found = self.positions.get(&field).and_then(|(index, _)| record.get(*index));
        found.or_else(|| self.constant.get(&field).map(String::as_str)).filter(|text| !text.is_empty())
    }

    /// What is read, and what isn't.
    fn notes(&self) -> Vec<String> {
        let mut notes = vec![format!("columns that are read: {self}")];
        if !self.unread.is_empty() {
            notes.push(format!("columns that are not read: {}", self.unread.join(", ")));
        }
        notes
    }

    fn samples(&self, record: &csv::StringRecord) -> Result<u64, String> {
        let Some(text) = self.text(record, Samples) else { return Ok(0) };
        let number = text.parse::<f64>().ok().filter(|n| (0.0..1e15).contains(n) && n.fract() == 0.0);
        number.map(|number| number as u64).ok_or_else(|| format!("samples is '{text}', wanted a whole number"))
    }

    fn has(&self, field: Field) -> bool {
        self.positions.contains_key(&field) || self.constant.contains_key(&field)
    }

    /// A time in milliseconds.
    fn ms(&self, record: &csv::StringRecord, field: Field) -> Result<Option<f64>, String> {
        let Some(text) = self.text(record, field) else { return Ok(None) };
        let factor = self.positions.get(&field).map_or(1.0, |(_, ms)| *ms);
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Some(scaled(number, factor))),
            _ => Err(format!("{} is '{text}', wanted a finite number", field.name())),
        }
    }

    fn number(&self, record: &csv::StringRecord, field: Field) -> Result<Option<usize>, String> {
        let Some(text) = self.text(record, field) else { return Ok(None) };
        let number = text.parse::<f64>().ok().filter(|n| (0.0..65_536.0).contains(n) && n.fract() == 0.0);
        number
            .map(|number| Some(number as usize))
            .ok_or_else(|| format!("{} is '{text}', wanted a whole number below 65536", field.name()))
    }

    fn needed(&self, record: &csv::StringRecord, field: Field) -> Result<usize, String> {
        self.number(record, field)?.ok_or_else(|| {
            let name = field.name();
            format!(
                "its {name} isn't known: name its column with --columns {name}=COLUMN, or {name}:VALUE for all rows"
            )
        })
    }

    fn flag(&self, record: &csv::StringRecord, field: Field) -> Result<Option<bool>, String> {
        let Some(text) = self.text(record, field) else { return Ok(None) };
        match text.to_lowercase().as_str() {
            "1" | "true" | "yes" => Ok(Some(true)),
            "0" | "false" | "no" => Ok(Some(false)),
            _ => Err(format!("{} is '{text}', wanted 0 or 1", field.name())),
        }
    }
}

/// A number in another unit, so that 1500 us are 1.5 ms to the last digit.
fn scaled(number: f64, factor: f64) -> f64 {
    if factor < 1.0 { number / (1.0 / factor).round() } else { number * factor }
}

fn example(field: Field, one: &str, other: &str) -> String {
    let name = if field.is_time() { format!("{}_ms", field.name()) } else { field.name().to_owned() };
    format!("{name}={one} or {name}={other}")
}

impl fmt::Display for Layout<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.positions.keys().map(|field| field.name()).collect();
        f.write_str(&names.join(", "))
    }
}

/// A CSV's records, each with its line.
fn records(text: &str) -> Result<(csv::StringRecord, Vec<(u64, csv::StringRecord)>), String> {
    let mut reader = csv_records(text);
    let header = reader.headers().map_err(|error| csv_fault(text, &error))?.clone();
    if let Some(twice) =
        header.iter().enumerate().find(|(index, name)| header.iter().take(*index).any(|other| other == *name))
    {
        return Err(format!("two columns are named '{}': rename one", twice.1));
    }
    let mut lines = RecordLines::new(text);
    let mut records = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| csv_fault(text, &error))?;
        let line = record.position().map_or(0, |position| lines.line(position.byte()));
        records.push((line, record));
    }
    Ok((header, records))
}

/// Reads units.
pub(super) fn read(text: &str, columns: &Columns) -> Result<Collected, String> {
    let text = without_mark(text);
    let (header, records) = records(text)?;
    let layout = Layout::find(&header, columns)?;
    let mut collected = Collected { notes: layout.notes(), ..Collected::default() };
    if !layout.has(Key) {
        if !layout.has(Operator) {
            collected.notes.push("no column says the operator: every row is taken for an mbconv".to_owned());
        }
        if !layout.has(Shortcut) {
            let rule = "blocks of stride 1 that keep their channels are taken to have one";
            collected.notes.push(format!("no column says the shortcut: {rule}"));
        }
        if !layout.has(Width) && layout.has(Height) {
            collected.notes.push("no column says the width: it is taken to be the height".to_owned());
        }
    }
    for (line, record) in &records {
        let at = |what: String| format!("line {line}: {what}");
        let ms = layout.ms(record, Latency).map_err(at)?;
        let ms = ms.ok_or_else(|| at("it has no latency".to_owned()))?;
        let deviation = layout.ms(record, Deviation).map_err(at)?;
        if deviation.is_some_and(|deviation| deviation < 0.0) {
            return Err(at("its deviation is negative".to_owned()));
        }
        let interval = layout.ms(record, Low).map_err(at)?.zip(layout.ms(record, High).map_err(at)?);
        if let Some((low, high)) = interval.filter(|(low, high)| *low > ms || *high < ms) {
            return Err(at(format!("its interval, {low} to {high} ms, doesn't hold its latency, {ms} ms")));
        }
        let samples = layout.samples(record).map_err(at)?;
        let measured = match layout.text(record, Measured) {
            None => None,
            Some(text) => Some(
                Context::from_measured(text)
                    .ok_or_else(|| at(format!("measured is '{text}', wanted alone-cold, alone-warm or network")))?,
            ),
        };
        match piece(&layout, record) {
            Ok(piece) => {
                let name = match piece {
                    Piece::Unit(key) => key.to_string(),
                    _ => layout.text(record, Operator).or(layout.text(record, Key)).unwrap_or_default().to_owned(),
                };
                let place = format!("line {line}");
                collected.entries.push(Entry {
                    place,
                    name,
                    deviation,
                    interval,
                    samples,
                    measured,
                    ..Entry::of(piece, ms)
                });
            }
            Err(Wrong::Value(what)) => return Err(at(what)),
            Err(Wrong::Inexpressible(what)) => collected.fault(Fault::Inexpressible, at(what)),
        }
    }
    Ok(collected)
}

/// Why a record is no unit.
enum Wrong {
    /// The file is wrong, or how its columns are named.
    Value(String),
    /// Fleetfoot has no such operator.
    Inexpressible(String),
}

impl From<String> for Wrong {
    fn from(what: String) -> Self {
        Self::Value(what)
    }
}

fn piece(layout: &Layout<'_>, record: &csv::StringRecord) -> Result<Piece, Wrong> {
    if let Some(text) = layout.text(record, Key) {
        if let Ok(key) = text.parse::<OperatorKey>() {
            return Ok(Piece::Unit(key));
        }
        let why = |why: String| Wrong::Inexpressible(format!("'{text}': {why}"));
        return match text.parse::<OperatorKey>() {
            Err(error) if text.contains('@') => Err(why(error.to_string())),
            _ => lookup::parse(text).map_err(why),
        };
    }
    let needed = |field: Field| layout.needed(record, field);
    let kind = layout.text(record, Operator).unwrap_or("mbconv");
    let plain = kind.to_lowercase().replace([' ', '-'], "_");
    let height = needed(Height)?;
    let width = layout.number(record, Width)?.unwrap_or(height);
    let batch = layout.number(record, Batch)?.unwrap_or(1);
    let precision = match layout.text(record, Precision).map(str::to_lowercase).as_deref() {
        None => Precision::Fp32,
        Some("float" | "float32" | "f32") => Precision::Fp32,
        Some("float16" | "f16" | "half") => Precision::Fp16,
        Some(text) => text.parse().map_err(|error| Wrong::Value(format!("{error}")))?,
    };
    let groups = layout.number(record, Groups)?.unwrap_or(1);
    let operator = match plain.as_str() {
        "mbconv"
        | "mb_conv"
        | "expanded_conv"
        | "inverted_residual"
        | "mobile_inverted_conv"
        | "mbinvertedconvlayer"
        | "irf" => {
            let (stride, c_in, c_out) = (needed(Stride)?, needed(CIn)?, needed(COut)?);
            let expansion = match (needed(Expansion)?, layout.flag(record, ExpansionConv)?) {
                (1, conv) => conv.unwrap_or(false).then_some(1),
                (ratio, Some(false)) => {
                    return Err(Wrong::Value(format!("there is no expansion by {ratio} without its convolution")));
                }
                (ratio, _) => Some(ratio),
            };
            let shortcut = layout.flag(record, Shortcut)?.unwrap_or(stride == 1 && c_in == c_out);
            if shortcut && (stride, c_in) != (1, c_out) {
                return Err(Wrong::Inexpressible("a shortcut, but the output hasn't the input's shape".to_owned()));
            }
            Operator::MbConv { kernel: needed(Kernel)?, expansion, stride, c_in, c_out, groups, shortcut }
        }
        "conv" | "stem" | "conv2d" | "first_conv" | "conv_bn_relu" => Operator::Conv {
            kernel: needed(Kernel)?,
            stride: needed(Stride)?,
            c_in: needed(CIn)?,
            c_out: needed(COut)?,
            groups,
        },
        "head" => Operator::Head { c_in: needed(CIn)?, c_hidden: needed(CHidden)?, classes: needed(Classes)? },
        "conv_1" | "feature_mix_layer" | "features" if (batch, precision) == (1, Precision::Fp32) => {
            return Ok(Piece::Features { height, width, c_in: needed(CIn)?, c_hidden: needed(COut)? });
        }
        "logits" | "classifier" if (batch, precision) == (1, Precision::Fp32) => {
            return Ok(Piece::Classifier { height, width, c_hidden: needed(CIn)?, classes: needed(COut)? });
        }
        _ => {
            let wanted = "mbconv, conv, head, or conv_1 and logits, a head's two parts";
            return Err(Wrong::Inexpressible(format!("operator '{kind}' is none of {wanted}")));
        }
    };
    let c_in = match operator {
        Operator::Conv { c_in, .. } | Operator::MbConv { c_in, .. } | Operator::Head { c_in, .. } => c_in,
        Operator::Zero => 0,
    };
    let key = OperatorKey { operator, input: Shape::new(batch, c_in, height, width), precision };
    // A key that doesn't read back (an even kernel, 0 channels) is no unit of any space.
    let key: OperatorKey = key.to_string().parse().map_err(|error| Wrong::Inexpressible(format!("{error}")))?;
    Ok(Piece::Unit(key))
}

/// A network that a file holds.
pub(super) struct NetworkEntry {
    pub line: u64,
    pub architecture: String,
    pub ms: f64,
    pub interval: Option<(f64, f64)>,
    pub samples: Option<u64>,
}

/// Whether a CSV is of whole networks: it, or the mapping, has a column of architectures.
pub(super) fn is_of_networks(text: &str, columns: &Columns) -> bool {
    let text = without_mark(text);
    let mut reader = csv_records(text);
    let Ok(header) = reader.headers() else { return false };
    let named = columns.named.iter().any(|((field, _), _)| *field == Architecture);
    named || header.iter().any(|name| matches!(meaning(name, false), Ok(Some((Architecture, _)))))
}

/// Reads whole networks.
pub(super) fn read_networks(text: &str, columns: &Columns) -> Result<(Vec<NetworkEntry>, Vec<String>), String> {
    let text = without_mark(text);
    let (header, records) = records(text)?;
    let layout = Layout::find(&header, columns)?;
    let mut networks = Vec::new();
    for (line, record) in &records {
        let at = |what: String| format!("line {line}: {what}");
        let architecture = layout.text(record, Architecture).ok_or_else(|| at("it has no architecture".to_owned()))?;
        let ms = layout.ms(record, Latency).map_err(at)?.ok_or_else(|| at("it has no latency".to_owned()))?;
        let interval = layout.ms(record, Low).map_err(at)?.zip(layout.ms(record, High).map_err(at)?);
        if let Some((low, high)) = interval.filter(|(low, high)| *low > ms || *high < ms) {
            return Err(at(format!("its interval, {low} to {high} ms, doesn't hold its latency, {ms} ms")));
        }
        let samples = layout.has(Samples).then(|| layout.samples(record).map_err(at)).transpose()?;
        networks.push(NetworkEntry { line: *line, architecture: architecture.to_owned(), ms, interval, samples });
    }
    Ok((networks, layout.notes()))
}
