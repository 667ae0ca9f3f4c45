//! Pictures that commands write beside their figures.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use fleetfoot_predictor::{CurvePoint, Spread};
use plotters::prelude::*;

/// Extent of a picture in pixels.
const SIZE: (u32, u32) = (960, 420);

/// A learning curve as SVG: error and rank correlation over the number of networks, each with the range of its windows.
pub fn learning_curve(path: &Path, points: &[CurvePoint]) -> Result<()> {
    let mut text = String::new();
    draw(&mut text, points).map_err(|error| anyhow!("can't draw {}: {error}", path.display()))?;
    fleetfoot_profiler::write_atomically(path, text.as_bytes())
        .with_context(|| format!("can't write {}", path.display()))
}

fn draw(text: &mut String, points: &[CurvePoint]) -> Result<(), String> {
    let area = SVGBackend::with_string(text, SIZE).into_drawing_area();
    let told = |error: &dyn std::fmt::Display| error.to_string();
    area.fill(&WHITE).map_err(|error| told(&error))?;
    let halves = area.split_evenly((1, 2));
    let errors: Vec<(f64, Spread)> = points.iter().map(|point| (point.samples as f64, point.rmspe_percent)).collect();
    let ranks = points.iter().filter_map(|point| Some((point.samples as f64, point.spearman?)));
    let ranks: Vec<(f64, Spread)> = ranks.collect();
    let panels = [("RMSPE (%)", errors, true), ("Spearman", ranks, false)];
    for (half, (title, series, from_zero)) in halves.iter().zip(panels) {
        let Some(first) = series.first() else { continue };
        let last = series.iter().map(|(samples, _)| *samples).fold(first.0 + 1.0, f64::max);
        let start = series.iter().map(|(samples, _)| *samples).fold(first.0, f64::min);
        let low = if from_zero { 0.0 } else { series.iter().map(|(_, spread)| spread.low).fold(1.0, f64::min) - 0.01 };
        let high = series.iter().map(|(_, spread)| spread.high).fold(low, f64::max);
        let high = if from_zero { 1.05 * high.max(1e-9) } else { 1.0 };
        let mut chart = ChartBuilder::on(half)
            .margin(14)
            .caption(title, ("sans-serif", 17))
            .x_label_area_size(38)
            .y_label_area_size(48)
            .build_cartesian_2d((start..last).log_scale(), low..high)
            .map_err(|error| told(&error))?;
        let ticks = series.iter().map(|(samples, _)| *samples).collect::<Vec<f64>>();
        chart
            .configure_mesh()
            .x_desc("networks measured")
            .x_labels(ticks.len().max(2))
            .x_label_formatter(&|samples| format!("{samples:.0}"))
            .light_line_style(TRANSPARENT)
            .draw()
            .map_err(|error| told(&error))?;
        let band = series.iter().map(|(samples, spread)| (*samples, spread.low));
        let band = band.chain(series.iter().rev().map(|(samples, spread)| (*samples, spread.high)));
        chart.draw_series([Polygon::new(band.collect::<Vec<_>>(), BLUE.mix(0.15))]).map_err(|error| told(&error))?;
        let line = series.iter().map(|(samples, spread)| (*samples, spread.mean));
        chart.draw_series(LineSeries::new(line.clone(), BLUE.stroke_width(2))).map_err(|error| told(&error))?;
        chart.draw_series(line.map(|point| Circle::new(point, 3, BLUE.filled()))).map_err(|error| told(&error))?;
    }
    area.present().map_err(|error| told(&error))
}
