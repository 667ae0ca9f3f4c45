//! A matrix for the terminal: a row a network, a column a device, and a line on each device's own network.

use super::outcome::{Device, Matrix, Standing};
use crate::report::facts::signed;

/// The table and the verdicts.
pub fn table(matrix: &Matrix) -> String {
    let mut rows: Vec<Vec<String>> = vec![vec![format!("ms, space {}", matrix.space)]];
    rows[0].extend(matrix.devices.iter().map(|device| device.name.clone()));
    for network in &matrix.networks {
        let cells = network.cells.iter().map(|cell| {
            let interval = format!("{:.4} ({:.4} to {:.4})", cell.latency_ms, cell.low_ms, cell.high_ms);
            match cell.standing {
                Standing::Fastest => format!("{interval} fastest"),
                Standing::Tie => format!("{interval} tie"),
                Standing::Slower => format!("{interval} {} %", signed(cell.slower_percent, 1)),
            }
        });
        let name = if network.name == network.architecture {
            network.name.clone()
        } else {
            format!("{} {}", network.name, network.architecture)
        };
        rows.push(std::iter::once(name).chain(cells).collect());
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..=matrix.devices.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    let mut text: String = rows.iter().map(line).collect();
    text.push('\n');
    text.extend(matrix.devices.iter().map(|device| verdict(device) + "\n"));
    text
}

/// Whether the device's own network is the fastest on it, in words.
pub fn verdict(device: &Device) -> String {
    let name = &device.name;
    let Some(own) = &device.own else { return format!("{name}: none of the networks was searched for it") };
    let (Some(other), Some([middle, low, high])) = (&own.other, own.slower_percent) else {
        return format!("{name}: there is no other network than its own");
    };
    let takes = format!("{} % ({} to {})", signed(middle, 1), signed(low, 1), signed(high, 1));
    let words = match own.standing {
        Standing::Fastest => format!("is the fastest; against that of {other}, the next,"),
        Standing::Tie => format!("ties with that of {other}:"),
        Standing::Slower => format!("is slower than that of {other}:"),
    };
    format!("{name}: its own network {words} it takes {takes}")
}
