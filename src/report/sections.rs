//! The page's words and tables.

use super::facts::{Facts, Format};
use super::markup::{Element, Markup, element, text};
use super::plot::symbol;
use super::summary::{Network, Setting, Summary};
use super::tables::Provenance;

/// The claim in one line, where it was made, and the four figures behind it.
pub fn headline(summary: &Summary, facts: &Facts) -> Markup {
    let faster = summary.speedup >= 1.0;
    let (before, after) = if faster { ("", "× faster") } else { ("Only ", "× the baseline's speed") };
    let claim = element("h1").text(before).child(facts.show("/speedup", Format::Fixed(2))).text(after).text(" at ");
    let claim = claim.child(facts.show("/accuracy_difference", Format::Signed(2))).text(" points");
    let place = element("p").class("lead").text("The network that the search found against the baseline, measured on ");
    let place = place.child(strong(facts.name("/device")));
    let place = place.text(", trained on ").child(strong(facts.name("/dataset"))).text(", searched in ");
    let place = place.child(strong(facts.name("/space"))).text(". ").children(certainty(summary, facts));
    let header = element("header").child(element("p").class("kicker").text("fleetfoot report"));
    header.child(claim).child(place).child(tiles(summary, facts)).into()
}

fn strong(content: Markup) -> Element {
    element("strong").child(content)
}

/// How sure the claim's two numbers are.
fn certainty(summary: &Summary, facts: &Facts) -> Vec<Markup> {
    let show = |key: &str| facts.show(key, Format::Fixed(2));
    let mut parts = Vec::new();
    if summary.speedup_low.is_some() && summary.speedup_high.is_some() {
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
    let ms = |key: &str| show(key, Format::Significant(3));
    let percent = |key: &str| show(key, Format::Fixed(2));
    let target = match summary.search.target_ms {
        Some(_) => vec![text("for a target of "), ms("/search/target_ms"), text(" ms")],
        None => vec![text("expected "), ms("/search/expected_ms"), text(" ms")],
    };
    element("div")
        .class("tiles")
        .child(tile(
            "Measured latency",
            vec![ms("/found/measured_ms"), unit("ms")],
            vec![text("baseline "), ms("/baseline/measured_ms"), text(" ms")],
        ))
        .child(tile(
            "Test accuracy",
            vec![percent("/found/accuracy"), unit("%")],
            vec![text("baseline "), percent("/baseline/accuracy"), text(" %")],
        ))
        .child(tile(
            "Prediction was off by",
            vec![show("/found/prediction_error_percent", Format::Signed(1)), unit("%")],
            vec![text("baseline "), show("/baseline/prediction_error_percent", Format::Signed(1)), text(" %")],
        ))
        .child(tile("Search took", vec![show("/search/minutes", Format::Fixed(1)), unit("min")], target))
}

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

/// The final table: one row a network.
pub fn results(summary: &Summary, facts: &Facts) -> Markup {
    let columns = [
        ("Network", false),
        ("Architecture", false),
        ("Accuracy (%)", true),
        ("Found is ahead by (points)", true),
        ("Predicted (ms)", true),
        ("Measured (ms)", true),
        ("Error (%)", true),
        ("MACs (M)", true),
        ("Parameters (k)", true),
        ("Speed-up", true),
    ];
    let rows = summary.networks().enumerate().map(|(series, (key, network))| result(series, &key, network, facts));
    table(head(&columns), rows)
}

fn result(series: usize, key: &str, network: &Network, facts: &Facts) -> Element {
    let show = |field: &str, format| facts.show(&format!("{key}/{field}"), format);
    let swatch = element("svg").class("swatch").attribute("viewBox", "0 0 16 16").attribute("aria-hidden", "true");
    let name = element("th").attribute("scope", "row").child(swatch.child(symbol(series, 8.0, 8.0, 5.5)));
    let name = name.child(facts.name(&format!("{key}/name")));
    let code = element("td").child(element("code").child(show("architecture", Format::Plain)));
    let mut accuracy = vec![show("accuracy", Format::Fixed(2))];
    accuracy.extend(spread(key, network, facts));
    let mut lead = vec![show("found_lead", Format::Signed(2))];
    if network.found_lead_standard_error.is_some() {
        let error = show("found_lead_standard_error", Format::Fixed(2));
        lead.push(element("small").text("± ").child(error).into());
    }
    let interval = |what: &str, known: bool| {
        let (low, high) = (format!("{what}_low_ms"), format!("{what}_high_ms"));
        let range = [show(&low, Format::Fixed(3)), text(" to "), show(&high, Format::Fixed(3))];
        let range = known.then(|| element("small").children(range).into());
        std::iter::once(show(&format!("{what}_ms"), Format::Fixed(3))).chain(range)
    };
    let predicted = network.predicted_low_ms.is_some() && network.predicted_high_ms.is_some();
    let measured = network.measured_low_ms.is_some() && network.measured_high_ms.is_some();
    element("tr")
        .child(name)
        .child(code)
        .child(number(accuracy))
        .child(number(lead))
        .child(number(interval("predicted", predicted)))
        .child(number(interval("measured", measured)))
        .child(number([show("prediction_error_percent", Format::Signed(1))]))
        .child(number([show("macs_millions", Format::Fixed(2))]))
        .child(number([show("params_thousands", Format::Fixed(1))]))
        .child(number([show("speedup", Format::Fixed(2)), text("×")]))
}

/// What the accuracy may be off by: over the seeds, else by the size of the test set.
fn spread(key: &str, network: &Network, facts: &Facts) -> Option<Markup> {
    let show = |field: &str, format| facts.show(&format!("{key}/{field}"), format);
    let small = element("small").text("± ");
    if network.accuracy_sd.is_some() {
        let small = small.child(show("accuracy_sd", Format::Fixed(2))).text(", ");
        return Some(small.child(show("seeds", Format::Plain)).text(" seeds").into());
    }
    network.accuracy_sampling_error.map(|_| small.child(show("accuracy_sampling_error", Format::Fixed(2))).into())
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
    let columns =
        [("Finalist", false), ("Predicted (ms)", true), ("Validation loss", true), ("Validation accuracy (%)", true)];
    let row = |index: usize| {
        let show = |field: &str, format| facts.show(&format!("/search/finalists/{index}/{field}"), format);
        let code = element("code").child(show("architecture", Format::Plain));
        let row = element("tr").child(element("th").attribute("scope", "row").child(code));
        row.child(number([show("predicted_ms", Format::Fixed(3))]))
            .child(number([show("cross_entropy", Format::Fixed(4))]))
            .child(number([show("accuracy_percent", Format::Fixed(2))]))
    };
    let heading = [element("h3").text("Finalists"), element("p").class("beside").text(lead)];
    Markup::join([Markup::join(heading), table(head(&columns), (0..finalists.len()).map(row))])
}

/// Every training: seed, duration, and the check of its export.
pub fn trainings(summary: &Summary, facts: &Facts) -> Markup {
    let columns = [
        ("Training", false),
        ("Seed", true),
        ("Accuracy (%)", true),
        ("Test loss", true),
        ("Measured (ms)", true),
        ("Samples", true),
        ("Minutes", true),
        ("Epochs", true),
        ("Train images", true),
        ("Batch", true),
        ("Learning rate", true),
        ("Export differs by", true),
    ];
    let rows = summary.networks().flat_map(|(key, network)| {
        let seeds = network.trainings.iter().enumerate();
        seeds.map(move |(index, _)| training_row(&format!("{key}/trainings/{index}"), facts))
    });
    table(head(&columns), rows)
}

fn training_row(key: &str, facts: &Facts) -> Element {
    let show = |field: &str, format| number([facts.show(&format!("{key}/{field}"), format)]);
    let row = element("tr").child(element("th").attribute("scope", "row").child(facts.name(&format!("{key}/folder"))));
    row.child(show("seed", Format::Plain))
        .child(show("accuracy", Format::Fixed(2)))
        .child(show("test_loss", Format::Fixed(4)))
        .child(show("measured_ms", Format::Fixed(3)))
        .child(show("measured_n", Format::Plain))
        .child(show("minutes", Format::Fixed(1)))
        .child(show("recipe/epochs", Format::Plain))
        .child(show("recipe/train_images", Format::Plain))
        .child(show("recipe/batch", Format::Plain))
        .child(show("recipe/lr", Format::Plain))
        .child(show("onnx/max_abs_difference", Format::Scientific(1)))
}

/// Names and values, one below the other.
pub fn pairs(title: &str, pairs: impl IntoIterator<Item = (Markup, Markup)>) -> Element {
    let list = pairs.into_iter().flat_map(|(name, value)| [element("dt").child(name), element("dd").child(value)]);
    let list = element("dl").class("pairs").children(list);
    element("section").class("card").child(element("h3").text(title)).child(list)
}

/// The search's settings and the provenance of both tables.
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
    let sources = &summary.provenance;
    let cards = [
        pairs("Search", summary.search.settings.iter().enumerate().map(setting)),
        pairs("Latency table", sources.table.iter().enumerate().map(source("table"))),
        pairs("Measurements", sources.measured.iter().enumerate().map(source("measured"))),
    ];
    element("div").class("cards").children(cards).into()
}
