//! A small plot: two linear axes, and marks in the data's own coordinates.

use super::markup::{Coordinate, Element, Markup, element, text};

/// Above this many points, a line shows every second, third, … of them.
const MAX_POINTS: usize = 700;
const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 296.0;
const LEFT: f64 = 50.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 36.0;
const BOTTOM: f64 = 40.0;

/// An axis: what it shows, in which unit, from where to where.
#[derive(Clone, Debug)]
pub struct Axis {
    label: String,
    ticks: Vec<f64>,
    decimals: usize,
}

impl Axis {
    /// An axis whose round ticks enclose the values.
    pub fn around(label: &str, values: impl IntoIterator<Item = f64>) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values {
            (low, high) = (low.min(value), high.max(value));
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        let size = low.abs().max(high.abs());
        if high - low <= 1e-6 * size {
            // Five percent on either side of a constant.
            let room = if size > 0.0 { 0.05 * size } else { 0.5 };
            let floor = if low >= 0.0 { 0.0 } else { f64::NEG_INFINITY };
            (low, high) = ((low - room).max(floor), high + room);
        }
        let step = round_step((high - low) / 5.0);
        let (first, last) = ((low / step + 1e-9).floor(), (high / step - 1e-9).ceil());
        let count = (last - first).clamp(1.0, 20.0) as usize;
        let ticks = (0..=count).map(|index| (first + index as f64) * step).collect();
        Self { label: label.to_owned(), ticks, decimals: (-step.log10().floor()).clamp(0.0, 9.0) as usize }
    }

    /// Its end on the left or at the bottom.
    pub fn low(&self) -> f64 {
        self.ticks[0]
    }

    /// Its end on the right or at the top.
    pub fn high(&self) -> f64 {
        self.ticks[self.ticks.len() - 1]
    }

    /// 0 to 1 between the ends.
    fn part(&self, value: f64) -> f64 {
        (value - self.low()) / (self.high() - self.low())
    }

    fn tick_label(&self, tick: f64) -> String {
        let decimals = self.decimals;
        if tick.abs() >= 1e6 { format!("{tick:.1e}") } else { super::facts::fixed(tick, decimals) }
    }
}

/// 1, 2 or 5 times a power of ten, at least this large.
fn round_step(least: f64) -> f64 {
    let magnitude = 10f64.powf(least.log10().floor());
    let step = [1.0, 2.0, 5.0].into_iter().map(|factor| factor * magnitude).find(|&step| step >= least * 0.999);
    step.unwrap_or(10.0 * magnitude)
}

/// A plot under construction. Classes give marks their colours.
pub struct Plot {
    title: String,
    x: Axis,
    y: Axis,
    marks: Vec<Markup>,
}

impl Plot {
    /// An empty plot; the title is for those who can't see it.
    pub fn new(title: &str, x: Axis, y: Axis) -> Self {
        Self { title: title.to_owned(), x, y, marks: Vec::new() }
    }

    fn px(&self, x: f64) -> f64 {
        LEFT + self.x.part(x) * (WIDTH - LEFT - RIGHT)
    }

    fn py(&self, y: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.part(y) * (HEIGHT - TOP - BOTTOM)
    }

    /// A shaded range of x with a label above it.
    pub fn band(&mut self, from: f64, to: f64, label: &str) {
        let (left, right) = self.shade(from, to);
        self.label((left + right) / 2.0, TOP - 5.0, "middle", text(label));
    }

    /// A shaded range of x; where its ends are drawn.
    pub fn shade(&mut self, from: f64, to: f64) -> (f64, f64) {
        let (left, right) = (self.px(from.max(self.x.low())), self.px(to.min(self.x.high())));
        let area = element("rect").class("shade").at("x", left).at("y", TOP).at("width", right - left);
        self.marks.push(area.at("height", HEIGHT - TOP - BOTTOM).into());
        (left, right)
    }

    /// A line from point to point.
    pub fn line(&mut self, class: &str, points: &[(f64, f64)]) {
        let every = points.len().div_ceil(MAX_POINTS).max(1);
        let last = points.len().saturating_sub(1);
        let shown = points.iter().enumerate().filter(|(index, _)| index % every == 0 || *index == last);
        let path: Vec<String> = shown
            .enumerate()
            .map(|(index, (_, &(x, y)))| {
                let (x, y) = (Coordinate(self.px(x)), Coordinate(self.py(y)));
                format!("{}{x} {y}", if index == 0 { 'M' } else { 'L' })
            })
            .collect();
        if !path.is_empty() {
            // Round ends make a dot of a lone point.
            let path = if points.len() == 1 { format!("{}h0", path.concat()) } else { path.concat() };
            self.marks.push(element("path").class(&format!("line {class}")).attribute("d", path).into());
        }
    }

    /// A filled polygon.
    pub fn area(&mut self, class: &str, corners: &[(f64, f64)]) {
        let corners: Vec<String> =
            corners.iter().map(|&(x, y)| format!("{},{}", Coordinate(self.px(x)), Coordinate(self.py(y)))).collect();
        self.marks.push(element("polygon").class(class).attribute("points", corners.join(" ")).into());
    }

    /// A dashed horizontal line with a label at its left end.
    pub fn level(&mut self, class: &str, y: f64, label: Markup) {
        self.line(&format!("level {class}"), &[(self.x.low(), y), (self.x.high(), y)]);
        let at = self.py(y);
        // Below the line where there is no room above it.
        let at = if at < TOP + 18.0 { at + 14.0 } else { at - 5.0 };
        self.label(LEFT + 6.0, at, "start", label);
    }

    /// A dashed vertical line with a label at its upper end.
    pub fn upright(&mut self, class: &str, x: f64, label: Markup) {
        self.line(&format!("level {class}"), &[(x, self.y.low()), (x, self.y.high())]);
        let at = self.px(x);
        let (at, anchor) = if at > WIDTH * 0.7 { (at - 6.0, "end") } else { (at + 6.0, "start") };
        self.label(at, TOP + 10.0, anchor, label);
    }

    /// A horizontal and a vertical interval around a point.
    pub fn intervals(&mut self, class: &str, (x, y): (f64, f64), across: Option<(f64, f64)>, up: Option<(f64, f64)>) {
        if let Some((low, high)) = across {
            self.line(class, &[(low, y), (high, y)]);
        }
        if let Some((low, high)) = up {
            self.line(class, &[(x, low), (x, high)]);
        }
    }

    /// The series' symbol at a point, with a tooltip.
    pub fn mark(&mut self, series: usize, (x, y): (f64, f64), tooltip: &str) {
        let (x, y) = (self.px(x), self.py(y));
        self.marks.push(symbol(series, x, y, 6.0).child(element("title").text(tooltip)).into());
    }

    /// A small dot with a tooltip.
    pub fn dot(&mut self, class: &str, (x, y): (f64, f64), tooltip: &str) {
        let dot = element("circle").class(class).at("cx", self.px(x)).at("cy", self.py(y)).at("r", 3.2);
        self.marks.push(dot.child(element("title").text(tooltip)).into());
    }

    /// A text beside a point.
    pub fn note(&mut self, (x, y): (f64, f64), note: Markup) {
        let (x, y) = (self.px(x), self.py(y));
        let (x, anchor) = if x > WIDTH * 0.7 { (x - 10.0, "end") } else { (x + 10.0, "start") };
        self.label(x, y - 8.0, anchor, note);
    }

    fn label(&mut self, x: f64, y: f64, anchor: &str, label: Markup) {
        let label = element("text").class("note").at("x", x).at("y", y).attribute("text-anchor", anchor).child(label);
        self.marks.push(label.into());
    }

    /// The drawing.
    pub fn finish(self) -> Markup {
        let view = format!("0 0 {WIDTH} {HEIGHT}");
        let svg = element("svg").class("plot").attribute("viewBox", view).attribute("role", "img");
        let svg = svg.attribute("aria-label", &self.title).children(self.grid());
        svg.children(self.marks).into()
    }

    fn grid(&self) -> Vec<Element> {
        let words = |x: f64, y: f64, anchor: &str, class: &str, words: &str| {
            element("text").class(class).at("x", x).at("y", y).attribute("text-anchor", anchor).text(words)
        };
        let rule = |class: &str, x: [f64; 2], y: [f64; 2]| {
            element("line").class(class).at("x1", x[0]).at("x2", x[1]).at("y1", y[0]).at("y2", y[1])
        };
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        let mut parts = Vec::new();
        for &tick in &self.y.ticks {
            let y = self.py(tick);
            parts.push(rule("grid", [LEFT, right], [y, y]));
            parts.push(words(LEFT - 7.0, y + 4.0, "end", "tick", &self.y.tick_label(tick)));
        }
        for &tick in &self.x.ticks {
            let x = self.px(tick);
            parts.push(rule("axis", [x, x], [bottom, bottom + 4.0]));
            parts.push(words(x, bottom + 17.0, "middle", "tick", &self.x.tick_label(tick)));
        }
        parts.push(rule("axis", [LEFT, right], [bottom, bottom]));
        parts.push(words(4.0, 15.0, "start", "label", &self.y.label));
        parts.push(words(right, HEIGHT - 5.0, "end", "label", &self.x.label));
        parts
    }
}

/// The symbol of a series, so that colour isn't all that tells them apart.
pub fn symbol(series: usize, x: f64, y: f64, r: f64) -> Element {
    let polygon = |corners: &[(f64, f64)]| {
        let corners: Vec<String> =
            corners.iter().map(|(dx, dy)| format!("{},{}", Coordinate(x + dx * r), Coordinate(y + dy * r))).collect();
        element("polygon").attribute("points", corners.join(" "))
    };
    let shape = match series % 5 {
        0 => element("circle").at("cx", x).at("cy", y).at("r", r),
        1 => polygon(&[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)]),
        2 => polygon(&[(0.0, -1.25), (1.25, 0.0), (0.0, 1.25), (-1.25, 0.0)]),
        3 => polygon(&[(0.0, -1.15), (1.1, 0.85), (-1.1, 0.85)]),
        _ => polygon(&[(0.0, 1.15), (1.1, -0.85), (-1.1, -0.85)]),
    };
    shape.class(&format!("symbol {}", series_class(series)))
}

/// The class that colours a series.
pub fn series_class(series: usize) -> String {
    format!("s{}", if series < 2 { series } else { 2 + (series - 2) % 4 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_enclose_the_values() {
        let axis = Axis::around("latency (ms)", [1.23, 4.56]);
        assert_eq!((axis.low(), axis.high(), axis.ticks.len()), (1.0, 5.0, 5));
        let axis = Axis::around("accuracy (%)", [0.1, 0.35]);
        assert_eq!(axis.ticks.iter().map(|&tick| axis.tick_label(tick)).next_back().as_deref(), Some("0.35"));
    }

    #[test]
    fn a_constant_an_empty_and_an_enormous_series_have_axes_too() {
        for values in [vec![3.0], vec![0.0], vec![], vec![0.0, 1e308], vec![-5.0, -5.0]] {
            let axis = Axis::around("x", values.iter().copied());
            assert!(axis.low() < axis.high() && axis.low().is_finite() && axis.high().is_finite(), "{values:?}");
            assert!(values.iter().all(|&v| (axis.low()..=axis.high()).contains(&v)), "{values:?} {axis:?}");
        }
    }
}
