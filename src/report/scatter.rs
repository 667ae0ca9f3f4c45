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
pub fn over_latency(summary: &Summary, facts: &Facts) -> Markup {
    let at = |network: &Network| Some((network.measured_ms?, measured(network)));
    trade_off(summary, ("measured latency", "measured latency (ms)", " ms"), at, facts)
}

/// Test accuracy against what networks need of what was limited first.
pub fn over_need(summary: &Summary, facts: &Facts) -> Markup {
    let limited = &summary.search.limited_first;
    let at = |network: &Network| Some((limited.drawn(*network.needs.first()?), None));
    trade_off(summary, (&limited.name, &limited.label(), &limited.behind()), at, facts)
}

/// Test accuracy against something that networks take, with its interval; a network that doesn't tell it has no place. It is
/// named for those who can't see, on the axis, and by the unit behind a number.
fn trade_off(
    summary: &Summary,
    (name, label, unit): (&str, &str, &str),
    across: impl Fn(&Network) -> Option<(f64, Option<(f64, f64)>)>,
    facts: &Facts,
) -> Markup {
    let error = |network: &Network| network.accuracy_sd.or(network.accuracy_sampling_error).unwrap_or_default();
    let up = |network: &Network| (network.accuracy - error(network), network.accuracy + error(network));
    let networks: Vec<_> = summary
        .networks()
        .enumerate()
        .filter_map(|(series, (key, network))| Some((series, key, network, across(network)?)))
        .collect();
    let xs = networks.iter().flat_map(|(.., (x, interval))| {
        let (low, high) = interval.unwrap_or((*x, *x));
        [low, *x, high]
    });
    let ys = networks.iter().flat_map(|(_, _, network, _)| [up(network).0, up(network).1]);
    let (x, y) = (Axis::around(label, xs), Axis::around("test accuracy (%)", ys));
    let mut plot = Plot::new(&format!("Test accuracy against {name} of every network"), x, y);
    for (series, _, network, (x, interval)) in &networks {
        let class = format!("interval {}", series_class(*series));
        plot.intervals(&class, (*x, network.accuracy), *interval, Some(up(network)));
    }
    for (series, key, network, (x, _)) in &networks {
        let at = (*x, network.accuracy);
        plot.mark(*series, at, &format!("{}: {} %, {}{unit}", network.name, fixed(at.1, 2), fixed(at.0, 3)));
        plot.note(at, short_name(key, network, facts));
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
    let networks: Vec<(usize, &Network, (f64, f64))> = summary
        .networks()
        .enumerate()
        .filter_map(|(series, (_, network))| Some((series, network, (network.measured_ms?, network.predicted_ms?))))
        .collect();
    let of_networks = networks.iter().flat_map(|(_, network, (measured, predicted))| {
        let low = network.predicted_low_ms.unwrap_or(*predicted);
        [low, network.predicted_high_ms.unwrap_or(*predicted), *measured]
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
    for (series, network, at) in networks {
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
