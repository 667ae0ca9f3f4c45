//! The page's words and tables.

use super::facts::{Facts, Format};
use super::markup::{Element, Markup, element, text};
use super::summary::{Setting, Summary};
use super::tables::Provenance;

/// A figure in large, what it is, and a word beside.
pub fn tile(label: &str, value: Vec<Markup>, note: Vec<Markup>) -> Element {
    let value = element("p").class("figure").children(value);
    let tile = element("div").class("tile").child(element("p").class("name").text(label));
    tile.child(value).child(element("p").class("beside").children(note))
}

/// The unit behind a figure.
pub fn unit(unit: &str) -> Markup {
    element("small").text(unit).into()
}

/// The warnings, if there are any.
pub fn warnings(summary: &Summary, facts: &Facts) -> Markup {
    if summary.warnings.is_empty() {
        return Markup::default();
    }
    let items = (0..summary.warnings.len()).map(|i| element("li").child(facts.name(&format!("/warnings/{i}"))));
    let list = element("ul").children(items);
    let aside = element("aside").class("warnings").attribute("role", "note");
    aside.child(element("h2").text("Read with care")).child(list).into()
}

/// A row of headers; numbers stand on the right.
pub fn head(columns: &[(&str, bool)]) -> Element {
    let cell = |&(name, number): &(&str, bool)| {
        let cell = element("th").attribute("scope", "col").text(name);
        if number { cell.class("n") } else { cell }
    };
    element("thead").child(element("tr").children(columns.iter().map(cell)))
}

/// A table that scrolls where it is too wide.
pub fn table(head: Element, rows: impl IntoIterator<Item = Element>) -> Markup {
    let table = element("table").child(head).child(element("tbody").children(rows));
    element("div").class("scroll").child(table).into()
}

/// A cell with a number.
pub fn number(content: impl IntoIterator<Item = Markup>) -> Element {
    element("td").class("n").children(content)
}

/// The predictor's figures on networks that took no part in the fit.
pub fn evaluation(summary: &Summary, facts: &Facts) -> Markup {
    if summary.evaluation.is_none() {
        return element("p")
            .class("beside")
            .text("The run holds no evaluate.json: no further networks were measured.")
            .into();
    }
    let figures = [
        ("RMSPE", "rmspe_percent", 2, " %"),
        ("MAPE", "mape_percent", 2, " %"),
        ("within 5 %", "within_5_percent", 1, " % of networks"),
        ("within 10 %", "within_10_percent", 1, " % of networks"),
        ("Spearman’s ρ", "spearman", 3, ""),
        ("Kendall’s τ", "kendall", 3, ""),
        ("repeatability", "repeatability_percent", 2, " %"),
        ("device’s time against the table’s", "slower_percent", 1, " %"),
    ];
    let shown = |name: &str, field: &str, decimals, unit: &str| {
        let format = if field == "slower_percent" { Format::Signed(decimals) } else { Format::Fixed(decimals) };
        let value = facts.show(&format!("/evaluation/{field}"), format);
        [element("dt").text(name), element("dd").child(value).text(unit)]
    };
    let networks = facts.show("/evaluation/networks", Format::Plain);
    let list = element("dl").class("figures").children([element("dt").text("networks"), element("dd").child(networks)]);
    list.children(figures.into_iter().flat_map(|(name, field, decimals, unit)| shown(name, field, decimals, unit)))
        .into()
}

/// The networks of the search's last stage, if there was one.
pub fn finalists(summary: &Summary, facts: &Facts) -> Markup {
    let finalists = &summary.search.finalists;
    if finalists.is_empty() {
        return Markup::default();
    }
    let lead = "Networks that meet the target, trained from scratch for a short while and judged on the images that the \
                gates learned from. The first one is the result.";
    let quantity = &summary.search.limited_first;
    let needs = quantity.label();
    let columns =
        [("Finalist", false), (&needs[..], true), ("Validation loss", true), ("Validation accuracy (%)", true)];
    let row = |index: usize| {
        let show = |field: &str, format| facts.show(&format!("/search/finalists/{index}/{field}"), format);
        let code = element("code").child(show("architecture", Format::Plain));
        let row = element("tr").child(element("th").attribute("scope", "row").child(code));
        row.child(number([show("predicted", quantity.format(4))]))
            .child(number([show("cross_entropy", Format::Fixed(4))]))
            .child(number([show("accuracy_percent", Format::Fixed(2))]))
    };
    let heading = [element("h3").text("Finalists"), element("p").class("beside").text(lead)];
    Markup::join([Markup::join(heading), table(head(&columns), (0..finalists.len()).map(row))])
}

/// A training's columns: their heads, the fields behind them, and how they are shown.
const TRAINING: [(&str, &str, Format); 11] = [
    ("Seed", "seed", Format::Plain),
    ("Accuracy (%)", "accuracy", Format::Fixed(2)),
    ("Test loss", "test_loss", Format::Fixed(4)),
    ("Measured (ms)", "measured_ms", Format::Fixed(3)),
    ("Samples", "measured_n", Format::Plain),
    ("Minutes", "minutes", Format::Fixed(1)),
    ("Epochs", "recipe/epochs", Format::Plain),
    ("Train images", "recipe/train_images", Format::Plain),
    ("Batch", "recipe/batch", Format::Plain),
    ("Learning rate", "recipe/lr", Format::Plain),
    ("Export differs by", "onnx/max_abs_difference", Format::Scientific(1)),
];

/// Every training: seed, duration, and the check of its export.
pub fn trainings(summary: &Summary, facts: &Facts) -> Markup {
    let columns: Vec<(&str, &str, Format)> =
        TRAINING.into_iter().filter(|(_, field, _)| summary.is_measured() || !field.starts_with("measured")).collect();
    let heads: Vec<(&str, bool)> =
        std::iter::once(("Training", false)).chain(columns.iter().map(|(name, ..)| (*name, true))).collect();
    let row = |key: String| {
        let name = element("th").attribute("scope", "row").child(facts.name(&format!("{key}/folder")));
        let cell = |&(_, field, format): &(&str, &str, Format)| number([facts.show(&format!("{key}/{field}"), format)]);
        element("tr").child(name).children(columns.iter().map(cell))
    };
    let keys = summary
        .networks()
        .flat_map(|(key, network)| (0..network.trainings.len()).map(move |index| format!("{key}/trainings/{index}")));
    table(head(&heads), keys.map(row))
}

/// Names and values, one below the other.
pub fn pairs(title: &str, pairs: impl IntoIterator<Item = (Markup, Markup)>) -> Element {
    let list = pairs.into_iter().flat_map(|(name, value)| [element("dt").child(name), element("dd").child(value)]);
    let list = element("dl").class("pairs").children(list);
    element("section").class("card").child(element("h3").text(title)).child(list)
}

/// The settings of the search and of the baseline's training, and the provenance of the tables that there are.
pub fn provenance(summary: &Summary, facts: &Facts) -> Markup {
    let setting = |(index, _): (usize, &Setting)| {
        let key = format!("/search/settings/{index}");
        (facts.name(&format!("{key}/key")), facts.name(&format!("{key}/value")))
    };
    let source = |name: &'static str| {
        move |(index, _): (usize, &Provenance)| {
            let key = format!("/provenance/{name}/{index}");
            (facts.name(&format!("{key}/key")), facts.name(&format!("{key}/value")))
        }
    };
    let recipe = |key: &String| {
        // A name with a slash or a tilde is another in a pointer.
        let pointer = format!("/baseline/recipe/settings/{}", key.replace('~', "~0").replace('/', "~1"));
        (text(key), facts.show(&pointer, Format::Plain))
    };
    let (sources, trained) = (&summary.provenance, &summary.baseline.recipe.settings);
    let search = pairs("Search", summary.search.settings.iter().enumerate().map(setting));
    let trained = (!trained.is_empty()).then(|| pairs("Training of the baseline", trained.keys().map(recipe)));
    let file = |title: &str, name: &'static str, lines: &[Provenance]| {
        (!lines.is_empty()).then(|| pairs(title, lines.iter().enumerate().map(source(name))))
    };
    let cost = sources.table.iter().find(|line| line.key == "cost").map_or("latency", |line| line.value.as_str());
    let cards = [
        Some(search),
        trained,
        file(&format!("Table of {cost}"), "table", &sources.table),
        file("Measurements", "measured", &sources.measured),
    ];
    element("div").class("cards").children(cards.into_iter().flatten()).into()
}
