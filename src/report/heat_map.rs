//! The gates at the end of the search: the probability of every candidate of every decision.

use super::facts::{Facts, Format, fixed};
use super::markup::{Markup, element};
use super::summary::{DecisionSummary, Search};

const CELL: f64 = 44.0;
const ROW: f64 = 26.0;
const LEFT: f64 = 48.0;
const TOP: f64 = 4.0;
/// Above this probability a cell's number is written in the page's own colour.
const DARK: f64 = 0.7;
/// Below it, it is written softly.
const PALE: f64 = 0.2;

/// A column per decision, a row per candidate; the chosen ones are framed.
pub fn heat_map(search: &Search, facts: &Facts) -> Markup {
    let rows = rows(&search.decisions);
    let bottom = TOP + ROW * rows.len() as f64;
    let (width, height) = (LEFT + CELL * search.decisions.len() as f64 + 4.0, bottom + 72.0);
    let mut svg = element("svg").class("heat").attribute("viewBox", format!("0 0 {width} {height}"));
    svg = svg.attribute("width", width).attribute("height", height).attribute("role", "img");
    svg = svg.attribute("aria-label", "Probability of every candidate at every decision");
    for (row, name) in rows.iter().enumerate() {
        let y = TOP + ROW * (row as f64 + 0.5) + 4.0;
        svg = svg.child(
            element("text").class("tick").at("x", LEFT - 7.0).at("y", y).attribute("text-anchor", "end").text(name),
        );
    }
    for (column, decision) in search.decisions.iter().enumerate() {
        let x = LEFT + CELL * column as f64;
        for (row, name) in rows.iter().enumerate() {
            let y = TOP + ROW * row as f64;
            svg = match decision.candidates.iter().position(|candidate| candidate == name) {
                Some(candidate) => svg.children(cell(search, facts, (column, candidate), (x, y))),
                None => svg.child(square("absent", (x, y))),
            };
        }
        let (x, y) = (x + CELL / 2.0 + 4.0, bottom + 8.0);
        let name = element("text").class("tick").attribute("transform", format!("translate({x} {y}) rotate(-90)"));
        svg = svg.child(name.attribute("text-anchor", "end").text(&decision.name));
    }
    svg.into()
}

/// All candidates in the order of their first appearance.
fn rows(decisions: &[DecisionSummary]) -> Vec<&str> {
    let mut rows: Vec<&str> = Vec::new();
    for candidate in decisions.iter().flat_map(|decision| &decision.candidates) {
        if !rows.contains(&candidate.as_str()) {
            rows.push(candidate);
        }
    }
    rows
}

fn square(class: &str, (x, y): (f64, f64)) -> super::markup::Element {
    let square = element("rect").class(class).at("x", x + 1.0).at("y", y + 1.0);
    square.at("width", CELL - 2.0).at("height", ROW - 2.0).attribute("rx", 3)
}

fn cell(search: &Search, facts: &Facts, (decision, candidate): (usize, usize), at: (f64, f64)) -> Vec<Markup> {
    let probability = search.probabilities[decision][candidate];
    let chosen = search.decisions[decision].chosen == candidate;
    let what = &search.decisions[decision];
    let tooltip = format!("{} {}: {}", what.name, what.candidates[candidate], fixed(probability, 4));
    let fill = square("p", at).attribute("fill-opacity", format!("{probability:.3}"));
    let fill = fill.child(element("title").text(&tooltip));
    let class = match probability {
        p if p > DARK => "on",
        p if p < PALE => "off",
        _ => "between",
    };
    let number = element("text").class(class).at("x", at.0 + CELL / 2.0).at("y", at.1 + ROW / 2.0 + 4.0);
    let key = format!("/search/probabilities/{decision}/{candidate}");
    let number = number.attribute("text-anchor", "middle").child(facts.draw(&key, Format::Fixed(2)));
    let mut parts = vec![square("cell", at).into(), fill.into()];
    if chosen {
        parts.push(square("chosen", at).into());
    }
    parts.push(number.into());
    parts
}
