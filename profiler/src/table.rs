//! Latency tables: what every unit of a space costs on a device.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use fleetfoot_space::{Operator, OperatorKey, Precision, Shape, line_of_record, without_mark};

use crate::atomic_file::write_atomically;
use crate::conditions::{Conditions, Context, Differences, Provenance};
use crate::cost::Cost;
use crate::csv_text::{csv_fault, csv_head, csv_records, half_an_interval, missing_end};
use crate::doubts::Doubts;
use crate::latency::Latency;

/// One unit's cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The unit.
    pub key: OperatorKey,
    /// Its cost within a network: the raw time less the empty graph's and the boundaries'.
    pub latency: Latency,
    /// Lower end of its 99 % interval.
    pub low: Latency,
    /// Upper end of its 99 % interval.
    pub high: Latency,
    /// Samples behind it; 0 where unknown.
    pub samples: u64,
    /// What the unit took on its own, the call of the runtime included, where known.
    pub raw: Option<Latency>,
    /// What of that was paid at ends that lie within the network, where known.
    pub boundary: Option<Latency>,
    /// In which context it was measured, where known.
    pub measured: Option<Context>,
    /// What speaks against it, where it is somebody else's.
    pub doubts: Doubts,
}

impl Row {
    /// Half the interval's width as a share of the latency; `None` where that is nothing.
    pub fn half_width(&self) -> Option<f64> {
        (self.latency > Latency::ZERO).then(|| (self.high.ms() - self.low.ms()) / 2.0 / self.latency.ms())
    }
}

/// A latency table. Its form is CSV: one row a unit, a column for every field of the operator (empty where it has
/// none), times in milliseconds, and `# name: value` lines of provenance in front.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LatencyTable {
    /// Where the numbers come from.
    pub provenance: Provenance,
    cost: Cost,
    overhead: Latency,
    rows: Vec<Row>,
    index: HashMap<OperatorKey, usize>,
}

/// A table that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The file can't be read or written.
    #[error("latency table {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no CSV.
    #[error("latency table {path}: {what}")]
    Csv {
        /// The file.
        path: PathBuf,
        /// Where and why.
        what: String,
    },
    /// A column is missing.
    #[error("latency table {path} has no column '{column}'{hint}")]
    Column {
        /// The file.
        path: PathBuf,
        /// The column.
        column: &'static str,
        /// What may be meant.
        hint: String,
    },
    /// A value is wrong.
    #[error("latency table {path}, line {line}, column {column}: {what}")]
    Value {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// The column.
        column: &'static str,
        /// What is wrong.
        what: String,
    },
    /// The end is missing.
    #[error("latency table {path} is cut short: {what}; restore it, or measure again with `fleetfoot profile`")]
    Truncated {
        /// The file.
        path: PathBuf,
        /// What shows it.
        what: String,
    },
    /// A unit stands there twice.
    #[error("two rows for {0}: one latency table holds one row a unit")]
    Twice(OperatorKey),
    /// A unit of another precision or batch size than the rows before it: what a call and its boundaries cost depends on
    /// both.
    #[error(
        "{key} among rows of {precision} at batch {batch}: one latency table is of one precision and one batch size"
    )]
    Mixed {
        /// The unit.
        key: OperatorKey,
        /// Precision of the others.
        precision: Precision,
        /// Batch size of the others.
        batch: usize,
    },
    /// Tables of different conditions.
    #[error("the tables can't be joined, their conditions differ: {0}")]
    Conditions(Differences),
}

/// Columns in front of the cost's own.
const OPERATOR_COLUMNS: [&str; 14] = [
    "operator",
    "kernel",
    "expansion",
    "stride",
    "c_in",
    "c_out",
    "groups",
    "shortcut",
    "c_hidden",
    "classes",
    "batch",
    "height",
    "width",
    "precision",
];

/// The last columns, which only tables have that need them.
const RARE_COLUMNS: usize = 2;
/// Columns of a table that needs all of them.
const COLUMNS: usize = OPERATOR_COLUMNS.len() + 7 + RARE_COLUMNS;

/// All columns of a table of this cost, in order.
fn columns(cost: Cost) -> [&'static str; COLUMNS] {
    let [own, low, high, raw, boundary] = cost.columns();
    let behind = [own, low, high, "samples", raw, boundary, "measured", "expansion_conv", "doubts"];
    std::array::from_fn(|index| {
        OPERATOR_COLUMNS.get(index).copied().unwrap_or_else(|| behind[index - OPERATOR_COLUMNS.len()])
    })
}

impl LatencyTable {
    /// A table of rows; `overhead` is the empty graph's time, or what else the provenance says the rows' cost to be.
    pub fn new(provenance: Provenance, overhead: Latency, rows: Vec<Row>) -> Result<Self, TableError> {
        let cost = provenance.get("cost").and_then(|cost| cost.parse().ok()).unwrap_or_default();
        let mut table = Self { provenance, cost, overhead, ..Self::default() };
        rows.into_iter().try_for_each(|row| table.push(row))?;
        Ok(table)
    }

    fn push(&mut self, row: Row) -> Result<(), TableError> {
        let (precision, batch) = (self.precision(), self.batch());
        if !self.rows.is_empty() && row.key != row.key.at(batch, precision) {
            return Err(TableError::Mixed { key: row.key, precision, batch });
        }
        if self.index.insert(row.key, self.rows.len()).is_some() {
            return Err(TableError::Twice(row.key));
        }
        self.rows.push(row);
        Ok(())
    }

    /// A unit's row.
    pub fn get(&self, key: &OperatorKey) -> Option<&Row> {
        self.index.get(key).map(|&index| &self.rows[index])
    }

    /// The precision of all rows; fp32 where there are none.
    pub fn precision(&self) -> Precision {
        self.rows.first().map_or(Precision::Fp32, |row| row.key.precision)
    }

    /// The batch size of all rows; 1 where there are none.
    pub fn batch(&self) -> usize {
        self.rows.first().map_or(1, |row| row.key.input.n)
    }

    /// What its numbers are: they are in the unit of this cost, whatever their type is called.
    pub fn cost(&self) -> Cost {
        self.cost
    }

    /// All rows in order.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// So many rows from the cheapest to the dearest at even steps of rank: a change of clocks shows in all of them, one
    /// of caches or kernels in some.
    pub fn informative(&self, count: usize) -> Vec<&Row> {
        let mut rows: Vec<&Row> = self.rows.iter().collect();
        rows.sort_by(|a, b| a.latency.ms().total_cmp(&b.latency.ms()));
        let count = count.min(rows.len());
        (0..count).map(|index| rows[(2 * index + 1) * rows.len() / (2 * count)]).collect()
    }

    /// The empty graph's time: what every call costs once, whatever it computes.
    pub fn overhead(&self) -> Latency {
        self.overhead
    }

    /// The conditions of its measurements; `None` where unknown.
    pub fn conditions(&self) -> Option<Conditions> {
        let (precision, batch, cost) = (Some(self.precision()), Some(self.batch()), self.cost);
        Conditions::from_provenance(&self.provenance).map(|stated| Conditions { precision, batch, cost, ..stated })
    }

    /// Adds another table's rows. Both must have been measured under equal, known conditions.
    pub fn merge(&mut self, other: Self) -> Result<(), TableError> {
        match (self.conditions(), other.conditions()) {
            (Some(ours), Some(theirs)) => ours.compatible(&theirs).map_err(TableError::Conditions)?,
            (ours, theirs) => {
                let say = |known: bool| if known { "known" } else { "unknown" }.to_owned();
                let differences = vec![("conditions", say(ours.is_some()), say(theirs.is_some()))];
                return Err(TableError::Conditions(Differences(differences)));
            }
        }
        other.rows.into_iter().try_for_each(|row| self.push(row))
    }

    /// Writes the table, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<(), TableError> {
        let written = self.to_csv().and_then(|bytes| write_atomically(path, &bytes));
        written.map_err(|source| TableError::Io { path: path.to_path_buf(), source })
    }

    /// The table's text.
    pub fn to_csv(&self) -> std::io::Result<Vec<u8>> {
        let mut provenance = self.provenance.clone();
        provenance.set(&self.cost.column("empty_graph"), self.overhead.ms());
        provenance.set("rows", self.rows.len());
        let mut writer = csv::Writer::from_writer(provenance.to_head().into_bytes());
        let needed = [
            self.rows.iter().any(|row| has_unusual_expansion(row.key.operator)),
            self.rows.iter().any(|row| !row.doubts.is_empty()),
        ];
        let usual = COLUMNS - RARE_COLUMNS;
        let is_written = |index: usize| index < usual || needed[index - usual];
        let written = (0..COLUMNS).filter(|&index| is_written(index));
        writer.write_record(written.clone().map(|index| columns(self.cost)[index]))?;
        for row in &self.rows {
            let record = record(row);
            writer.write_record(written.clone().map(|index| &record[index]))?;
        }
        writer.into_inner().map_err(csv::IntoInnerError::into_error)
    }

    /// Reads a table; warnings are for people.
    pub fn read(path: &Path) -> Result<(Self, Vec<String>), TableError> {
        let bytes = std::fs::read(path).map_err(|source| TableError::Io { path: path.to_path_buf(), source })?;
        let text = String::from_utf8(bytes).map_err(|error| TableError::Csv {
            path: path.to_path_buf(),
            what: format!("byte {} is not text (UTF-8)", error.utf8_error().valid_up_to()),
        })?;
        Self::parse(&text, path)
    }

    /// Reads a table's text; `path` is named in errors.
    pub fn parse(text: &str, path: &Path) -> Result<(Self, Vec<String>), TableError> {
        let text = without_mark(text);
        let Some((provenance, mut warnings)) = csv_head(text, path) else {
            let what = "its last line doesn't end".to_owned();
            return Err(TableError::Truncated { path: path.to_path_buf(), what });
        };
        let mut reader = csv_records(text);
        let columns = Columns::find(reader.headers().map_err(|error| malformed(path, text, &error))?, path)?;
        let cost = columns.cost;
        let mut table = Self { provenance, cost, ..Self::default() };
        let empty_graph = cost.column("empty_graph");
        if let Some(overhead) = table.provenance.get(&empty_graph) {
            let amount = overhead.parse().ok().and_then(|amount| Latency::from_ms(amount).ok());
            table.overhead = amount.ok_or_else(|| TableError::Csv {
                path: path.to_path_buf(),
                what: format!("provenance {empty_graph} = '{overhead}': wanted a number of {}", cost.unit()),
            })?;
        }
        for record in reader.records() {
            let record = record.map_err(|error| malformed(path, text, &error))?;
            let row = columns.row(&record, path, text)?;
            table.push(row).map_err(|misfit| TableError::Value {
                path: path.to_path_buf(),
                line: line_of(&record, text),
                column: match misfit {
                    TableError::Mixed { key, precision, .. } if key.precision != precision => "precision",
                    TableError::Mixed { .. } => "batch",
                    _ => "operator",
                },
                what: misfit.to_string(),
            })?;
        }
        let own = [
            ("precision", table.precision().to_string()),
            ("batch", table.batch().to_string()),
            ("cost", table.cost.to_string()),
        ];
        for (name, rows) in own {
            if let Some(stated) = table.provenance.get(name).filter(|stated| *stated != rows) {
                let what = format!("provenance {name} = '{stated}', but its rows are of {name} {rows}");
                return Err(TableError::Csv { path: path.to_path_buf(), what });
            }
        }
        let stated = table.provenance.get("rows").and_then(|rows| rows.parse::<usize>().ok());
        match stated {
            Some(stated) if stated != table.rows.len() => {
                let what = format!("it holds {} of {stated} rows", table.rows.len());
                Err(TableError::Truncated { path: path.to_path_buf(), what })
            }
            _ if table.rows.is_empty() => {
                Err(TableError::Truncated { path: path.to_path_buf(), what: "it holds no rows".to_owned() })
            }
            _ => {
                if let Some(summary) = Doubts::summary(table.rows.iter().map(|row| row.doubts)) {
                    let path = path.display();
                    warnings.push(format!("{path} holds numbers in doubt: {summary}, see its column 'doubts'"));
                }
                let stand = columns.position(cost.columns()[1]).is_some();
                warnings.extend(table.unsure(stand).map(|what| format!("{}: {what}", path.display())));
                Ok((table, warnings))
            }
        }
    }

    /// What is to be said of latencies without an interval, if there are any: sums of them tell nothing of how sure they are. `stand` says whether
    /// the ends stand in the file at all. Where fleetfoot measured, samples that are all the same make an interval of nothing.
    pub fn unsure(&self, stand: bool) -> Option<String> {
        let is_own = self.provenance.get("tool").is_some() && self.provenance.get("imported_form").is_none();
        let is_unsure = |row: &&Row| row.low == row.high && !(stand && is_own && row.samples > 0);
        let own = self.rows.iter().filter(|row| self.cost == Cost::Latency && row.latency > Latency::ZERO);
        let count = own.filter(is_unsure).count();
        let all = self.rows.len();
        (count > 0).then(|| {
            format!(
                "{count} of its {all} rows have no interval (low_ms, high_ms): those of predictions are too narrow by what isn't known of them"
            )
        })
    }
}

/// A record's line in the text that it is of.
fn line_of(record: &csv::StringRecord, text: &str) -> u64 {
    record.position().map_or(0, |position| line_of_record(text, position.byte()))
}

fn malformed(path: &Path, text: &str, error: &csv::Error) -> TableError {
    TableError::Csv { path: path.to_path_buf(), what: csv_fault(text, error) }
}

/// The fields of an operator that have a column: kernel, expansion, stride, c_in, c_out, groups, shortcut, c_hidden,
/// classes.
fn operator_fields(operator: Operator) -> [Option<usize>; 9] {
    match operator {
        Operator::Conv { kernel, stride, c_in, c_out, groups } => {
            [Some(kernel), None, Some(stride), Some(c_in), Some(c_out), Some(groups), None, None, None]
        }
        Operator::MbConv { kernel, expansion, stride, c_in, c_out, groups, shortcut } => [
            Some(kernel),
            Some(expansion.unwrap_or(1)),
            Some(stride),
            Some(c_in),
            Some(c_out),
            Some(groups),
            Some(usize::from(shortcut)),
            None,
            None,
        ],
        Operator::Head { c_in, c_hidden, classes } => {
            [None, None, None, Some(c_in), None, None, None, Some(c_hidden), Some(classes)]
        }
        Operator::Zero => [None; 9],
    }
}

/// Whether an operator has an expansion convolution where most have none: at ratio 1.
fn has_unusual_expansion(operator: Operator) -> bool {
    matches!(operator, Operator::MbConv { expansion: Some(1), .. })
}

fn record(row: &Row) -> Vec<String> {
    let key = row.key;
    let field = |value: Option<usize>| value.map(|value| value.to_string()).unwrap_or_default();
    let mut record = vec![key.operator.kind().to_owned()];
    record.extend(operator_fields(key.operator).map(field));
    record.extend([key.input.n, key.input.h, key.input.w].map(|extent| extent.to_string()));
    record.push(key.precision.to_string());
    record.extend([row.latency, row.low, row.high].map(|latency| latency.ms().to_string()));
    record.push(row.samples.to_string());
    record.extend([row.raw, row.boundary].map(|known| known.map(|time| time.ms().to_string()).unwrap_or_default()));
    record.push(row.measured.map(Context::measured).unwrap_or_default().to_owned());
    record.push(match key.operator {
        Operator::MbConv { expansion, .. } => u8::from(expansion.is_some()).to_string(),
        _ => String::new(),
    });
    record.push(row.doubts.to_string());
    record
}

/// Where each known column stands.
struct Columns {
    cost: Cost,
    names: [&'static str; COLUMNS],
    positions: [Option<usize>; COLUMNS],
}

impl Columns {
    fn find(header: &csv::StringRecord, path: &Path) -> Result<Self, TableError> {
        let position = |name: &str| header.iter().position(|column| column == name);
        let cost = Cost::of_header(header).unwrap_or_default();
        let (names, own) = (columns(cost), cost.columns()[0]);
        let columns = Self { cost, names, positions: names.map(position) };
        for required in ["operator", "c_in", "height", "width", own] {
            if position(required).is_none() {
                let similar = header.iter().find_map(|column| {
                    let cost = Cost::ALL.into_iter().find(|cost| column.starts_with(cost.name()))?;
                    (required == own).then_some((column, cost))
                });
                let hint = match similar {
                    Some((other, Cost::Latency)) => {
                        format!(", but '{other}': latencies are in milliseconds, rename or convert it")
                    }
                    Some((other, cost)) => format!(
                        " or {}, but '{other}': {cost} is in {}, rename or convert it",
                        cost.columns()[0],
                        cost.unit()
                    ),
                    None => format!(": wanted the columns {}", names.join(",")),
                };
                return Err(TableError::Column { path: path.to_path_buf(), column: required, hint });
            }
        }
        let foreign = Cost::ALL.into_iter().filter(|other| *other != cost).flat_map(Cost::columns);
        if let Some(foreign) = foreign.into_iter().find(|name| position(name).is_some()) {
            let what = format!("column '{foreign}' beside '{own}': a table is of one cost, in one unit");
            return Err(TableError::Csv { path: path.to_path_buf(), what });
        }
        let [_, low, high, ..] = cost.columns();
        if let Some([column, other]) = missing_end([low, high].map(|end| (end, position(end).is_some()))) {
            let hint = format!(": its column {other} is one end of an interval, and the other one is missing");
            return Err(TableError::Column { path: path.to_path_buf(), column, hint });
        }
        Ok(columns)
    }

    /// Where a column stands, if it does.
    fn position(&self, column: &str) -> Option<usize> {
        self.names.iter().zip(self.positions).find(|(name, _)| **name == column).and_then(|(_, position)| position)
    }

    fn row(&self, record: &csv::StringRecord, path: &Path, file: &str) -> Result<Row, TableError> {
        let value = |column: &'static str, what: String| {
            let line = line_of(record, file);
            TableError::Value { path: path.to_path_buf(), line, column, what }
        };
        let text = |column: &'static str| self.position(column).and_then(|index| record.get(index)).unwrap_or_default();
        let number = |column: &'static str, absent: Option<usize>| match (text(column), absent) {
            ("", Some(absent)) => Ok(absent),
            (text, _) => {
                let number = text.parse::<f64>().ok().filter(|n| (0.0..65_536.0).contains(n) && n.fract() == 0.0);
                number.map(|number| number as usize).ok_or_else(|| {
                    let got = if text.is_empty() { "nothing stands there" } else { text };
                    value(column, format!("wanted a whole number below 65536, got '{got}'"))
                })
            }
        };
        let latency = |column: &'static str, absent: Option<Latency>| match (text(column), absent) {
            ("", Some(absent)) => Ok(absent),
            (text, _) => {
                let ms = text.parse::<f64>().map_err(|_| value(column, format!("'{text}' is no number")))?;
                Latency::from_ms(ms).map_err(|error| value(column, self.cost.complaint(&error)))
            }
        };
        let operator = self.operator(text("operator"), &number, &value)?;
        let input = Shape::new(
            number("batch", Some(1))?,
            number("c_in", None)?,
            number("height", None)?,
            number("width", None)?,
        );
        let precision = match text("precision") {
            "" => Precision::Fp32,
            text => text
                .parse()
                .map_err(|error: fleetfoot_space::PrecisionParseError| value("precision", error.to_string()))?,
        };
        let [own, low_end, high_end, raw, boundary] = self.cost.columns();
        let middle = latency(own, None)?;
        if let Some([missing, other]) = missing_end([low_end, high_end].map(|end| (end, !text(end).is_empty()))) {
            return Err(value(missing, half_an_interval(other)));
        }
        let (low, high) = (latency(low_end, Some(middle))?, latency(high_end, Some(middle))?);
        if low > middle || high < middle {
            let [middle, low, high] = [middle, low, high].map(|amount| self.cost.show(amount));
            let what = format!("the {} {middle} lies outside of its interval {low} to {high}", self.cost);
            return Err(value(low_end, what));
        }
        let known = |column| if text(column).is_empty() { Ok(None) } else { latency(column, None).map(Some) };
        let (raw, boundary) = (known(raw)?, known(boundary)?);
        let samples = match text("samples") {
            "" => 0,
            text => text.parse().map_err(|_| value("samples", format!("wanted a whole number, got '{text}'")))?,
        };
        let measured =
            match text("measured") {
                "" => None,
                text => Some(Context::from_measured(text).ok_or_else(|| {
                    value("measured", format!("wanted alone-cold, alone-warm or network, got '{text}'"))
                })?),
            };
        let doubts = text("doubts")
            .parse()
            .map_err(|error: crate::doubts::DoubtParseError| value("doubts", error.to_string()))?;
        let key = OperatorKey { operator, input, precision };
        // A key that doesn't read back (an even kernel, 0 channels) is no unit of any space.
        key.to_string().parse::<OperatorKey>().map_err(|error| value("operator", error.to_string()))?;
        Ok(Row { key, latency: middle, low, high, samples, raw, boundary, measured, doubts })
    }

    fn operator(
        &self,
        kind: &str,
        number: &impl Fn(&'static str, Option<usize>) -> Result<usize, TableError>,
        value: &impl Fn(&'static str, String) -> TableError,
    ) -> Result<Operator, TableError> {
        let flag = |column: &'static str, absent: Option<usize>| match number(column, absent)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(value(column, format!("wanted 0 or 1, got {other}"))),
        };
        let expansion = || match number("expansion", None)? {
            // MobileNetV2's blocks have no expansion convolution at ratio 1, as tables without the column mean.
            1 => Ok(flag("expansion_conv", Some(0))?.then_some(1)),
            ratio if flag("expansion_conv", Some(1))? => Ok(Some(ratio)),
            ratio => Err(value("expansion_conv", format!("there is no expansion by {ratio} without its convolution"))),
        };
        Ok(match kind {
            "conv" => Operator::Conv {
                kernel: number("kernel", None)?,
                stride: number("stride", None)?,
                c_in: number("c_in", None)?,
                c_out: number("c_out", None)?,
                groups: number("groups", Some(1))?,
            },
            "mbconv" => Operator::MbConv {
                kernel: number("kernel", None)?,
                expansion: expansion()?,
                stride: number("stride", None)?,
                c_in: number("c_in", None)?,
                c_out: number("c_out", None)?,
                groups: number("groups", Some(1))?,
                shortcut: flag("shortcut", None)?,
            },
            "head" => Operator::Head {
                c_in: number("c_in", None)?,
                c_hidden: number("c_hidden", None)?,
                classes: number("classes", None)?,
            },
            other => {
                let what = format!("unknown operator '{other}': wanted conv, mbconv or head");
                return Err(value("operator", what));
            }
        })
    }
}
