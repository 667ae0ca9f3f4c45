//! Entries become a latency table.

use std::collections::{HashMap, HashSet};

use fleetfoot_profiler::{Doubts, Latency, LatencyTable, Provenance, Row};
use fleetfoot_space::{Operator, OperatorKey, Precision, SearchSpace, Shape};

use super::{
    Collected, Columns, Entry, Fault, Format, ImportError, LeaveOut, Piece, columns, cut, few, lookup, lookup_keys,
    network_of, onnxruntime, settle, traps,
};

/// A table that was imported.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The table.
    pub table: LatencyTable,
    /// What people should know, what was left out among it.
    pub notes: Vec<String>,
    /// What is to be warned of: what is doubtful.
    pub warnings: Vec<String>,
}

/// A head's height, width and hidden channels, by which its halves find each other.
type HeadShape = (usize, usize, usize);

/// Imports a text as a latency table. `columns` say which columns of a CSV mean what; `space`, where given, is what the table is for: it
/// must hold all units, and tells a profile's padded channels apart.
pub fn import_table(
    text: &str,
    origin: &str,
    format: Format,
    (columns, space): (&Columns, Option<&SearchSpace>),
    leave_out: &LeaveOut,
    mut provenance: Provenance,
) -> Result<Imported, ImportError> {
    let form = |what: String| ImportError::Form { origin: origin.to_owned(), what };
    let Collected { mut entries, mut faults, mut notes, provenance: own } = match format {
        Format::Lookup => lookup::read(text).map_err(form)?,
        Format::Csv => columns::read(text, columns).map_err(form)?,
        Format::OnnxRuntime => onnxruntime::read(text, space).map_err(form)?,
    };
    for entry in entries.extract_if(.., |entry| entry.ms < 0.0) {
        faults.push((Fault::Negative, format!("{}, {}: {} ms", entry.place, entry.name, entry.ms)));
    }
    for entry in entries.extract_if(.., |entry| network_of(&entry.piece).is_none()) {
        let what = format!("{}, {}: its extents don't fit together, or are too large", entry.place, entry.name);
        faults.push((Fault::Inexpressible, what));
    }
    let mut places: HashMap<Piece, &str> = HashMap::new();
    for entry in &entries {
        if let Some(before) = places.insert(entry.piece, &entry.place) {
            let what = format!("{} and {before} are both of {}: leave one out of the file", entry.place, entry.name);
            return Err(form(what));
        }
    }
    let mut found = traps::look(&mut entries);
    let out = without_doubtful(&mut entries, leave_out);
    if !out.is_empty() {
        notes.push(format!("{origin}: {} doubtful entries are left out: {}", out.len(), few(&out, "; ")));
        // What is left may look otherwise without them.
        entries.iter_mut().for_each(|entry| entry.doubts = Doubts::NONE);
        found = traps::look(&mut entries);
    }
    let mut warnings = cut(text, origin, format);
    warnings.extend(found.warnings.into_iter().map(|warning| format!("{origin}: {warning}")));
    let (rows, halves) = joined(&entries, found.step).map_err(form)?;
    faults.extend(halves.into_iter().map(|what| (Fault::Incomplete, what)));
    notes.extend(settle(faults, leave_out, origin)?);
    if rows.is_empty() {
        return Err(ImportError::Nothing(origin.to_owned()));
    }
    own.iter().for_each(|(name, value)| provenance.set(name, value));
    provenance.set("imported_form", format);
    let table = LatencyTable::new(provenance, Latency::ZERO, rows)
        .map_err(|source| ImportError::Table { origin: origin.to_owned(), source: Box::new(source) })?;
    notes.extend(table.unsure(true).map(|what| format!("{origin}: {what}")));
    if let Some(space) = space {
        notes.extend(missing(&table, space, origin, format)?);
    }
    Ok(Imported { table, notes, warnings })
}

/// Refuses a table that hasn't all units of a space; a profile is of one network: a note.
fn missing(
    table: &LatencyTable,
    space: &SearchSpace,
    origin: &str,
    format: Format,
) -> Result<Option<String>, ImportError> {
    let units = space.distinct_units(table.batch(), table.precision());
    let missing = units.iter().filter(|unit| unit.operator != Operator::Zero && table.get(unit).is_none());
    let missing: Vec<String> = missing.map(|unit| name_in(unit, format)).collect();
    match missing.len() {
        0 => Ok(None),
        count if format == Format::OnnxRuntime => {
            Ok(Some(format!("{count} units of {} are not in it: profile other networks, too", space.name())))
        }
        count => {
            let (space, list) = (space.name().to_owned(), few(&missing, ", "));
            Err(ImportError::Missing { origin: origin.to_owned(), count, space, list })
        }
    }
}

/// A unit, and what it is called in a file of this form.
fn name_in(unit: &OperatorKey, format: Format) -> String {
    let keys = if format == Format::Lookup { lookup_keys(unit) } else { Vec::new() };
    if keys.is_empty() { unit.to_string() } else { format!("{unit} ({})", keys.join(" and ")) }
}

fn head_of(piece: &Piece) -> Option<HeadShape> {
    match *piece {
        Piece::Features { height, width, c_hidden, .. } | Piece::Classifier { height, width, c_hidden, .. } => {
            Some((height, width, c_hidden))
        }
        Piece::Unit(_) => None,
    }
}

/// Leaves doubtful entries out, and with half of a head its other half: what they were, for people.
fn without_doubtful(entries: &mut Vec<Entry>, leave_out: &LeaveOut) -> Vec<String> {
    let is_out = |entry: &Entry| leave_out.has(entry.doubts);
    let kept = |is_half: fn(&Piece) -> bool| -> HashSet<HeadShape> {
        let halves = entries.iter().filter(|entry| is_half(&entry.piece) && !is_out(entry));
        halves.filter_map(|entry| head_of(&entry.piece)).collect()
    };
    let features = kept(|piece| matches!(piece, Piece::Features { .. }));
    let classifiers = kept(|piece| matches!(piece, Piece::Classifier { .. }));
    let halved = entries.iter().filter(|entry| is_out(entry)).filter_map(|entry| head_of(&entry.piece));
    let halved: HashSet<HeadShape> =
        halved.filter(|head| !(features.contains(head) && classifiers.contains(head))).collect();
    let goes = |entry: &mut Entry| is_out(entry) || head_of(&entry.piece).is_some_and(|head| halved.contains(&head));
    let out = entries.extract_if(.., goes);
    out.map(|entry| format!("{}, {}: {} ms", entry.place, entry.name, entry.ms)).collect()
}

/// The rows: units as they are, heads of their two halves; and the halves that have no other one.
fn joined(entries: &[Entry], step: f64) -> Result<(Vec<Row>, Vec<String>), String> {
    let mut classifiers: HashMap<HeadShape, Vec<&Entry>> = HashMap::new();
    let mut features: HashSet<HeadShape> = HashSet::new();
    for entry in entries {
        match (entry.piece, head_of(&entry.piece)) {
            (Piece::Classifier { .. }, Some(head)) => classifiers.entry(head).or_default().push(entry),
            (Piece::Features { .. }, Some(head)) => {
                features.insert(head);
            }
            _ => {}
        }
    }
    let (mut rows, mut halves) = (Vec::new(), Vec::new());
    let mut half = |entry: &Entry, wanted: String| {
        halves.push(format!("{}, {}: the head's other half, {wanted}, isn't there", entry.place, entry.name));
    };
    for entry in entries {
        match entry.piece {
            Piece::Unit(key) => rows.push(row(key, &[entry], step)?),
            Piece::Features { height, width, c_in, c_hidden } => {
                let behind = classifiers.get(&(height, width, c_hidden));
                for classifier in behind.into_iter().flatten() {
                    let Piece::Classifier { classes, .. } = classifier.piece else { continue };
                    let key = OperatorKey {
                        operator: Operator::Head { c_in, c_hidden, classes },
                        input: Shape::new(1, c_in, height, width),
                        precision: Precision::Fp32,
                    };
                    rows.push(row(key, &[entry, classifier], step)?);
                }
                if behind.is_none() {
                    half(entry, format!("Logits-input:{height}x{width}x{c_hidden}-output:CLASSES"));
                }
            }
            Piece::Classifier { height, width, c_hidden, .. } => {
                if !features.contains(&(height, width, c_hidden)) {
                    half(entry, format!("Conv_1-input:{height}x{width}xCHANNELS-output:{height}x{width}x{c_hidden}"));
                }
            }
        }
    }
    Ok((rows, halves))
}

fn row(key: OperatorKey, parts: &[&Entry], step: f64) -> Result<Row, String> {
    let ends: Vec<(f64, f64)> = parts.iter().map(|part| part.ends(step)).collect();
    let latency = |ms: f64| {
        let said =
            |error| format!("{}, {}: its latency or the ends of its interval: {error}", parts[0].place, parts[0].name);
        Latency::from_ms(ms).map_err(said)
    };
    Ok(Row {
        key,
        latency: latency(parts.iter().map(|part| part.ms).sum())?,
        low: latency(ends.iter().map(|(low, _)| low).sum())?,
        high: latency(ends.iter().map(|(_, high)| high).sum())?,
        samples: parts.iter().map(|part| part.samples).min().unwrap_or_default(),
        raw: None,
        boundary: None,
        measured: parts[0].measured,
        doubts: parts.iter().fold(Doubts::NONE, |all, part| all.union(part.doubts)),
    })
}
