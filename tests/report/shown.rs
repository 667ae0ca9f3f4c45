//! The numbers of a report's page, held against its summary.

use serde_json::Value;

use super::chromium::{TextNode, texts};

/// Words of the page that hold digits and stand in no file.
const FIXED: [&str; 10] = [
    "MB6 5×5",
    "expansion ratio 6",
    "kernel",
    "↓",
    "stride 2",
    "±10 %",
    "within 5 %",
    "within 10 %",
    "(90 %: ",
    "The interval ",
];

/// Every number of the page carries the place in the summary at which it stands, rounded as it says; how many there are.
#[track_caller]
pub fn assert_numbers_stand_in(summary: &Value, dom: &str) -> usize {
    let mut shown = 0;
    for node in texts(dom) {
        let Some(key) = node.attribute("data-key") else {
            let tick = node.attribute("class").is_some_and(|class| class == "tick");
            let digits = node.text.contains(|c: char| c.is_ascii_digit());
            assert!(tick || !digits || FIXED.iter().any(|words| node.text.contains(words)), "{node:?}");
            continue;
        };
        let value = summary.pointer(&key).unwrap_or_else(|| panic!("{key} isn't in summary.json"));
        assert_eq!(node.text, as_shown(value, &node), "{key}");
        shown += 1;
    }
    shown
}

/// A value with the rounding that its element states.
fn as_shown(value: &Value, node: &TextNode) -> String {
    match (value, node.attribute("data-decimals")) {
        (Value::String(text), _) => text.clone(),
        (value, None) => value.to_string(),
        (value, Some(decimals)) => {
            let divisor = node.attribute("data-divisor").map_or(1.0, |divisor| divisor.parse::<f64>().unwrap());
            let (number, decimals) = (value.as_f64().unwrap() / divisor, decimals.parse().unwrap());
            let text = format!("{number:.decimals$}");
            if node.attribute("data-scientific").is_some() {
                return format!("{number:.decimals$e}");
            }
            let plus = if node.attribute("data-signed").is_some() && !text.starts_with('-') { "+" } else { "" };
            format!("{plus}{}", text.replace('-', "−"))
        }
    }
}
