//! What all readers of CSVs have in common: lines that begin with `#` are comments, blanks around a field don't count, a header without a
//! comma tells another separator, and a line's number is that of the text.

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
    csv_format(text.as_bytes()).from_reader(text.as_bytes())
}

/// How a text is to be read that begins so: its first line that is no comment separates fields by commas, else by tabs or semicolons.
pub fn csv_format(beginning: &[u8]) -> csv::ReaderBuilder {
    let mut lines = beginning.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let header = lines.find(|line| !line.is_empty() && !line.starts_with(b"#")).unwrap_or_default();
    let delimiter = b",\t;".iter().find(|delimiter| header.contains(delimiter)).unwrap_or(&b',');
    let mut format = csv::ReaderBuilder::new();
    format.comment(Some(b'#')).trim(csv::Trim::All).delimiter(*delimiter);
    format
}

/// Of an interval's two ends, each with whether it stands there, the one that is missing beside the other.
pub fn missing_end(ends: [(&'static str, bool); 2]) -> Option<[&'static str; 2]> {
    match ends {
        [(other, true), (missing, false)] | [(missing, false), (other, true)] => Some([missing, other]),
        _ => None,
    }
}

/// What is wrong with a record that has one of an interval's ends.
pub fn half_an_interval(other: &str) -> String {
    format!("nothing stands there, but {other} has the interval's other end")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_are_told_by_the_header() {
        for separator in [",", "\t", ";", " ; "] {
            let text = format!("# a, b; c\n\n{}\n{}\n", ["a", "b"].join(separator), ["1", "x"].join(separator));
            let mut reader = csv_records(&text);
            assert_eq!(reader.headers().unwrap(), vec!["a", "b"]);
            assert_eq!(reader.records().next().unwrap().unwrap(), vec!["1", "x"]);
        }
        let mut reader = csv_records("a,b\n1;2,x\n");
        assert_eq!(reader.records().next().unwrap().unwrap(), vec!["1;2", "x"]);
    }
}
