//! The final table of the page, and what every network needs of every limit.

use super::amounts::Quantity;
use super::facts::{Facts, Format};
use super::markup::{Element, Markup, element, text};
use super::plot::symbol;
use super::sections::{head, number, table};
use super::summary::{Network, Summary};

/// A network of the table.
struct Row<'a> {
    series: usize,
    key: String,
    network: &'a Network,
    /// What was limited first.
    limited: &'a Quantity,
    facts: &'a Facts,
}

/// A column: its head, whether it holds numbers, and its cell of a network.
type Column = (String, bool, fn(&Row<'_>) -> Element);

/// One row a network. What was neither predicted nor measured nor limited has no column.
pub fn results(summary: &Summary, facts: &Facts) -> Markup {
    let columns = columns(summary);
    let heads: Vec<(&str, bool)> = columns.iter().map(|(name, number, _)| (name.as_str(), *number)).collect();
    let rows = summary.networks().enumerate().map(|(series, (key, network))| {
        let row = Row { series, key, network, limited: &summary.search.limited_first, facts };
        element("tr").children(columns.iter().map(|(_, _, cell)| cell(&row)))
    });
    table(head(&heads), rows)
}

fn columns(summary: &Summary) -> Vec<Column> {
    let (predicted, measured) = (summary.is_predicted(), summary.is_measured());
    let limited = &summary.search.limited_first;
    let by_need = !summary.is_by_latency() && summary.need_ratio.is_some();
    // Two of them have columns of their own.
    let further = by_need && !matches!(limited.unit.as_str(), "MACs" | "params");
    let text = |name: &str, cell: fn(&Row<'_>) -> Element| (name.to_owned(), false, cell);
    let number = |name: &str, cell: fn(&Row<'_>) -> Element| (name.to_owned(), true, cell);
    let columns: [(bool, Column); 12] = [
        (true, text("Network", |row| row.name())),
        (true, text("Architecture", |row| row.architecture())),
        (true, number("Accuracy (%)", |row| row.accuracy())),
        (true, number("Found is ahead by (points)", |row| row.lead())),
        (further, number(&limited.label(), |row| row.one("needs/0", row.limited.format(4), ""))),
        (predicted, number("Predicted (ms)", |row| row.latency("predicted"))),
        (measured, number("Measured (ms)", |row| row.latency("measured"))),
        (predicted && measured, number("Error (%)", |row| row.one("prediction_error_percent", Format::Signed(1), ""))),
        (true, number("MACs (M)", |row| row.one("macs_millions", Format::Fixed(2), ""))),
        (true, number("Parameters (k)", |row| row.one("params_thousands", Format::Fixed(1), ""))),
        (measured, number("Speed-up", |row| row.one("speedup", Format::Fixed(2), "×"))),
        (
            by_need,
            number(&format!("Of the baseline's {}", limited.name), |row| row.one("need_ratio", Format::Fixed(2), "×")),
        ),
    ];
    columns.into_iter().filter(|(told, _)| *told).map(|(_, column)| column).collect()
}

impl Row<'_> {
    fn show(&self, field: &str, format: Format) -> Markup {
        self.facts.show(&format!("{}/{field}", self.key), format)
    }

    fn name(&self) -> Element {
        let swatch = element("svg").class("swatch").attribute("viewBox", "0 0 16 16").attribute("aria-hidden", "true");
        let name = element("th").attribute("scope", "row").child(swatch.child(symbol(self.series, 8.0, 8.0, 5.5)));
        name.child(self.facts.name(&format!("{}/name", self.key)))
    }

    fn architecture(&self) -> Element {
        element("td").child(element("code").child(self.show("architecture", Format::Plain)))
    }

    fn accuracy(&self) -> Element {
        number(std::iter::once(self.show("accuracy", Format::Fixed(2))).chain(self.spread()))
    }

    /// What the accuracy may be off by: over the seeds, else by the size of the test set.
    fn spread(&self) -> Option<Markup> {
        let small = element("small").text("± ");
        if self.network.accuracy_sd.is_some() {
            let small = small.child(self.show("accuracy_sd", Format::Fixed(2))).text(", ");
            return Some(small.child(self.show("seeds", Format::Plain)).text(" seeds").into());
        }
        self.network
            .accuracy_sampling_error
            .map(|_| small.child(self.show("accuracy_sampling_error", Format::Fixed(2))).into())
    }

    fn lead(&self) -> Element {
        let mut lead = vec![self.show("found_lead", Format::Signed(2))];
        if self.network.found_lead_standard_error.is_some() {
            let error = self.show("found_lead_standard_error", Format::Fixed(2));
            lead.push(element("small").text("± ").child(error).into());
        }
        number(lead)
    }

    /// A number, and what stands behind it.
    fn one(&self, field: &str, format: Format, behind: &str) -> Element {
        number([self.show(field, format), text(behind)])
    }

    /// A latency with its interval: `predicted` or `measured`.
    fn latency(&self, what: &str) -> Element {
        let network = self.network;
        let (low, high) = match what {
            "predicted" => (network.predicted_low_ms, network.predicted_high_ms),
            _ => (network.measured_low_ms, network.measured_high_ms),
        };
        let ms = |end: &str| self.show(&format!("{what}{end}_ms"), Format::Fixed(3));
        let range = low.zip(high).map(|_| element("small").child(ms("_low")).text(" to ").child(ms("_high")).into());
        number(std::iter::once(ms("")).chain(range))
    }
}

/// What every network needs of each limit, and of the parts of a weighted mean; nothing where the record doesn't tell.
pub fn needs(summary: &Summary, facts: &Facts) -> Markup {
    let way = &summary.search.way;
    if summary.networks().all(|(_, network)| network.needs.is_empty()) {
        return Markup::default();
    }
    let limits = way.limits.iter().enumerate().map(|(index, limit)| (format!("needs/{index}"), &limit.of));
    let parts = way.weighted.iter().enumerate();
    let parts = parts.map(|(index, weighted)| (format!("weighted_needs/{index}"), &weighted.limit.of));
    let columns: Vec<(String, &Quantity)> = limits.chain(parts).collect();
    let labels: Vec<String> = columns.iter().map(|(_, quantity)| quantity.label()).collect();
    let heads: Vec<(&str, bool)> =
        std::iter::once(("Network", false)).chain(labels.iter().map(|label| (label.as_str(), true))).collect();
    let row = |key: String| {
        let name = element("th").attribute("scope", "row").child(facts.name(&format!("{key}/name")));
        let cell = |(field, quantity): &(String, &Quantity)| {
            number([facts.show(&format!("{key}/{field}"), quantity.format(4))])
        };
        element("tr").child(name).children(columns.iter().map(cell))
    };
    let lead = match way.weighted.is_empty() {
        true => "As the search counts it, or as its tables predict it.",
        false => {
            "As the search's tables predict it. A weighted mean may be met where one of its devices is slower than its target."
        }
    };
    let heading = [element("h3").text("What each network needs"), element("p").class("beside").text(lead)];
    Markup::join([Markup::join(heading), table(head(&heads), summary.networks().map(|(key, _)| row(key)))])
}

/// The parts of a weighted mean: which device counts how much, and what it may take there.
pub fn weighted(summary: &Summary, facts: &Facts) -> Markup {
    let parts = &summary.search.way.weighted;
    if parts.is_empty() {
        return Markup::default();
    }
    let row = |index: usize| {
        let quantity = &parts[index].limit.of;
        let show = |field: &str, format| facts.show(&format!("/search/weighted/{index}/{field}"), format);
        let row = element("tr").child(element("th").attribute("scope", "row").text(&quantity.label()));
        row.child(number([show("weight", Format::Fixed(3))])).child(number([show("at_most", quantity.format(4))]))
    };
    let columns = [("Part of the weighted mean", false), ("Weight", true), ("Target", true)];
    let lead = "The mean of latency over target by these weights: one, where every device takes its target.";
    let lead = element("p").class("beside").text(lead);
    Markup::join([lead.into(), table(head(&columns), (0..parts.len()).map(row))])
}
