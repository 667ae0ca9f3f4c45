//! What all readers of CSVs have in common: lines that begin with `#` are comments, blanks around a field don't count, and a line's number is
//! that of the text.

use fleetfoot_space::line_of_record;

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
