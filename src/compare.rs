//! `fleetfoot compare`: two latency tables, unit by unit.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use fleetfoot_console::claim;
use fleetfoot_profiler::{Comparison, Cost, LatencyTable, Ratio, write_atomically};
use serde_json::json;

use crate::measuring::{INTERVAL, tell_paces};
use crate::report::markup::{Markup, element};
use crate::report::plot::{Axis, Plot};
use crate::report::{facts::fixed, page::document};

/// Options of `compare`.
#[derive(Debug, Args)]
pub struct Options {
    /// A latency table
    #[arg(value_name = "A")]
    first: PathBuf,
    /// The one that is held against it: ratios are B / A
    #[arg(value_name = "B")]
    second: PathBuf,
    /// Print the figures as JSON instead of every unit's ratio as CSV
    #[arg(long)]
    json: bool,
    /// Draw the ratios with their intervals on an HTML page
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
    /// Replace an existing picture
    #[arg(long, requires = "picture")]
    force: bool,
}

/// Runs the command.
pub fn run(options: &Options) -> Result<()> {
    if let Some(picture) = &options.picture {
        claim(picture, options.force, "or replace it with --force")?;
    }
    let [first, second] = [read(&options.first)?, read(&options.second)?];
    if first.cost() != second.cost() {
        bail!(
            "{} is of {}, {} of {}: wanted tables of one cost",
            options.first.display(),
            first.cost(),
            options.second.display(),
            second.cost()
        );
    }
    let comparison = Comparison::new(&first, &second);
    let (Some(median), Some(p95)) = (comparison.abs_percent(0.5), comparison.abs_percent(0.95)) else {
        bail!("{} and {} have no unit in common", options.first.display(), options.second.display());
    };
    let (operators, beyond) = (comparison.ratios.len(), comparison.beyond_noise());
    tell_conditions(&first, &second);
    for (path, alone) in [(&options.first, &comparison.only_first), (&options.second, &comparison.only_second)] {
        if let Some(key) = alone.first() {
            eprintln!("only in {}: {} units, such as {key}", path.display(), alone.len());
        }
    }
    if let Some(key) = comparison.free.first() {
        eprintln!("left out: {} units that cost nothing in one of the tables, such as {key}", comparison.free.len());
    }
    eprintln!(
        "{operators} units: |B / A - 1| is {median:.2} % in the median, {p95:.2} % at the 95th percentile; {beyond} differ \
         beyond noise"
    );
    if let Some(path) = &options.picture {
        let title = format!("{} against {}", options.second.display(), options.first.display());
        write_atomically(path, document(&title, drawing(&title, first.cost(), &comparison)).as_bytes())
            .with_context(|| format!("can't write {}", path.display()))?;
        eprintln!("{}", path.display());
    }
    let mut out = io::stdout().lock();
    if options.json {
        let figures = json!({
            "operators": operators, "median_abs_percent": median, "p95_abs_percent": p95, "beyond_noise": beyond,
        });
        writeln!(out, "{figures}")?;
    } else {
        out.write_all(&csv(first.cost(), &comparison)?)?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<LatencyTable> {
    let (table, warnings) = LatencyTable::read(path)?;
    warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    Ok(table)
}

/// What else differs: the tables may be of two devices.
fn tell_conditions(first: &LatencyTable, second: &LatencyTable) {
    if let (Some(ours), Some(theirs)) = (first.conditions(), second.conditions())
        && let Err(differences) = ours.compatible(&theirs)
    {
        eprintln!("conditions differ: {differences}");
    }
    for (whose, table) in [("A", first), ("B", second)] {
        let says = table.provenance.get("interval");
        if says != Some(INTERVAL) {
            let says = says.map_or("of an unknown kind".to_owned(), |says| format!("'{says}'"));
            eprintln!(
                "warning: {whose}'s intervals are {says}, taken for '{INTERVAL}': what is said of noise is rough"
            );
        }
    }
    tell_paces(first.provenance.pace(), second.provenance.pace(), "for B against that for A");
    match (first.provenance.best_vector_ns(), second.provenance.best_vector_ns()) {
        (Some(first), Some(second)) => {
            let percent = 100.0 * (second / first - 1.0);
            eprintln!(
                "both stand at the core's best pace, at which vector arithmetic takes {percent:+.1} % for B against A"
            );
        }
        (None, None) => {}
        (at_best, _) => {
            let [best, usual] = if at_best.is_some() { ["A", "B"] } else { ["B", "A"] };
            eprintln!("warning: {best} stands at the core's best pace, {usual} at the usual one, which is slower");
        }
    }
}

fn csv(cost: Cost, comparison: &Comparison) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let [a, b] = [cost.column("a"), cost.column("b")];
    writer.write_record(["operator", &a, &b, "ratio", "low", "high", "beyond_noise"])?;
    for ratio in &comparison.ratios {
        let numbers = [ratio.first.ms(), ratio.second.ms(), ratio.ratio, ratio.low, ratio.high];
        let mut record = vec![ratio.name.clone()];
        record.extend(numbers.map(|number| number.to_string()));
        record.push(u8::from(ratio.is_beyond_noise()).to_string());
        writer.write_record(record)?;
    }
    Ok(writer.into_inner().map_err(csv::IntoInnerError::into_error)?)
}

/// Ratios in ascending order with their intervals; those beyond noise are marked.
fn drawing(title: &str, cost: Cost, comparison: &Comparison) -> Markup {
    let mut ratios: Vec<&Ratio> = comparison.ratios.iter().collect();
    ratios.sort_by(|a, b| a.ratio.total_cmp(&b.ratio));
    // Intervals that reach to 0 or far away would squeeze the rest.
    let (least, most) = (ratios[0].ratio, ratios[ratios.len() - 1].ratio);
    let shown = |end: f64| end.clamp(0.5 * least, 2.0 * most);
    let ends = ratios.iter().flat_map(|ratio| [shown(ratio.low), shown(ratio.high)]).chain([1.0]);
    let x = Axis::around("units, by their ratio", [0.0, ratios.len() as f64]);
    let mut plot = Plot::new(title, x, Axis::around(&format!("ratio of {cost}, B / A"), ends));
    plot.line("level", &[(0.0, 1.0), (ratios.len() as f64, 1.0)]);
    for (index, ratio) in ratios.iter().enumerate() {
        let at = (index as f64 + 0.5, ratio.ratio);
        let series = usize::from(!ratio.is_beyond_noise());
        plot.intervals(&format!("interval s{series}"), at, None, Some((shown(ratio.low), shown(ratio.high))));
        let number = |number: f64| fixed(number, 3);
        let interval = format!("{} ({} to {})", number(ratio.ratio), number(ratio.low), number(ratio.high));
        plot.mark(series, at, &format!("{}: {interval}", ratio.name));
    }
    let caption = "Round marks: units whose interval (99 %) leaves no doubt that they differ. Square ones: the rest.";
    let figure = element("figure").child(plot.finish()).child(element("figcaption").text(caption));
    let main = element("main").child(element("h1").text(title));
    main.child(element("div").class("single").child(figure)).into()
}
