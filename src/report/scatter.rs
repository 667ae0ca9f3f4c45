//! Networks as points: accuracy against latency, and prediction against measurement.

use super::facts::{Facts, Format, fixed};
use super::markup::{Markup, element, text};
use super::plot::{Axis, Plot, series_class, symbol};
use super::summary::{Network, Summary};

fn interval(low: Option<f64>, high: Option<f64>) -> Option<(f64, f64)> {
    low.zip(high)
}

fn measured(network: &Network) -> Option<(f64, f64)> {
    interval(network.measured_low_ms, network.measured_high_ms)
}

/// Test accuracy against measured latency.
pub fn trade_off(summary: &Summary, facts: &Facts) -> Markup {
    let (keys, networks): (Vec<String>, Vec<&Network>) = summary.networks().unzip();
    let error = |network: &Network| network.accuracy_sd.or(network.accuracy_sampling_error).unwrap_or_default();
    let across = networks.iter().flat_map(|network| {
        let (low, high) = measured(network).unwrap_or((network.measured_ms, network.measured_ms));
        [low, network.measured_ms, high]
    });
    let up = networks.iter().flat_map(|network| [network.accuracy - error(network), network.accuracy + error(network)]);
    let (x, y) = (Axis::around("measured latency (ms)", across), Axis::around("test accuracy (%)", up));
    let mut plot = Plot::new("Test accuracy against measured latency of every network", x, y);
    for (series, network) in networks.iter().enumerate() {
        let at = (network.measured_ms, network.accuracy);
        let up = (network.accuracy - error(network), network.accuracy + error(network));
        plot.intervals(&format!("interval {}", series_class(series)), at, measured(network), Some(up));
    }
    for (series, network) in networks.iter().enumerate() {
        let at = (network.measured_ms, network.accuracy);
        plot.mark(series, at, &format!("{}: {} %, {} ms", network.name, fixed(at.1, 2), fixed(at.0, 3)));
        plot.note(at, short_name(&keys[series], network, facts));
    }
    plot.finish()
}

/// Names beside points stay short; the legend has them in full.
fn short_name(key: &str, network: &Network, facts: &Facts) -> Markup {
    if network.name.chars().count() <= 14 {
        return facts.draw(&format!("{key}/name"), Format::Plain);
    }
    text(&network.name.chars().take(13).chain(['…']).collect::<String>())
}

/// Predicted against measured latency, with the diagonal and ±10 % around it.
pub fn predictions(summary: &Summary) -> Markup {
    let points = summary.evaluation.as_ref().map_or(&[][..], |evaluation| &evaluation.points);
    let networks: Vec<&Network> = summary.networks().map(|(_, network)| network).collect();
    let of_networks = networks.iter().flat_map(|network| {
        let low = network.predicted_low_ms.unwrap_or(network.predicted_ms);
        [low, network.predicted_high_ms.unwrap_or(network.predicted_ms), network.measured_ms]
    });
    let all = points.iter().flat_map(|point| [point.predicted_ms, point.measured_ms]).chain(of_networks);
    let values: Vec<f64> = all.collect();
    let axis = |label: &str| Axis::around(label, values.iter().copied());
    let mut plot = Plot::new(
        "Predicted against measured latency, with the diagonal and a band of ten percent",
        axis("measured latency (ms)"),
        axis("predicted latency (ms)"),
    );
    let (low, high) = (axis("").low(), axis("").high());
    plot.area("within", &band(low, high));
    plot.line("diagonal", &[(low, low), (high, high)]);
    for point in points {
        let tooltip = format!(
            "{}: predicted {} ms, measured {} ms",
            point.architecture,
            fixed(point.predicted_ms, 3),
            fixed(point.measured_ms, 3)
        );
        plot.dot("evaluated", (point.measured_ms, point.predicted_ms), &tooltip);
    }
    for (series, network) in networks.iter().enumerate() {
        let at = (network.measured_ms, network.predicted_ms);
        let up = interval(network.predicted_low_ms, network.predicted_high_ms);
        plot.intervals(&format!("interval {}", series_class(series)), at, measured(network), up);
        let tooltip = format!("{}: predicted {} ms, measured {} ms", network.name, fixed(at.1, 3), fixed(at.0, 3));
        plot.mark(series, at, &tooltip);
    }
    plot.finish()
}

/// The corners of `0.9 x <= y <= 1.1 x` within a square.
fn band(low: f64, high: f64) -> Vec<(f64, f64)> {
    let below = [(low / 0.9, low), (high, 0.9 * high), (high, high)];
    let above = [(high / 1.1, high), (low, 1.1 * low), (low, low)];
    below.into_iter().chain(above).map(|(x, y)| (x.clamp(low, high), y.clamp(low, high))).collect()
}

/// The symbols of the networks, and of the evaluation's where it is shown.
pub fn legend(summary: &Summary, facts: &Facts, evaluated: bool) -> Markup {
    let swatch = || element("svg").class("swatch").attribute("viewBox", "0 0 16 16").attribute("aria-hidden", "true");
    let mut list = element("ul").class("legend");
    for (series, (key, _)) in summary.networks().enumerate() {
        let name = facts.name(&format!("{key}/name"));
        list = list.child(element("li").child(swatch().child(symbol(series, 8.0, 8.0, 5.5))).child(name));
    }
    if evaluated {
        let dot = element("circle").class("evaluated").at("cx", 8.0).at("cy", 8.0).at("r", 3.5);
        list = list.child(element("li").child(swatch().child(dot)).text("evaluation networks"));
        let area = element("rect").class("within").at("x", 0.0).at("y", 3.0).at("width", 16.0).at("height", 10.0);
        let diagonal = element("path").class("line diagonal").attribute("d", "M0 13L16 3");
        list = list.child(element("li").child(swatch().child(area).child(diagonal)).text("equal, and within ±10 %"));
    }
    list.into()
}
