//! The final table for the terminal.

use super::amounts::Quantity;
use super::facts::{NOTHING, fixed, signed};
use super::summary::{Network, Summary};

/// A column: its head, whether it is text, and its cell of a network.
type Column = (String, bool, fn(&Network, &Quantity) -> String);

/// What the run tells of its networks: what was neither predicted nor measured nor limited has no column.
fn columns(summary: &Summary) -> Vec<Column> {
    let (predicted, measured) = (summary.is_predicted(), summary.is_measured());
    let limited = &summary.search.limited_first;
    let by_need = !summary.is_by_latency() && summary.need_ratio.is_some();
    let further = by_need && !matches!(limited.unit.as_str(), "MACs" | "params");
    let name = |network: &Network, _: &Quantity| printable(&network.name);
    let columns: [(bool, Column); 10] = [
        (true, ("network".to_owned(), true, name)),
        (true, ("architecture".to_owned(), true, |network, _| architecture(network))),
        (true, ("accuracy (%)".to_owned(), false, |network, _| accuracy(network))),
        (further, (printable(&limited.label()), false, need)),
        (predicted, ("predicted (ms)".to_owned(), false, |network, _| optional(network.predicted_ms, 3))),
        (measured, ("measured (ms)".to_owned(), false, |network, _| optional(network.measured_ms, 3))),
        (true, ("MACs (M)".to_owned(), false, |network, _| fixed(network.macs_millions, 2))),
        (true, ("params (k)".to_owned(), false, |network, _| fixed(network.params_thousands, 1))),
        (measured, ("speed-up".to_owned(), false, |network, _| times(network.speedup))),
        (by_need, ("of baseline's need".to_owned(), false, |network, _| times(network.need_ratio))),
    ];
    let lead = ("found leads by".to_owned(), false, lead as fn(&Network, &Quantity) -> String);
    columns.into_iter().filter(|(told, _)| *told).map(|(_, column)| column).chain([lead]).collect()
}

/// One line a network, in aligned columns; names on the left, numbers on the right.
pub fn table(summary: &Summary) -> String {
    let columns = columns(summary);
    let head: Vec<String> = columns.iter().map(|(name, ..)| name.clone()).collect();
    let row = |network: &Network| -> Vec<String> {
        columns.iter().map(|(_, _, cell)| cell(network, &summary.search.limited_first)).collect()
    };
    let rows: Vec<Vec<String>> =
        std::iter::once(head).chain(summary.networks().map(|(_, network)| row(network))).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).zip(&columns).map(|((cell, &width), (_, text, _))| match text {
            true => format!("{cell:<width$}"),
            false => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

fn architecture(network: &Network) -> String {
    if network.architecture.is_empty() { NOTHING.to_owned() } else { printable(&network.architecture) }
}

fn accuracy(network: &Network) -> String {
    match network.accuracy_sd {
        Some(sd) => format!("{} ± {}", fixed(network.accuracy, 2), fixed(sd, 2)),
        None => fixed(network.accuracy, 2),
    }
}

fn need(network: &Network, limited: &Quantity) -> String {
    optional(network.needs.first().map(|&need| limited.drawn(need)), 3)
}

fn optional(number: Option<f64>, decimals: usize) -> String {
    number.map_or_else(|| NOTHING.to_owned(), |number| fixed(number, decimals))
}

fn times(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| NOTHING.to_owned(), |ratio| format!("{}×", fixed(ratio, 2)))
}

fn lead(network: &Network, _: &Quantity) -> String {
    match (network.found_lead, network.found_lead_standard_error) {
        (None, _) => NOTHING.to_owned(),
        (Some(lead), None) => signed(lead, 2),
        (Some(lead), Some(error)) => format!("{} ± {}", signed(lead, 2), fixed(error, 2)),
    }
}

/// A name from a file without the characters that command a terminal.
pub fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escaped = c.is_control().then(|| c.escape_default());
            let plain = (!c.is_control()).then_some(c);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}
