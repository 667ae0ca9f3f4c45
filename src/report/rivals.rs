//! What else the search tells of its network: others of the one supernet, other ways to search, what devices measured.

use super::facts::{Facts, Format, fixed};
use super::markup::{Markup, element, text};
use super::plot::{Axis, Plot};
use super::sections::{head, number, table};
use super::summary::Search;

/// Supernet accuracy over need, the chosen network marked.
pub fn pareto(search: &Search, facts: &Facts) -> Markup {
    let (points, Some(limit)) = (&search.way.pareto, search.way.limits.first()) else { return Markup::default() };
    if points.is_empty() {
        return Markup::default();
    }
    let at = |point: &super::way::FrontPoint| (limit.of.drawn(point.needs[0]), point.accuracy_percent);
    // The chosen one needn't be of the front; how it does by the supernet is told beside its rivals.
    let chosen = points.iter().find(|point| point.architecture == search.architecture).map(at).or_else(|| {
        let own = search.way.rivals.iter().find(|rival| rival.architecture == search.architecture)?;
        Some((limit.of.drawn(own.predicted.or(search.predicted)?), own.accuracy_percent))
    });
    let at_most = limit.of.drawn(limit.at_most);
    let needs = points.iter().map(|point| at(point).0).chain(chosen.map(|at| at.0)).chain([at_most]);
    let accuracies = points.iter().map(|point| point.accuracy_percent).chain(chosen.map(|at| at.1));
    let mut plot = Plot::new(
        "Accuracy by the supernet over what networks need",
        Axis::around(&limit.of.label(), needs),
        Axis::around("validation images, by the supernet (%)", accuracies),
    );
    plot.upright("target", at_most, text("limit"));
    plot.line("curve further", &points.iter().map(at).collect::<Vec<_>>());
    for point in points {
        let (need, accuracy) = at(point);
        let tooltip = format!("{}: {}, {} %", point.architecture, fixed(need, 4), fixed(accuracy, 2));
        plot.dot("evaluated", (need, accuracy), &tooltip);
    }
    if let Some(at) = chosen {
        plot.mark(0, at, &format!("chosen: {}", search.architecture));
        plot.note(at, text("chosen"));
    }
    let label = limit.of.label();
    let columns = [("Network", false), (&label[..], true), ("Cross entropy", true), ("Accuracy (%)", true)];
    let row = |index: usize| {
        let show = |field: &str, format| facts.show(&format!("/search/pareto/{index}/{field}"), format);
        let code = element("code").child(show("architecture", Format::Plain));
        let row = element("tr").child(element("th").attribute("scope", "row").child(code));
        row.child(number([show("needs/0", limit.of.format(4))]))
            .child(number([show("cross_entropy", Format::Fixed(4))]))
            .child(number([show("accuracy_percent", Format::Fixed(2))]))
    };
    let rows = table(head(&columns), (0..points.len()).map(row));
    let lead = "Networks of the one supernet, judged by it: none needs less and does better than another. Trained from scratch \
                they do otherwise; it is their order that this tells of.";
    let pair = element("div").class("pair").child(element("figure").child(plot.finish())).child(rows);
    let heading = [element("h3").text("Pareto front"), element("p").class("beside").text(lead)];
    Markup::join([Markup::join(heading), pair.into()])
}

/// How other ways to search did on the same supernet.
pub fn rivals(search: &Search, facts: &Facts) -> Markup {
    let rivals = &search.way.rivals;
    if rivals.is_empty() {
        return Markup::default();
    }
    let needs = search.limited_first.label();
    let columns = [
        ("Method", false),
        ("Equal", false),
        ("Evaluations", true),
        ("Seconds", true),
        ("Network", false),
        (&needs[..], true),
        ("Cross entropy", true),
        ("Accuracy (%)", true),
    ];
    let row = |index: usize| {
        let show = |field: &str, format| facts.show(&format!("/search/rivals/{index}/{field}"), format);
        let row = element("tr").child(element("th").attribute("scope", "row").child(show("method", Format::Plain)));
        row.child(element("td").child(show("budget", Format::Plain)))
            .child(number([show("evaluations", Format::Plain)]))
            .child(number([show("seconds", Format::Fixed(1))]))
            .child(element("td").child(element("code").child(show("architecture", Format::Plain))))
            .child(number([show("predicted", search.limited_first.format(4))]))
            .child(number([show("cross_entropy", Format::Fixed(4))]))
            .child(number([show("accuracy_percent", Format::Fixed(2))]))
    };
    let lead = "Other ways to search, on the same supernet and within the same limits, with what is named equal to the gates'. \
                Networks are judged by the supernet on the validation images; its weights learned along paths that the gates \
                drew, which is in the gates' favour.";
    let heading = [element("h3").text("Other ways to search"), element("p").class("beside").text(lead)];
    Markup::join([Markup::join(heading), table(head(&columns), (0..rivals.len()).map(row))])
}

/// What networks took on the devices while the search looked for one that meets its targets there.
pub fn measured(search: &Search, facts: &Facts) -> Markup {
    let measured = &search.way.measured;
    if measured.is_empty() {
        return Markup::default();
    }
    let columns = [
        ("Device", false),
        ("Network", false),
        ("Predicted (ms)", true),
        ("Measured (ms)", true),
        ("Target (ms)", true),
        ("Meets it", false),
    ];
    let row = |index: usize| {
        let show = |field: &str| facts.show(&format!("/search/measured/{index}/{field}"), Format::Fixed(4));
        let name = |field: &str| facts.name(&format!("/search/measured/{index}/{field}"));
        let own = &measured[index];
        let network = element("td").child(element("code").child(name("architecture")));
        let chosen = (own.architecture == search.architecture).then(|| element("small").text("chosen"));
        let interval = element("small").child(show("low_ms")).text(" to ").child(show("high_ms"));
        element("tr")
            .child(element("th").attribute("scope", "row").child(name("device")))
            .child(network.children(chosen))
            .child(number([show("predicted_ms")]))
            .child(number([show("measured_ms"), interval.into()]))
            .child(number([show("target_ms")]))
            .child(element("td").text(if own.measured_ms <= own.target_ms { "yes" } else { "no" }))
    };
    let lead = "Networks that were measured as wholes on the way to one that meets its targets, in order.";
    let heading = [element("h3").text("Measured on the devices"), element("p").class("beside").text(lead)];
    Markup::join([Markup::join(heading), table(head(&columns), (0..measured.len()).map(row))])
}
