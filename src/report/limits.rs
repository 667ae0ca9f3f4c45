//! What the gates expected against what was allowed, over the steps and at the end, and what was cut on the way.

use super::facts::{Facts, Format};
use super::markup::{Markup, element, text};
use super::plot::{Axis, Plot};
use super::records::Phase;
use super::sections::{head, number, table};
use super::summary::Search;
use super::way::Bound;

/// A plot for each limit: what the gates expected, the limit's way to where it ends, for the first also the most probable
/// network.
pub fn plots(search: &Search, facts: &Facts) -> Vec<Markup> {
    (0..search.way.limits.len()).map(|index| plot(search, index, facts)).collect()
}

fn plot(search: &Search, index: usize, facts: &Facts) -> Markup {
    let (history, limit) = (&search.way.history, &search.way.limits[index]);
    let expected: Vec<(f64, f64)> = history.iter().map(|point| (point.step as f64, point.expected[index])).collect();
    // In the warm-up nothing is held.
    let warm = search.curve.iter().filter(|point| point.phase == Phase::WarmUp);
    let (from, to) = warm.fold((None, 0), |(from, _), point| (from.or(Some(point.step)), point.step));
    let held = history.iter().filter(|point| point.step > to).map(|point| (point.step as f64, point.limits[index]));
    let held: Vec<(f64, f64)> = held.collect();
    let probable = search.curve.iter().filter(|_| index == 0);
    let probable: Vec<(f64, f64)> =
        probable.filter_map(|point| Some((point.step as f64, point.most_probable?))).collect();
    let drawn = |line: Vec<(f64, f64)>| -> Vec<(f64, f64)> {
        line.into_iter().map(|(step, amount)| (step, limit.of.drawn(amount))).collect()
    };
    let (expected, held, probable, at_most) =
        (drawn(expected), drawn(held), drawn(probable), limit.of.drawn(limit.at_most));
    let values = [&expected, &held, &probable].into_iter().flatten().map(|(_, y)| *y).chain([at_most]);
    let mut plot = Plot::new(
        &format!("{} that the gates expect, and its limit, over the steps of the search", limit.of.name),
        Axis::around("step", expected.iter().map(|(step, _)| *step)),
        Axis::around(&limit.of.label(), values),
    );
    if let Some(from) = from {
        plot.band(from as f64, to as f64, "warm-up");
    }
    plot.line("curve further", &probable);
    plot.line("path target", &held);
    plot.line("curve", &expected);
    let shown = facts.draw(&format!("/search/limits/{index}/at_most"), limit.of.format(3));
    let word = if limit.bound == Bound::Target { "target " } else { "at most " };
    plot.level("target", at_most, Markup::join([text(word), shown, text(&limit.of.behind())]));
    plot.finish()
}

/// What the lines of the plots are.
pub fn legend() -> Markup {
    let entry = |class: &str, what: &str| {
        let line = element("path").class(&format!("line {class}")).attribute("d", "M0 8H30");
        let swatch = element("svg").class("swatch long").attribute("viewBox", "0 0 30 16");
        element("li").child(swatch.attribute("aria-hidden", "true").child(line)).text(what)
    };
    let list = element("ul").class("legend").child(entry("curve", "expected of the gates"));
    let list = list.child(entry("curve further", "most probable network"));
    list.child(entry("path target", "the limit on its way")).child(entry("level target", "where it ends")).into()
}

/// What came of every limit.
pub fn reached(search: &Search, facts: &Facts) -> Markup {
    if search.way.limits.is_empty() || search.way.reached.len() != search.way.limits.len() {
        return Markup::default();
    }
    let columns = [
        ("Limit", false),
        ("Kind", false),
        ("Allowed", true),
        ("Expected of the gates", true),
        ("Needed by the network", true),
        ("Multiplier", true),
    ];
    let row = |index: usize| {
        let of = |list: &str, field: &str, format| facts.show(&format!("/search/{list}/{index}/{field}"), format);
        let quantity = &search.way.limits[index].of;
        let format = quantity.format(4);
        let row = element("tr").child(element("th").attribute("scope", "row").text(&quantity.label()));
        row.child(element("td").child(of("limits", "bound", Format::Plain)))
            .child(number([of("limits", "at_most", format)]))
            .child(number([of("reached", "expected", format)]))
            .child(number([of("reached", "predicted", format)]))
            .child(number([of("reached", "lambda", Format::Significant(3))]))
    };
    let table = table(head(&columns), (0..search.way.limits.len()).map(row));
    Markup::join([element("h3").text("Limits").into(), table])
}

/// How many candidates were left over the steps; nothing where the record doesn't tell.
pub fn candidates(search: &Search) -> Option<Markup> {
    let left = search.curve.iter().map(|point| Some((point.step as f64, point.candidates? as f64)));
    let left = left.collect::<Option<Vec<(f64, f64)>>>().filter(|left| !left.is_empty())?;
    // Whole numbers at the ticks, however few were cut.
    let most = left.iter().map(|point| point.1).fold(0.0, f64::max);
    let mut plot = Plot::new(
        "Candidates that are left over the steps of the search",
        Axis::around("step", left.iter().map(|point| point.0)),
        Axis::around("candidates left", left.iter().map(|point| point.1).chain([(most - 5.0).max(0.0)])),
    );
    // Between two points it is what it was at the first.
    let stairs = left.windows(2).flat_map(|pair| [pair[0], (pair[1].0, pair[0].1)]).chain(left.last().copied());
    plot.line("curve", &stairs.collect::<Vec<_>>());
    Some(plot.finish())
}

/// What was cut, in order.
pub fn cuts(search: &Search, facts: &Facts) -> Markup {
    let cuts = &search.way.cuts;
    if cuts.is_empty() {
        return Markup::default();
    }
    let row = |(index, cut): (usize, &super::way::Cut)| {
        let decision = format!("/search/decisions/{}", cut.decision);
        let row = element("tr").child(number([facts.show(&format!("/search/cuts/{index}/step"), Format::Plain)]));
        let row = row.child(element("td").child(facts.name(&format!("{decision}/name"))));
        row.child(element("td").child(facts.name(&format!("{decision}/candidates/{}", cut.candidate))))
    };
    let rows = cuts.iter().enumerate().map(row);
    let table = table(head(&[("Step", true), ("Decision", false), ("Candidate", false)]), rows);
    let summary = element("summary").text("The candidates that were cut, in order");
    element("details").class("cuts").child(summary).child(table).into()
}
