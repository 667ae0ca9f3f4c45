//! What all readers of texts need.

/// A text without the byte-order mark that some editors put in front.
pub fn without_mark(text: &str) -> &str {
    text.trim_start_matches('\u{feff}')
}

/// The line, counted from 1, of the first record at or behind a byte of a CSV: readers of CSVs tell where the comments in front of a record begin.
pub fn line_of_record(text: &str, byte: u64) -> u64 {
    RecordLines::new(text).line(byte)
}

/// [`line_of_record`] of records one behind the other, each from where the last one was.
#[derive(Clone, Debug)]
pub struct RecordLines<'a> {
    text: &'a str,
    byte: usize,
    before: usize,
}

impl<'a> RecordLines<'a> {
    /// Of the records of a text.
    pub fn new(text: &'a str) -> Self {
        Self { text, byte: 0, before: 0 }
    }

    /// The line of the first record at or behind a byte, which lies behind those that were asked for before.
    pub fn line(&mut self, byte: u64) -> u64 {
        let to = usize::try_from(byte).unwrap_or(self.text.len()).clamp(self.byte, self.text.len());
        self.before += self.text.as_bytes()[self.byte..to].iter().filter(|&&byte| byte == b'\n').count();
        self.byte = to;
        let behind = self.text.as_bytes()[to..].split(|&byte| byte == b'\n');
        let skipped = behind.take_while(|line| line.starts_with(b"#") || line.trim_ascii().is_empty()).count();
        1 + (self.before + skipped) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::{RecordLines, line_of_record};

    #[test]
    fn comments_and_empty_lines_in_front_of_a_record_are_not_its_line() {
        let text = "# a\r\n# b\r\nx,y\n\n# c\n1,2\n3,4";
        let lines = [0, 5, 10, 14, 15, 19, 23].map(|byte| line_of_record(text, byte));
        assert_eq!(lines, [3, 3, 3, 6, 6, 6, 7]);
        let mut counted = RecordLines::new(text);
        assert_eq!([0, 5, 10, 14, 15, 19, 23].map(|byte| counted.line(byte)), lines);
    }
}
