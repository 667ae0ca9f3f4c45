//! What happened over time: the search's curves and the trainings'.

use super::facts::Facts;
use super::limits;
use super::markup::{Markup, element, text};
use super::plot::{Axis, Plot, series_class};
use super::records::{Phase, SearchPoint, TrainPoint};
use super::summary::Summary;

/// A value that was logged, if it was.
type Value = fn(&SearchPoint) -> Option<f64>;
/// A plot of the search: its title, its axis and the values of its lines, the thin one last.
type Curve = (&'static str, &'static str, &'static [Value]);

const SEARCH: [Curve; 4] = [
    ("Loss of the supernet", "loss", &[|point| Some(point.loss)]),
    ("Accuracy of the supernet", "training batches (%)", &[|point| point.accuracy_percent]),
    ("What was limited", LIMITED, &[|point| point.expected, |point| point.most_probable]),
    ("Entropy of the gates", "entropy of α, share of the largest", &[|point| point.entropy]),
];
const LIMITED: &str = "expected; thin: most probable network";

/// Loss, accuracy, what was limited and entropy over the search's steps, the warm-up shaded.
pub fn search(summary: &Summary, facts: &Facts) -> Vec<Markup> {
    let curve = &summary.search.curve;
    let steps = || curve.iter().map(|point| point.step as f64);
    let warm_up = curve.iter().filter(|point| point.phase == Phase::WarmUp).map(|point| point.step as f64);
    let warm_up = warm_up.fold(None, |band: Option<(f64, f64)>, step| Some((band.map_or(step, |band| band.0), step)));
    let draw = |(title, label, values): Curve| {
        let line = |value: &Value| -> Vec<(f64, f64)> {
            curve.iter().filter_map(|point| Some((point.step as f64, value(point)?))).collect()
        };
        let lines: Vec<Vec<(f64, f64)>> = values.iter().map(line).collect();
        let quantity = &summary.search.limited_first;
        let target = summary.search.target.filter(|_| label == LIMITED);
        let values = lines.iter().flatten().map(|&(_, y)| y).chain(target);
        let mut plot = Plot::new(
            &format!("{title} over the steps of the search"),
            Axis::around("step", steps()),
            Axis::around(
                &if label == LIMITED { format!("{label} ({})", quantity.unit) } else { label.to_owned() },
                values,
            ),
        );
        if let Some((from, to)) = warm_up {
            plot.band(from, to, "warm-up");
        }
        for (index, points) in lines.iter().enumerate().rev() {
            plot.line(if index == 0 { "curve" } else { "curve further" }, points);
        }
        if let Some(target) = target {
            let shown = facts.draw("/search/target", quantity.format(3));
            plot.level("target", target, Markup::join([text("target "), shown, text(&quantity.behind())]));
        }
        plot.finish()
    };
    // Records that tell of limits have plots of their own for them.
    let told = !summary.search.way.history.is_empty();
    let shown = SEARCH.into_iter().filter(|(_, label, _)| !told || *label != LIMITED).map(draw);
    shown.chain(limits::candidates(&summary.search)).collect()
}

/// Loss and accuracy over the epochs of every training; further seeds of a network are drawn thinner.
pub fn training(summary: &Summary) -> Vec<Markup> {
    let draw = |title: &str, label: &str, value: fn(&TrainPoint) -> Option<f64>| {
        let lines: Vec<(String, Vec<(f64, f64)>)> = summary
            .networks()
            .enumerate()
            .flat_map(|(series, (_, network))| {
                network.trainings.iter().enumerate().map(move |(seed, training)| {
                    let points = training.curve.iter().filter_map(|point| Some((point.epoch, value(point)?)));
                    let class = format!("{}{}", series_class(series), if seed > 0 { " further" } else { "" });
                    (class, points.collect())
                })
            })
            .collect();
        let points = || lines.iter().flat_map(|(_, points)| points);
        let x = Axis::around("epoch", points().map(|point| point.0));
        let mut plot = Plot::new(title, x, Axis::around(label, points().map(|point| point.1)));
        // The first ones last, so that they lie on top.
        for (class, points) in lines.iter().rev() {
            plot.line(class, points);
        }
        plot.finish()
    };
    vec![
        draw("Training loss over the epochs", "loss", |point| Some(point.loss)),
        draw("Accuracy over the epochs", "training batches (%)", |point| point.accuracy_percent),
    ]
}

/// The lines of the networks.
pub fn legend(summary: &Summary, facts: &Facts) -> Markup {
    let entry = |(series, (key, _)): (usize, (String, _))| {
        let line = element("path").class(&format!("line {}", series_class(series))).attribute("d", "M0 8H30");
        let swatch = element("svg").class("swatch long").attribute("viewBox", "0 0 30 16");
        let swatch = swatch.attribute("aria-hidden", "true").child(line);
        element("li").child(swatch).child(facts.name(&format!("{key}/name")))
    };
    element("ul").class("legend").children(summary.networks().enumerate().map(entry)).into()
}
