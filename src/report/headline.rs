//! The page's claim: what the found network is against the baseline, and how sure that is.

use super::facts::{Facts, Format};
use super::markup::{Element, Markup, element, text};
use super::sections::{tile, unit};
use super::summary::Summary;
use super::way::Bound;

/// The claim in one line, where it was made, and the figures behind it.
pub fn headline(summary: &Summary, facts: &Facts) -> Markup {
    let place = element("p").class("lead").text("The network that the search found against the baseline, ");
    let place = match summary.is_measured() {
        true => place.text("measured on ").child(strong(facts.name("/device"))).text(", "),
        false => place,
    };
    let place = place.text("trained on ").child(strong(facts.name("/dataset"))).text(", searched in ");
    let place = place.child(strong(facts.name("/space"))).text(". ").children(certainty(summary, facts));
    let header = element("header").child(element("p").class("kicker").text("fleetfoot report"));
    header.child(claim(summary, facts)).child(place).child(tiles(summary, facts)).into()
}

/// How much faster it is, or how much less it needs of what was limited first, and what that costs in accuracy.
fn claim(summary: &Summary, facts: &Facts) -> Element {
    let title = element("h1");
    let points = facts.show("/accuracy_difference", Format::Signed(2));
    let title = match (summary.speedup.filter(|_| summary.is_by_latency()), summary.need_ratio) {
        (Some(speedup), _) => {
            let (before, after) = if speedup >= 1.0 { ("", "× faster") } else { ("Only ", "× the baseline's speed") };
            title.text(before).child(facts.show("/speedup", Format::Fixed(2))).text(after).text(" at ")
        }
        (None, Some(_)) => {
            let title = title.child(facts.show("/need_ratio", Format::Fixed(2))).text("× the ");
            title.child(facts.name("/search/limited_first/name")).text(" at ")
        }
        (None, None) => title,
    };
    title.child(points).text(" points")
}

fn strong(content: Markup) -> Element {
    element("strong").child(content)
}

/// How sure the claim's two numbers are.
fn certainty(summary: &Summary, facts: &Facts) -> Vec<Markup> {
    let show = |key: &str| facts.show(key, Format::Fixed(2));
    let mut parts = Vec::new();
    if !summary.is_by_latency() && !summary.search.limited_first.is_counted() && summary.need_ratio.is_some() {
        parts.push(text("What networks need is what the search's tables say. "));
    }
    if summary.is_by_latency() && summary.speedup_low.is_some() && summary.speedup_high.is_some() {
        let range = [text("The intervals of both measurements allow "), show("/speedup_low"), text("× to ")];
        parts.extend(range);
        parts.extend([show("/speedup_high"), text("×. ")]);
    }
    if summary.accuracy_difference_standard_error.is_some() {
        let error = show("/accuracy_difference_standard_error");
        parts.extend([
            text("The difference of accuracies has a standard error of "),
            error,
            text(" points over the seeds."),
        ]);
    }
    parts
}

fn tiles(summary: &Summary, facts: &Facts) -> Element {
    let show = |key: &str, format| facts.show(key, format);
    let percent = |key: &str| show(key, Format::Fixed(2));
    let first = &summary.search.limited_first;
    let amount = |key: &str| [show(key, first.format(3)), text(&first.behind())];
    let allowed = match summary.search.target {
        Some(_) if summary.search.bound() == Bound::Cap => {
            std::iter::once(text("for at most ")).chain(amount("/search/target"))
        }
        Some(_) => std::iter::once(text("for a target of ")).chain(amount("/search/target")),
        None => std::iter::once(text("expected ")).chain(amount("/search/expected")),
    };
    let mut tiles = Vec::new();
    if !summary.is_by_latency() && summary.need_ratio.is_some() {
        let value = vec![show("/found/needs/0", first.format(3)), unit(first.behind().trim_start())];
        let baseline = std::iter::once(text("baseline ")).chain(amount("/baseline/needs/0"));
        tiles.push(tile(&capitalised(&first.name), value, baseline.collect()));
    }
    if summary.is_measured() {
        let ms = |key: &str| show(key, Format::Significant(3));
        let baseline = vec![text("baseline "), ms("/baseline/measured_ms"), text(" ms")];
        tiles.push(tile("Measured latency", vec![ms("/found/measured_ms"), unit("ms")], baseline));
    }
    let baseline = vec![text("baseline "), percent("/baseline/accuracy"), text(" %")];
    tiles.push(tile("Test accuracy", vec![percent("/found/accuracy"), unit("%")], baseline));
    if summary.found.prediction_error_percent.is_some() {
        let error = |key: &str| show(&format!("{key}/prediction_error_percent"), Format::Signed(1));
        let baseline = vec![text("baseline "), error("/baseline"), text(" %")];
        tiles.push(tile("Prediction was off by", vec![error("/found"), unit("%")], baseline));
    }
    let minutes = vec![show("/search/minutes", Format::Fixed(1)), unit("min")];
    tiles.push(tile("Search took", minutes, allowed.collect()));
    element("div").class("tiles").children(tiles)
}

fn capitalised(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}
