//! What all readers of texts need.

/// A text without the byte-order mark that some editors put in front.
pub fn without_mark(text: &str) -> &str {
    text.trim_start_matches('\u{feff}')
}

/// The line, counted from 1, of the first record at or behind a byte of a CSV: readers of CSVs tell where the comments in front of a record begin.
pub fn line_of_record(text: &str, byte: u64) -> u64 {
    let byte = usize::try_from(byte).unwrap_or(text.len()).min(text.len());
    let before = text.as_bytes()[..byte].iter().filter(|&&byte| byte == b'\n').count();
    let behind = text.as_bytes()[byte..].split(|&byte| byte == b'\n');
    let skipped = behind.take_while(|line| line.starts_with(b"#") || line.trim_ascii().is_empty()).count();
    1 + (before + skipped) as u64
}

#[cfg(test)]
mod tests {
    use super::line_of_record;

    #[test]
    fn comments_and_empty_lines_in_front_of_a_record_are_not_its_line() {
        let text = "# a\r\n# b\r\nx,y\n\n# c\n1,2\n3,4";
        let lines = [0, 5, 10, 14, 15, 19, 23].map(|byte| line_of_record(text, byte));
        assert_eq!(lines, [3, 3, 3, 6, 6, 6, 7]);
    }
}
