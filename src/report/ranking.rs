//! How well the supernet ranks networks: its accuracies against those of trainings from scratch.

use serde::{Deserialize, Serialize};

use super::facts::{Facts, Format, fixed};
use super::markup::{Markup, element, text};
use super::plot::{Axis, Plot};
use super::records::{optional_correlation, percent};
use super::sections::{head, number, table};
use super::summary::Search;

/// What search.json tells of it (`diagnosis`).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Diagnosis {
    /// The networks.
    pub networks: Vec<Diagnosed>,
    /// Epochs of their trainings from scratch.
    pub epochs: u64,
    /// Kendall's tau-b between the two accuracies; none where all of one are equal.
    #[serde(deserialize_with = "optional_correlation")]
    pub kendall: Option<f64>,
    /// Its interval of 90 %, by bootstrap over the networks.
    #[serde(deserialize_with = "optional_correlation")]
    pub low: Option<f64>,
    /// See `low`.
    #[serde(deserialize_with = "optional_correlation")]
    pub high: Option<f64>,
}

/// A network, judged on the validation images.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Diagnosed {
    /// The network.
    pub architecture: String,
    /// By the supernet.
    #[serde(deserialize_with = "percent")]
    pub supernet_accuracy_percent: f64,
    /// Trained from scratch.
    #[serde(deserialize_with = "percent")]
    pub scratch_accuracy_percent: f64,
}

/// A diagnosis with what it comes to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ranking {
    /// As the search told it.
    #[serde(flatten)]
    pub diagnosis: Diagnosis,
    /// How many networks there are.
    pub judged: u64,
    /// Pairs of networks that differ in both accuracies.
    pub pairs: u64,
    /// How many of these the supernet ranks as training from scratch does.
    pub concordant: u64,
}

impl Ranking {
    /// Counts the pairs.
    pub fn of(diagnosis: Diagnosis) -> Self {
        let (mut pairs, mut concordant) = (0, 0);
        for (index, a) in diagnosis.networks.iter().enumerate() {
            for b in &diagnosis.networks[index + 1..] {
                let by_supernet = a.supernet_accuracy_percent - b.supernet_accuracy_percent;
                let product = by_supernet * (a.scratch_accuracy_percent - b.scratch_accuracy_percent);
                pairs += u64::from(product != 0.0);
                concordant += u64::from(product > 0.0);
            }
        }
        Self { judged: diagnosis.networks.len() as u64, diagnosis, pairs, concordant }
    }

    /// What the interval says, for whoever goes by the supernet.
    fn verdict(&self) -> &'static str {
        match (self.diagnosis.low, self.diagnosis.high) {
            (Some(low), Some(high)) if low <= 0.0 && high >= 0.0 => {
                "The interval holds 0: by these networks, the supernet's order can't be told from chance. Finalists, trained from \
                 scratch, are then the stage to trust; more networks would narrow the interval."
            }
            (Some(low), Some(_)) if low > 0.0 => {
                "The interval lies above 0: the supernet ranks better than chance, the better the nearer to 1. It says so of \
                 networks as different as these; those of equal need are harder to tell apart."
            }
            (Some(_), Some(_)) => {
                "The interval lies below 0: the supernet prefers what does worse when it is trained from scratch. A longer warm-up, or \
                 --inherit-after, may mend it; until then only finalists decide."
            }
            _ => "Too few networks, or all alike: nothing can be said of their order.",
        }
    }
}

/// Supernet accuracy against accuracy from scratch, a point a network, and what it means; nothing where the record doesn't
/// tell.
pub fn section(search: &Search, facts: &Facts) -> Markup {
    let Some(ranking) = &search.ranking else { return Markup::default() };
    let show = |key: &str, format| facts.show(&format!("/search/ranking/{key}"), format);
    let lead = "Networks that need between half of what is allowed and all of it, drawn evenly, were each judged twice on the \
                validation images: with the supernet's weights, and trained from scratch by one seed. Where the supernet ranks \
                well, the points rise from left to right; how high its accuracies are doesn't matter.";
    let figures = element("dl").class("figures").children([
        element("dt").text("networks"),
        element("dd").child(show("judged", Format::Plain)),
        element("dt").text("epochs from scratch"),
        element("dd").child(show("epochs", Format::Plain)),
        element("dt").text("Kendall’s τ"),
        element("dd").child(show("kendall", Format::Fixed(2))).children(interval(ranking, facts)),
        element("dt").text("pairs in the same order"),
        element("dd").child(show("concordant", Format::Plain)).text(" of ").child(show("pairs", Format::Plain)),
    ]);
    let words = element("p").class("beside").text(ranking.verdict());
    let pair = element("div").class("pair").child(element("figure").child(plot(search, ranking)));
    let pair = pair.child(element("div").child(figures).child(words));
    let heading = [element("h3").text("How the supernet ranks"), element("p").class("beside").text(lead)];
    Markup::join([Markup::join(heading), pair.into(), networks(ranking, facts)])
}

/// The networks in the order in which they were judged.
fn networks(ranking: &Ranking, facts: &Facts) -> Markup {
    let row = |index: usize| {
        let show = |field: &str, format| facts.show(&format!("/search/ranking/networks/{index}/{field}"), format);
        let code = element("code").child(show("architecture", Format::Plain));
        let row = element("tr").child(element("th").attribute("scope", "row").child(code));
        row.child(number([show("supernet_accuracy_percent", Format::Fixed(2))]))
            .child(number([show("scratch_accuracy_percent", Format::Fixed(2))]))
    };
    let columns = [("Network", false), ("By the supernet (%)", true), ("From scratch (%)", true)];
    let table = table(head(&columns), (0..ranking.diagnosis.networks.len()).map(row));
    let summary = element("summary").text("The networks");
    element("details").class("cuts").child(summary).child(table).into()
}

/// The interval behind τ, where there is one.
fn interval(ranking: &Ranking, facts: &Facts) -> Vec<Markup> {
    if ranking.diagnosis.low.is_none() || ranking.diagnosis.high.is_none() {
        return Vec::new();
    }
    let end = |key: &str| facts.show(&format!("/search/ranking/{key}"), Format::Fixed(2));
    vec![text(" (90 %: "), end("low"), text(" to "), end("high"), text(")")]
}

fn plot(search: &Search, ranking: &Ranking) -> Markup {
    let networks = &ranking.diagnosis.networks;
    let mut plot = Plot::new(
        "Accuracy from scratch against accuracy by the supernet, of every diagnosed network",
        Axis::around("by the supernet (%)", networks.iter().map(|network| network.supernet_accuracy_percent)),
        Axis::around("trained from scratch (%)", networks.iter().map(|network| network.scratch_accuracy_percent)),
    );
    for network in networks {
        let at = (network.supernet_accuracy_percent, network.scratch_accuracy_percent);
        let tooltip = format!(
            "{}: {} % by the supernet, {} % from scratch",
            network.architecture,
            fixed(at.0, 2),
            fixed(at.1, 2)
        );
        if network.architecture == search.architecture {
            plot.mark(0, at, &format!("chosen: {tooltip}"));
            plot.note(at, text("chosen"));
        } else {
            plot.dot("evaluated", at, &tooltip);
        }
    }
    plot.finish()
}
