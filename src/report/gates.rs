//! The gates over time: for every decision, each candidate's probability over the steps; a candidate that was cut ends at its cut.

use super::facts::{Facts, Format, fixed};
use super::markup::{Coordinate, Element, Markup, element, text};
use super::summary::{DecisionSummary, Search};
use super::way::GatePoint;

const WIDTH: f64 = 200.0;
const HEIGHT: f64 = 112.0;
const LEFT: f64 = 22.0;
const RIGHT: f64 = 6.0;
const TOP: f64 = 18.0;
const BOTTOM: f64 = 6.0;
/// The largest probability of all pictures, if gates stay undecided.
const TOPS: [(f64, &str); 3] = [(0.25, "¼"), (0.5, "½"), (1.0, "1")];
/// Points of a line, about.
const POINTS: usize = 75;

/// A small picture for each decision, alike in scale; nothing where the record doesn't tell.
pub fn over_time(search: &Search, facts: &Facts) -> Markup {
    let history = &search.way.history;
    let (Some(first), Some(last)) = (history.first(), history.last()) else { return Markup::default() };
    let range = (first.step as f64, last.step.max(first.step + 1) as f64);
    let every = history.len().div_ceil(POINTS).max(1);
    let shown = |&(index, _): &(usize, &GatePoint)| index % every == 0 || index + 1 == history.len();
    let points: Vec<&GatePoint> = history.iter().enumerate().filter(shown).map(|(_, point)| point).collect();
    let most = points.iter().flat_map(|point| point.probabilities.iter().flatten()).copied().fold(0.0, f64::max);
    let top = TOPS.into_iter().find(|(top, _)| most <= *top).unwrap_or(TOPS[TOPS.len() - 1]);
    let panels = search.decisions.iter().enumerate().map(|(index, decision)| {
        let gates = Gates { search, index, decision, points: &points, range, top };
        gates.panel(facts)
    });
    let caption = element("p").class("beside").text(
        "Each candidate's probability over the steps. A cross ends what was cut. Beside a decision's name stands what was chosen.",
    );
    let panels = element("div").class("multiples").children(panels);
    Markup::join([element("h3").text("Gates over time").into(), caption.into(), legend(search, facts), panels.into()])
}

struct Gates<'a> {
    search: &'a Search,
    index: usize,
    decision: &'a DecisionSummary,
    points: &'a [&'a GatePoint],
    range: (f64, f64),
    /// The largest probability that is shown, and its words.
    top: (f64, &'static str),
}

impl Gates<'_> {
    fn panel(&self, facts: &Facts) -> Element {
        let svg = element("svg").class("gates").attribute("viewBox", format!("0 0 {WIDTH} {HEIGHT}"));
        let what = format!("Probabilities of the candidates of {} over the steps", self.decision.name);
        let mut svg = svg.attribute("role", "img").attribute("aria-label", what);
        let (left, right) = (Coordinate(LEFT), Coordinate(WIDTH - RIGHT));
        let (top, words) = self.top;
        for p in [0.0, 0.5 * top, top] {
            let y = Coordinate(self.y(p));
            svg = svg.child(element("path").class("rule").attribute("d", format!("M{left} {y}H{right}")));
        }
        for (p, words) in [(0.0, "0"), (top, words)] {
            let tick = element("text").class("tick").at("x", LEFT - 5.0).at("y", self.y(p) + 4.0);
            svg = svg.child(tick.attribute("text-anchor", "end").text(words));
        }
        let key = format!("/search/decisions/{}", self.index);
        let name = element("text").class("name").at("x", LEFT).at("y", 11.0);
        let chosen = facts.draw(&format!("{key}/candidates/{}", self.decision.chosen), Format::Plain);
        svg = svg.child(name.child(facts.draw(&format!("{key}/name"), Format::Plain)).child(text(": ")).child(chosen));
        // The chosen one last, so that it lies on top.
        let mut order: Vec<usize> = (0..self.decision.candidates.len()).collect();
        order.sort_by_key(|&candidate| candidate == self.decision.chosen);
        svg.children(order.into_iter().map(|candidate| self.line(candidate)))
    }

    /// A candidate's line, and the cross at its end where it was cut.
    fn line(&self, candidate: usize) -> Markup {
        let mut cuts = self.search.way.cuts.iter();
        let cut = cuts.find(|cut| (cut.decision, cut.candidate) == (self.index, candidate)).map(|cut| cut.step);
        let p = |point: &GatePoint| point.probabilities[self.index][candidate];
        let live = self.points.iter().filter(|point| cut.is_none_or(|cut| point.step < cut));
        let line: Vec<(f64, f64)> = live.map(|point| (self.x(point.step), self.y(p(point)))).collect();
        let path: Vec<String> = line
            .iter()
            .enumerate()
            .map(|(i, &(x, y))| format!("{}{} {}", if i == 0 { 'M' } else { 'L' }, Coordinate(x), Coordinate(y)))
            .collect();
        let class = class(self.decision, candidate);
        let name = &self.decision.candidates[candidate];
        let end = self.points.last().map(|point| fixed(p(point), 3)).unwrap_or_default();
        let tooltip = match cut {
            Some(step) => format!("{name}: cut at step {step}"),
            None => format!("{name}: {end} at the end"),
        };
        let path = element("path").class(&class).attribute("d", path.concat());
        let path = path.child(element("title").text(&tooltip)).into();
        let cross = cut.map(|step| {
            let (x, y) = (self.x(step), line.last().map_or(self.y(0.0), |last| last.1));
            let (x, y) = (Coordinate(x - 2.5), Coordinate(y - 2.5));
            let cross =
                element("path").class(&format!("cross {class}")).attribute("d", format!("M{x} {y}l5 5m0-5l-5 5"));
            cross.child(element("title").text(&tooltip)).into()
        });
        Markup::join(std::iter::once::<Markup>(path).chain(cross))
    }

    fn x(&self, step: u64) -> f64 {
        let (from, to) = self.range;
        LEFT + (step as f64 - from).clamp(0.0, to - from) / (to - from) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, p: f64) -> f64 {
        HEIGHT - BOTTOM - p / self.top.0 * (HEIGHT - TOP - BOTTOM)
    }
}

/// Colour by kernel size, as in the networks' pictures; thick for a large expansion ratio.
fn class(decision: &DecisionSummary, candidate: usize) -> String {
    let expansions = &decision.expansions;
    let largest = expansions.iter().flatten().max();
    let kernel = match decision.kernels[candidate] {
        Some(kernel @ (3 | 5 | 7)) => format!("k{kernel}"),
        Some(_) => "other".to_owned(),
        None => "none".to_owned(),
    };
    let thick = expansions[candidate].is_some() && expansions[candidate].as_ref() == largest;
    format!("gate {kernel}{}", if thick { " thick" } else { "" })
}

/// A line for each candidate that stands at some decision.
fn legend(search: &Search, facts: &Facts) -> Markup {
    let mut known: Vec<&str> = Vec::new();
    let mut list = element("ul").class("legend");
    for (index, decision) in search.decisions.iter().enumerate() {
        for (candidate, name) in decision.candidates.iter().enumerate() {
            if known.contains(&name.as_str()) {
                continue;
            }
            known.push(name);
            let line = element("path").class(&class(decision, candidate)).attribute("d", "M0 8H30");
            let swatch = element("svg").class("swatch long").attribute("viewBox", "0 0 30 16");
            let swatch = swatch.attribute("aria-hidden", "true").child(line);
            let name = facts.name(&format!("/search/decisions/{index}/candidates/{candidate}"));
            list = list.child(element("li").child(swatch).child(name));
        }
    }
    list.into()
}
