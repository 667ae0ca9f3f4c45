//! A network as a row of blocks, as in figure 4 of the ProxylessNAS paper: colour is the kernel size, height the
//! expansion ratio.

use super::facts::{Facts, Format};
use super::markup::{Coordinate, Element, Markup, element};
use super::summary::Block;

const PITCH: f64 = 42.0;
const BLOCK: f64 = 30.0;
/// Height of a block with expansion ratio 6; the others are in proportion.
const TALL: f64 = 132.0;
/// Height of a block without expansion ratio.
const PLAIN: f64 = 90.0;
const TOP: f64 = 26.0;
const MIDDLE: f64 = TOP + TALL / 2.0;
const UNDER: f64 = TOP + TALL + 20.0;
const HEIGHT: f64 = UNDER + 52.0;
/// A block lower than this has no room for its label.
const ROOM: f64 = 56.0;

/// The picture of the blocks of the network at `key`; `what` is for those who can't see it, `tallest` the largest expansion
/// ratio of all pictures.
pub fn picture(blocks: &[Block], what: &str, key: &str, tallest: usize, facts: &Facts) -> Markup {
    let width = PITCH * blocks.len() as f64 + 8.0;
    let mut svg = element("svg").class("network").attribute("viewBox", format!("0 0 {width} {HEIGHT}"));
    svg = svg.attribute("width", width).attribute("height", HEIGHT).attribute("role", "img");
    svg = svg.attribute("aria-label", format!("The blocks of {what}"));
    let (from, to) = (4.0 + (PITCH - BLOCK) / 2.0, width - 4.0 - (PITCH - BLOCK) / 2.0);
    svg = svg.child(element("line").class("flow").at("x1", from).at("x2", to).at("y1", MIDDLE).at("y2", MIDDLE));
    for (index, block) in blocks.iter().enumerate() {
        let x = 4.0 + PITCH * (index as f64 + 0.5);
        svg = svg.children(draw(block, x, tallest, &format!("{key}/blocks/{index}"), facts));
    }
    for (first, last) in stages(blocks) {
        svg = svg.children(under(blocks, (first, last), &format!("{key}/blocks/{last}"), facts));
    }
    svg.into()
}

fn words(class: &str, x: f64, y: f64) -> Element {
    element("text").class(class).at("x", x).at("y", y).attribute("text-anchor", "middle")
}

/// A block around `x`, with its label.
fn draw(block: &Block, x: f64, tallest: usize, key: &str, facts: &Facts) -> Vec<Element> {
    let tooltip = |block: &Block| {
        let Block { name, label, channels, height, width, .. } = block;
        element("title").text(&format!("{name}: {label}, to {channels} × {height} × {width}"))
    };
    if block.zero {
        let hole = element("rect").class("zero").at("x", x - BLOCK / 2.0).at("y", MIDDLE - 11.0).attribute("rx", 4);
        return vec![hole.at("width", BLOCK).at("height", 22.0).child(tooltip(block))];
    }
    let height = block.expansion.map_or(PLAIN, |e| TALL * e as f64 / tallest.max(6) as f64);
    let class = match (block.stage, block.kernel) {
        (None, _) => "block fixed".to_owned(),
        (Some(_), Some(kernel @ (3 | 5 | 7))) => format!("block k{kernel}"),
        (Some(_), _) => "block other".to_owned(),
    };
    let body = element("rect").class(&class).at("x", x - BLOCK / 2.0).at("y", MIDDLE - height / 2.0).attribute("rx", 4);
    let mut parts = vec![body.at("width", BLOCK).at("height", height).child(tooltip(block))];
    // Turned, beside the block's middle; above the block where it is too low.
    let y = if height < ROOM { MIDDLE - height / 2.0 - 6.0 } else { MIDDLE };
    let place = format!("translate({} {}) rotate(-90)", Coordinate(x + 4.0), Coordinate(y));
    let label = element("text").class(if height < ROOM { "outside" } else { "inside" }).attribute("transform", place);
    let anchor = if height < ROOM { "start" } else { "middle" };
    parts.push(label.attribute("text-anchor", anchor).child(facts.draw(&format!("{key}/label"), Format::Plain)));
    if block.stride > 1 {
        parts.push(stride(block, x, height, key, facts));
    }
    parts
}

/// The mark of a block that makes the map smaller: an arrow down over it.
fn stride(block: &Block, x: f64, height: f64, key: &str, facts: &Facts) -> Element {
    let outside = if height < ROOM { 62.0 } else { 0.0 };
    let mark = words("stride", x, MIDDLE - height / 2.0 - 6.0 - outside).text("↓");
    let tooltip = element("title").text(&format!("stride {}", block.stride));
    mark.child(facts.draw(&format!("{key}/stride"), Format::Plain)).child(tooltip)
}

/// First and last index of blocks that belong together: a stage, or one fixed block.
fn stages(blocks: &[Block]) -> Vec<(usize, usize)> {
    let mut stages: Vec<(usize, usize)> = Vec::new();
    for (index, block) in blocks.iter().enumerate() {
        match stages.last_mut() {
            Some((_, last)) if block.stage.is_some() && blocks[*last].stage == block.stage => *last = index,
            _ => stages.push((index, index)),
        }
    }
    stages
}

/// A stage's bracket, its channels and its map.
fn under(blocks: &[Block], (first, last): (usize, usize), key: &str, facts: &Facts) -> Vec<Element> {
    let (left, right) = (4.0 + PITCH * first as f64 + 4.0, 4.0 + PITCH * (last + 1) as f64 - 4.0);
    let bracket = format!("M{} {}v5H{}v-5", Coordinate(left), Coordinate(UNDER - 8.0), Coordinate(right));
    let middle = (left + right) / 2.0;
    let value = |field: &str| facts.draw(&format!("{key}/{field}"), Format::Plain);
    let channels = words("channels", middle, UNDER + 14.0).child(value("channels"));
    let map = words("map", middle, UNDER + 29.0).child(value("height")).text("×").child(value("width"));
    let mut parts = vec![element("path").class("bracket").attribute("d", bracket), channels, map];
    let name = match blocks[last].stage {
        Some(_) if last > first => Some(words("map", middle, UNDER + 44.0).text("stage ").child(value("stage"))),
        Some(_) => None,
        None => Some(words("map", middle, UNDER + 44.0).child(value("name"))),
    };
    parts.extend(name);
    parts
}

/// What colours, heights and marks mean.
pub fn legend() -> Markup {
    let swatch = |class: &str, height: f64| {
        let svg = element("svg").class("swatch").attribute("viewBox", "0 0 16 16").attribute("aria-hidden", "true");
        let rect = element("rect").class(class).at("x", 3.0).at("width", 10.0).attribute("rx", 2);
        svg.child(rect.at("y", 8.0 - height / 2.0).at("height", height))
    };
    let entry = |class: &str, height: f64, what: &str| element("li").child(swatch(class, height)).text(what);
    let list = element("ul").class("legend").child(entry("block k3", 14.0, "kernel 3×3"));
    let list = list.child(entry("block k5", 14.0, "kernel 5×5")).child(entry("block k7", 14.0, "kernel 7×7"));
    let list = list.child(entry("block fixed", 14.0, "fixed block")).child(entry("zero", 8.0, "zero: left out"));
    let list = list.child(element("li").child(element("b").text("height")).text(" expansion ratio"));
    let list = list.child(element("li").child(element("b").text("↓2")).text(" stride 2"));
    list.child(element("li").child(element("b").text("below")).text(" output channels and map")).into()
}
