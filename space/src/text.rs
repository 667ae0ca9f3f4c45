//! What all readers of texts need.

/// A text without the byte-order mark that some editors put in front.
pub fn without_mark(text: &str) -> &str {
    text.trim_start_matches('\u{feff}')
}
