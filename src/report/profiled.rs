//! `fleetfoot report TABLE.csv`: the page of a latency table, by itself: its costs, how the machine behaved while they were measured,
//! and under which conditions.

use std::path::Path;

use anyhow::Result;
use fleetfoot_profiler::{LatencyTable, Row, median};
use serde::Serialize;

use super::facts::{Facts, Format, fixed};
use super::markup::{Element, Markup, element, text};
use super::page::{document, figure, machine, section};
use super::plot::{Axis, Plot};
use super::sections::{head, number, pairs, table, tile, unit};
use super::tables::Provenance;
use super::timeline::Timeline;
use crate::measuring::journal_of;

/// What the page shows.
#[derive(Debug, Serialize)]
struct Profiled {
    tool: String,
    device: String,
    space: String,
    /// What the numbers are: latency, memory, energy.
    cost: String,
    units: usize,
    empty: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    half_width_percent: Option<f64>,
    rows: Vec<Unit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeline: Option<Timeline>,
    provenance: Vec<Provenance>,
}

/// A row of the table, in its cost's unit.
#[derive(Debug, Serialize)]
struct Unit {
    name: String,
    cost: f64,
    low: f64,
    high: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    half_width_percent: Option<f64>,
    samples: u64,
}

/// The page of the table in this file.
pub fn render(path: &Path) -> Result<String> {
    let (latencies, warnings) = LatencyTable::read(path)?;
    warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    let profiled = Profiled::of(&latencies, Timeline::read(&journal_of(path))?);
    let facts = Facts::parse(&serde_json::to_string(&profiled)?)?;
    let symbol = latencies.cost().unit();
    let body = element("main")
        .child(headline(&profiled, symbol, &facts))
        .child(costs(&profiled, symbol, &facts))
        .child(match &profiled.timeline {
            Some(timeline) => machine(timeline, &facts),
            None => without_journal(path),
        })
        .child(conditions(&profiled, &facts))
        .child(element("footer").text("Written by ").child(facts.name("/tool")).text("."));
    Ok(document(&format!("fleetfoot: {} on {}", profiled.space, profiled.device), body.into()))
}

impl Profiled {
    fn of(latencies: &LatencyTable, timeline: Option<Timeline>) -> Self {
        let percent = |row: &Row| row.half_width().map(|half| 100.0 * half);
        let unit = |row: &Row| Unit {
            name: row.key.to_string(),
            cost: row.latency.ms(),
            low: row.low.ms(),
            high: row.high.ms(),
            half_width_percent: percent(row),
            samples: row.samples,
        };
        let mut rows: Vec<Unit> = latencies.rows().iter().map(unit).collect();
        rows.sort_by(|a, b| b.cost.total_cmp(&a.cost));
        let said = |key: &str| latencies.provenance.get(key).unwrap_or("unknown").to_owned();
        let pair = |(key, value): (&str, &str)| Provenance { key: key.to_owned(), value: value.to_owned() };
        Self {
            tool: format!("fleetfoot {}", env!("CARGO_PKG_VERSION")),
            device: said("device"),
            space: said("space"),
            cost: latencies.cost().to_string(),
            units: rows.len(),
            empty: latencies.overhead().ms(),
            half_width_percent: median(latencies.rows().iter().filter_map(percent)),
            rows,
            timeline,
            provenance: latencies.provenance.iter().map(pair).collect(),
        }
    }
}

fn headline(profiled: &Profiled, symbol: &str, facts: &Facts) -> Element {
    let show = |key: &str, format| facts.show(key, format);
    let title = element("h1").text("What ").child(facts.name("/space")).text(" costs on ").child(facts.name("/device"));
    let lead = element("p").class("lead").text("The ").child(show("/cost", Format::Plain));
    let lead = lead.text(" of every unit, from which that of any network of the space is added up.");
    let mut tiles = vec![
        tile("Units", vec![show("/units", Format::Plain)], vec![text("measured")]),
        tile(
            "Half-width",
            vec![show("/half_width_percent", Format::Fixed(1)), unit("%")],
            vec![text("of the 99 % intervals, in the median")],
        ),
        tile(
            "Empty graph",
            vec![show("/empty", Format::Significant(3)), unit(symbol)],
            vec![text("part of every network")],
        ),
    ];
    if profiled.timeline.is_some() {
        let seconds = |what: &str| show(&format!("/timeline/seconds_{what}"), Format::Fixed(0));
        let waiting = vec![seconds("waiting"), text(" s of it left aside: the machine was waited for")];
        tiles.push(tile("On the device", vec![seconds("measuring"), unit("s")], waiting));
    }
    let header = element("header").child(element("p").class("kicker").text("fleetfoot latency table"));
    header.child(title).child(lead).child(element("div").class("tiles").children(tiles))
}

fn costs(profiled: &Profiled, symbol: &str, facts: &Facts) -> Element {
    let drawing = figure(plot(profiled, symbol), text("Units by what they cost; bars are 99 % intervals."));
    let columns = [("Unit", false), (symbol, true), ("Interval", true), ("± (%)", true), ("Samples", true)];
    let row = |index: usize| {
        let show = |field: &str, format| facts.show(&format!("/rows/{index}/{field}"), format);
        let amount = |field| show(field, Format::Significant(3));
        element("tr")
            .child(element("th").attribute("scope", "row").child(show("name", Format::Plain)))
            .child(number([amount("cost")]))
            .child(number([amount("low"), text(" to "), amount("high")]))
            .child(number([show("half_width_percent", Format::Fixed(1))]))
            .child(number([show("samples", Format::Plain)]))
    };
    section("Units", "From the dearest to the cheapest.")
        .child(element("div").class("single").child(drawing))
        .child(table(head(&columns), (0..profiled.rows.len()).map(row)))
}

/// Costs in ascending order with their intervals.
fn plot(profiled: &Profiled, symbol: &str) -> Markup {
    let ends = profiled.rows.iter().flat_map(|unit| [unit.low, unit.high]).chain([0.0]);
    let x = Axis::around("units, by what they cost", [0.0, profiled.rows.len() as f64]);
    let mut plot =
        Plot::new("Units by what they cost", x, Axis::around(&format!("{} ({symbol})", profiled.cost), ends));
    for (index, unit) in profiled.rows.iter().rev().enumerate() {
        let at = (index as f64 + 0.5, unit.cost);
        plot.intervals("interval s0", at, None, Some((unit.low, unit.high)));
        plot.mark(0, at, &format!("{}: {} {symbol}", unit.name, fixed(unit.cost, 4)));
    }
    plot.finish()
}

fn without_journal(path: &Path) -> Markup {
    let journal = journal_of(path);
    let lead = format!("How it behaved isn't known: there is no {} with the raw samples.", journal.display());
    section("The machine", &lead).into()
}

fn conditions(profiled: &Profiled, facts: &Facts) -> Element {
    let said = (0..profiled.provenance.len()).map(|index| {
        let key = format!("/provenance/{index}");
        (facts.name(&format!("{key}/key")), facts.name(&format!("{key}/value")))
    });
    section("Conditions and provenance", "As the table states them.")
        .child(element("div").class("cards").child(pairs("Latency table", said)))
}
