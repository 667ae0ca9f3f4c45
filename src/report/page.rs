//! `report.html`: one file that needs nothing else, rendered from the text of `summary.json` alone.

use anyhow::Result;

use super::facts::{Facts, Format};
use super::markup::{Element, Markup, element, text};
use super::summary::{Search, Summary};
use super::timeline::Timeline;
use super::way::Bound;
use super::{
    curves, gates, headline, heat_map, limits, picture, ranking, results, rivals, scatter, sections, timeline,
};

/// No script runs and nothing is fetched, whatever the run's names say.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";
const STYLE: &str = include_str!("page.css");

/// The page.
pub fn render(summary_json: &str) -> Result<String> {
    let facts = Facts::parse(summary_json)?;
    let summary: Summary = serde_json::from_str(summary_json)?;
    let body = element("main")
        .child(headline::headline(&summary, &facts))
        .child(sections::warnings(&summary, &facts))
        .child(final_results(&summary, &facts))
        .child(networks(&summary, &facts))
        .children(predictions(&summary, &facts))
        .children(summary.timeline.as_ref().map(|timeline| machine(timeline, &facts)))
        .child(search(&summary, &facts))
        .child(training(&summary, &facts))
        .child(origin(&summary, &facts))
        .child(footer(&facts));
    let title = match summary.is_measured() {
        true => format!("fleetfoot: {} on {}", summary.dataset, summary.device),
        false => format!("fleetfoot: {} by {}", summary.dataset, summary.search.limited_first.name),
    };
    Ok(document(&title, body.into()))
}

/// A page that needs nothing else, with the report's style.
pub fn document(title: &str, body: Markup) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<link rel=\"icon\" href=\"data:,\">\n\
         <title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n{}\n</body>\n</html>\n",
        text(title).as_str(),
        body.as_str()
    )
}

/// A section of a page.
pub fn section(title: &str, lead: &str) -> Element {
    element("section").child(element("h2").text(title)).child(element("p").class("beside").text(lead))
}

/// A drawing with its words.
pub fn figure(drawing: Markup, caption: Markup) -> Element {
    element("figure").child(drawing).child(element("figcaption").child(caption))
}

fn final_results(summary: &Summary, facts: &Facts) -> Markup {
    let spread = if summary.networks().any(|(_, network)| network.accuracy_sd.is_some()) {
        "standard deviation over the seeds, or the standard error that a test set of this size has"
    } else {
        "the standard error that a test set of this size has"
    };
    let measured = if summary.is_measured() { " and measured as a whole" } else { "" };
    let latencies = match (summary.is_measured(), summary.is_predicted()) {
        (true, true) => "small numbers below latencies are their intervals; the error is that of the prediction; ",
        (true, false) | (false, true) => "small numbers below latencies are their intervals; ",
        (false, false) => "",
    };
    let lead = format!(
        "Every network was trained from scratch{measured}. ± is {spread}; {latencies}what the found network is ahead by has \
         its standard error."
    );
    let by_need =
        (!summary.is_by_latency() && summary.need_ratio.is_some()).then(|| scatter::over_need(summary, facts));
    let by_latency = summary.is_measured().then(|| scatter::over_latency(summary, facts));
    let drawings: Vec<Markup> = by_need.into_iter().chain(by_latency).collect();
    let class = if drawings.len() == 1 { "single" } else { "pair" };
    let plots = drawings.into_iter().map(|drawing| figure(drawing, scatter::legend(summary, facts, false)));
    section("Result", &lead)
        .child(results::results(summary, facts))
        .child(element("div").class(class).children(plots))
        .into()
}

fn networks(summary: &Summary, facts: &Facts) -> Markup {
    let expansions =
        summary.networks().flat_map(|(_, network)| network.blocks.iter().filter_map(|block| block.expansion));
    let tallest = expansions.max().unwrap_or(1);
    let lead = "From the image on the left to the classes on the right. MB6 5×5 is an inverted bottleneck with expansion \
                ratio 6 and a depthwise kernel of 5×5.";
    let shown = [("/found", &summary.found), ("/baseline", &summary.baseline)].map(|(key, network)| {
        let title = element("h3").child(facts.name(&format!("{key}/name")));
        let what = format!("{}, architecture {}", network.name, network.architecture);
        let ms = |_| facts.show(&format!("{key}/measured_ms"), Format::Significant(3));
        let latency = network.measured_ms.map(ms).into_iter().flat_map(|ms| [ms, text(" ms, ")]);
        let beside = element("span").class("beside").text(" ").children(latency);
        let beside = beside.child(facts.show(&format!("{key}/macs_millions"), Format::Fixed(1)));
        let title = title.child(beside.text(" M MACs"));
        let drawing =
            element("div").class("scroll").child(picture::picture(&network.blocks, &what, key, tallest, facts));
        element("div").class("architecture").child(title).child(drawing)
    });
    section("Networks", lead).child(picture::legend()).children(shown).into()
}

/// Nothing where no latency was both predicted and measured.
fn predictions(summary: &Summary, facts: &Facts) -> Option<Markup> {
    if summary.evaluation.is_none() && !(summary.is_predicted() && summary.is_measured()) {
        return None;
    }
    let lead = "Each prediction was made without running the network; bars are intervals.";
    let evaluated = summary.evaluation.as_ref().is_some_and(|evaluation| !evaluation.points.is_empty());
    let plot = figure(scatter::predictions(summary), scatter::legend(summary, facts, evaluated));
    let pair =
        element("div").class("pair").child(plot).child(element("div").child(sections::evaluation(summary, facts)));
    Some(section("Predicted and measured latency", lead).child(pair).into())
}

/// How the machine behaved.
pub fn machine(known: &Timeline, facts: &Facts) -> Markup {
    let lead = "How fast it was while the latency table was measured, as all blocks' times and the core's pace tell it, and \
                what its system showed meanwhile.";
    let plot = figure(timeline::plot(known), timeline::caption());
    let pair = element("div").class("pair").child(plot).child(element("div").child(timeline::figures(known, facts)));
    section("The machine", lead).child(pair).into()
}

fn search(summary: &Summary, facts: &Facts) -> Markup {
    let lead = chosen(summary, facts);
    let heat = element("div").class("scroll").child(heat_map::heat_map(&summary.search, facts));
    let caption = element("p").class("beside");
    let caption = caption.text("Probability of every candidate at every decision; the one that was chosen is framed.");
    let plots = curves::search(summary, facts).into_iter().map(|plot| element("figure").child(plot));
    let section = element("section").child(element("h2").text("Search")).child(lead);
    let section = section.child(element("div").class("grid").children(plots));
    let section = section.child(held(summary, facts));
    let section = section.child(element("h3").text("Gates")).child(caption).child(heat);
    section
        .child(gates::over_time(&summary.search, facts))
        .child(limits::cuts(&summary.search, facts))
        .child(rivals::measured(&summary.search, facts))
        .child(rivals::pareto(&summary.search, facts))
        .child(rivals::rivals(&summary.search, facts))
        .child(ranking::section(&summary.search, facts))
        .child(sections::finalists(summary, facts))
        .into()
}

/// What the search chose, and how that stands to what was limited first.
fn chosen(summary: &Summary, facts: &Facts) -> Element {
    let Search { limited_first: limited, way, .. } = &summary.search;
    let amount = |key: &str| [facts.show(key, limited.format(4)), text(&limited.behind())];
    let mut lead = element("p").class("beside").text("The search chose ");
    lead = lead.child(element("code").child(facts.show("/search/architecture", Format::Plain)));
    if summary.search.predicted.is_some() {
        let need = if limited.is_counted() { ", which needs " } else { ", predicted at " };
        lead = lead.text(need).children(amount("/search/predicted"));
    }
    if summary.search.target_missed_percent.is_some() {
        let missed = facts.show("/search/target_missed_percent", Format::Signed(1));
        let bound = if summary.search.bound() == Bound::Target { "target" } else { "limit" };
        lead = lead.text(" (").child(missed).text(" % from the ").text(bound).text(" of ");
        lead = lead.children(amount("/search/target")).text(")");
    }
    lead = lead.text("; the gates expected ").children(amount("/search/expected")).text(" at the end.");
    if limited.needs_a_name() {
        lead = lead.text(" That is of the ").child(facts.name("/search/limited_first/name")).text(".");
    }
    if way.limits.len() > 1 { lead.text(" Further limits held as well.") } else { lead }
}

/// What the gates expected against what was allowed, where the record tells it.
fn held(summary: &Summary, facts: &Facts) -> Markup {
    if summary.search.way.history.is_empty() {
        return Markup::default();
    }
    let plots = limits::plots(&summary.search, facts).into_iter().map(|plot| element("figure").child(plot));
    let lead = "Limits go from what undecided gates expect to where they end, and the gates are held at them.";
    let heading = [element("h3").text("Expected and allowed"), element("p").class("beside").text(lead)];
    let grid = element("div").class("grid").children(plots);
    let reached = limits::reached(&summary.search, facts);
    let (weighted, needs) = (results::weighted(summary, facts), results::needs(summary, facts));
    Markup::join([Markup::join(heading), limits::legend(), grid.into(), reached, weighted, needs])
}

fn training(summary: &Summary, facts: &Facts) -> Markup {
    let plots = curves::training(summary).into_iter().map(|plot| element("figure").child(plot));
    section("Training", "From scratch, by the settings below; further seeds of a network are drawn thinner.")
        .child(curves::legend(summary, facts))
        .child(element("div").class("grid").children(plots))
        .child(sections::trainings(summary, facts))
        .into()
}

fn origin(summary: &Summary, facts: &Facts) -> Markup {
    section("Settings and provenance", "As the run's files state them.")
        .child(sections::provenance(summary, facts))
        .into()
}

fn footer(facts: &Facts) -> Markup {
    let footer = element("footer").text("Written by ").child(facts.name("/tool"));
    footer.text("; every number on this page stands in summary.json.").into()
}
