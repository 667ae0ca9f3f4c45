//! The final table for the terminal.

use super::facts::{NOTHING, fixed, signed};
use super::summary::{Network, Summary};

const HEAD: [&str; 9] = [
    "network",
    "architecture",
    "accuracy (%)",
    "predicted (ms)",
    "measured (ms)",
    "MACs (M)",
    "params (k)",
    "speed-up",
    "found leads by",
];

/// One line a network, in aligned columns; names on the left, numbers on the right.
pub fn table(summary: &Summary) -> String {
    let rows: Vec<[String; 9]> =
        std::iter::once(HEAD.map(str::to_owned)).chain(summary.networks().map(|(_, network)| row(network))).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let line = |row: &[String; 9]| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
            0 | 1 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

fn row(network: &Network) -> [String; 9] {
    let accuracy = match network.accuracy_sd {
        Some(sd) => format!("{} ± {}", fixed(network.accuracy, 2), fixed(sd, 2)),
        None => fixed(network.accuracy, 2),
    };
    let architecture = if network.architecture.is_empty() { NOTHING } else { &network.architecture };
    [
        printable(&network.name),
        printable(architecture),
        accuracy,
        fixed(network.predicted_ms, 3),
        fixed(network.measured_ms, 3),
        fixed(network.macs_millions, 2),
        fixed(network.params_thousands, 1),
        format!("{}×", fixed(network.speedup, 2)),
        match (network.found_lead, network.found_lead_standard_error) {
            (None, _) => NOTHING.to_owned(),
            (Some(lead), None) => signed(lead, 2),
            (Some(lead), Some(error)) => format!("{} ± {}", signed(lead, 2), fixed(error, 2)),
        },
    ]
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
