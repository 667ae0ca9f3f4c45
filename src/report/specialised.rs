//! The page of `fleetfoot matrix --report`: each device's network side by side, and what every network takes on every device.

use anyhow::Result;

use super::facts::{Facts, Format};
use super::markup::{Element, Markup, element, text};
use super::page::{document, section};
use super::picture;
use super::sections::{head, number, pairs, table};
use crate::matrix::outcome::{Device, Matrix, Network, Standing};

/// The page, from the matrix' JSON alone.
pub fn render(json: &str) -> Result<String> {
    let facts = Facts::parse(json)?;
    let matrix: Matrix = serde_json::from_str(json)?;
    let main = element("main")
        .child(headline(&matrix, &facts))
        .child(networks(&matrix, &facts))
        .child(measured(&matrix, &facts))
        .child(origin(&matrix, &facts))
        .child(element("footer").text("Written by ").child(facts.name("/tool")).text("."));
    Ok(document(&format!("fleetfoot: networks of {} on {} devices", matrix.space, matrix.devices.len()), main.into()))
}

fn headline(matrix: &Matrix, facts: &Facts) -> Markup {
    let lead = element("p").class("lead").text("Networks of ").child(element("strong").child(facts.name("/space")));
    let lead = lead.text(", each measured on every device, in rounds that visit all of them in turn.");
    let lines = matrix.devices.iter().enumerate().map(|(index, device)| verdict(index, device, facts));
    let header = element("header").child(element("p").class("kicker").text("fleetfoot matrix"));
    let count = |field: &str| facts.show(&format!("/specialised/{field}"), Format::Plain);
    let claim = element("h1").child(count("fastest")).text(" of ").child(count("networks"));
    let claim = claim.text(" networks are the fastest on their own devices");
    let claim = match matrix.specialised.tied {
        0 => claim,
        1 => claim.text(", ").child(count("tied")).text(" ties"),
        _ => claim.text(", ").child(count("tied")).text(" tie"),
    };
    let header = header.child(claim).child(lead);
    header.child(element("ul").class("verdicts").children(lines)).into()
}

/// What became of a device's own network.
fn verdict(index: usize, device: &Device, facts: &Facts) -> Element {
    let key = format!("/devices/{index}");
    let line = element("li").child(element("strong").child(facts.name(&format!("{key}/name")))).text(": ");
    let Some(own) = &device.own else { return line.text("none of the networks was searched for it.") };
    if own.other.is_none() {
        return line.text("there is no other network than its own.");
    }
    let (words, behind) = match own.standing {
        Standing::Fastest => ("is the fastest; against that of ", ", the next,"),
        Standing::Tie => ("ties with that of ", ":"),
        Standing::Slower => ("is slower than that of ", ":"),
    };
    let line = line.text("its own network ").text(words).child(facts.name(&format!("{key}/own/other")));
    let line = line.text(behind).text(" it takes ");
    let show = |end: usize| facts.show(&format!("{key}/own/slower_percent/{end}"), Format::Signed(1));
    line.child(show(0)).text(" % (").child(show(1)).text(" to ").child(show(2)).text(").")
}

fn networks(matrix: &Matrix, facts: &Facts) -> Markup {
    let expansions =
        matrix.networks.iter().flat_map(|network| network.blocks.iter().filter_map(|block| block.expansion));
    let tallest = expansions.max().unwrap_or(1);
    let shown = matrix.networks.iter().enumerate().map(|(index, network)| {
        let key = format!("/networks/{index}");
        let beside = element("span").class("beside").text(" ").child(facts.name(&format!("{key}/architecture")));
        let beside = beside.text(", ").child(facts.show(&format!("{key}/macs_millions"), Format::Fixed(1)));
        let beside = beside.text(" M MACs, ");
        let beside = beside.child(facts.show(&format!("{key}/params_thousands"), Format::Fixed(1)));
        let title = element("h3").child(facts.name(&format!("{key}/name"))).child(beside.text(" k parameters"));
        let what = format!("{}, architecture {}", network.name, network.architecture);
        let drawing = picture::picture(&network.blocks, &what, &key, tallest, facts);
        element("div").class("architecture").child(title).child(element("div").class("scroll").child(drawing))
    });
    let lead = "Each is named by the device that it was searched for, or by what it is. Blocks of one place stand below each \
                other, from the image on the left to the classes on the right.";
    section("Networks", lead).child(picture::legend()).children(shown).into()
}

fn measured(matrix: &Matrix, facts: &Facts) -> Markup {
    let names: Vec<&str> = matrix.devices.iter().map(|device| device.name.as_str()).collect();
    let columns: Vec<(&str, bool)> =
        std::iter::once(("Network", false)).chain(names.iter().map(|name| (*name, true))).collect();
    let rows = matrix.networks.iter().enumerate().map(|(index, network)| {
        let name = element("th").attribute("scope", "row").child(facts.name(&format!("/networks/{index}/name")));
        let cells = names.iter().enumerate().map(|(device, name)| cell((index, device), network, name, facts));
        element("tr").child(name).children(cells)
    });
    let lead = format!(
        "Milliseconds, with their intervals ({}). A device's own network is framed. What a network takes longer than the \
         fastest of its column has an interval, too: where that holds 0, it is a tie.",
        matrix.interval
    );
    section("Every network on every device", &lead).child(table(head(&columns), rows)).into()
}

fn cell((row, device): (usize, usize), network: &Network, name: &str, facts: &Facts) -> Element {
    let show = |field: &str, format| facts.show(&format!("/networks/{row}/cells/{device}/{field}"), format);
    let ms = |field: &str| show(field, Format::Fixed(4));
    let mut content =
        vec![ms("latency_ms"), element("small").child(ms("low_ms")).text(" to ").child(ms("high_ms")).into()];
    let percent = |field: &str| show(field, Format::Signed(1));
    let standing = network.cells.get(device).map(|cell| cell.standing);
    let against = |words: &str| {
        let small = element("small").text(words).child(percent("slower_percent")).text(" % (");
        small.child(percent("slower_low_percent")).text(" to ").child(percent("slower_high_percent")).text(")").into()
    };
    content.push(match standing {
        Some(Standing::Fastest) => element("small").class("fastest").text("fastest").into(),
        Some(Standing::Tie) => against("tie, "),
        Some(Standing::Slower) => against(""),
        None => text(""),
    });
    let cell = number(content);
    if network.name == name { cell.attribute("data-own", "") } else { cell }
}

fn origin(matrix: &Matrix, facts: &Facts) -> Markup {
    let cards = matrix.devices.iter().enumerate().map(|(index, device)| {
        let pair = |line: usize| {
            let key = format!("/devices/{index}/provenance/{line}");
            (facts.name(&format!("{key}/0")), facts.name(&format!("{key}/1")))
        };
        pairs(&device.name, (0..device.provenance.len()).map(pair))
    });
    section("Conditions", "As each device's file states them.")
        .child(element("div").class("cards").children(cards))
        .into()
}
