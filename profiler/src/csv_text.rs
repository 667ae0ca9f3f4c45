//! What all readers of CSVs have in common: lines that begin with `#` are comments, blanks around a field don't count, and a line's number is
//! that of the text.

use std::path::Path;

use fleetfoot_space::line_of_record;

use crate::conditions::Provenance;

/// What a text says of where it comes from, and what is to be warned of; `None` where it says something, but its last line doesn't end: it
/// was cut.
pub fn csv_head(text: &str, path: &Path) -> Option<(Provenance, Vec<String>)> {
    let (provenance, path, ends) = (Provenance::from_head(text), path.display(), text.ends_with('\n'));
    let mut warnings = Vec::new();
    if provenance.is_empty() {
        warnings.push(format!("{path} says nothing of where its numbers come from: provenance unknown"));
        if !ends {
            warnings.push(format!("{path}: its last line doesn't end: it may be cut"));
        }
    } else if !ends {
        return None;
    }
    Some((provenance, warnings))
}

/// Reads the records of a text.
pub fn csv_records(text: &str) -> csv::Reader<&[u8]> {
    csv::ReaderBuilder::new().comment(Some(b'#')).trim(csv::Trim::All).from_reader(text.as_bytes())
}

/// What is wrong with a text that its reader stumbled over.
pub fn csv_fault(text: &str, error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { pos: Some(position), expected_len, len } => {
            let line = line_of_record(text, position.byte());
            format!("line {line} has {len} fields, the header {expected_len}: the file may be cut")
        }
        _ => error.to_string(),
    }
}
