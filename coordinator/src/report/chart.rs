//! Line charts over rounds or another quantity.

use std::fmt::Write as _;

use super::drawing::Frame;
use super::text::{escape, figure};

const FRAME: Frame = Frame { left: 64.0, right: 12.0, top: 12.0, height: 260.0 };

/// Points of one line at most; more would not be seen.
const MAX_POINTS: usize = 800;

/// Ticks of an axis, about.
const TICKS: f64 = 5.0;

/// Larger values are left out: a site may report any finite loss, and one absurd value would hide the others.
const LARGEST_DRAWN: f64 = 1e9;

/// One line.
pub struct Series {
    /// Legend.
    pub name: String,
    /// Color slot of the style sheet, taken modulo the number of slots.
    pub color: usize,
    /// Drawn dashed.
    pub dashed: bool,
    /// Place and value, places ascending.
    pub points: Vec<(f64, f64)>,
}

impl Series {
    fn class(&self) -> String {
        format!("c{}{}", self.color % COLORS, if self.dashed { " dashed" } else { "" })
    }

    fn drawn(&self) -> impl Iterator<Item = (f64, f64)> {
        self.points.iter().copied().filter(|point| point.1.abs() <= LARGEST_DRAWN)
    }
}

/// What the axis below a chart counts.
#[derive(Clone, Copy)]
pub enum Below<'a> {
    /// Rounds: whole, from 0.
    Rounds,
    /// Anything else, by name; from 0.
    Quantity(&'a str),
}

/// A chart with labelled axes.
pub struct Chart<'a> {
    /// What it shows, for those who do not see it.
    pub title: &'a str,
    /// Below the x axis.
    pub below: Below<'a>,
    /// Beside the y axis.
    pub y_label: &'a str,
    /// The y axis begins at 0.
    pub from_zero: bool,
    /// The lines.
    pub series: Vec<Series>,
}

/// Number of color slots in the style sheet.
const COLORS: usize = 9;

struct Axis {
    low: f64,
    high: f64,
    step: f64,
}

impl Axis {
    /// An axis from 0 that covers a number of rounds with whole ticks.
    fn of_rounds(last: f64) -> Self {
        let step = round_step(last / TICKS).max(1.0);
        Self { low: 0.0, high: (last.max(1.0) / step).ceil() * step, step }
    }

    /// An axis that covers the values with round ticks.
    fn covering(low: f64, high: f64) -> Self {
        let span = if high > low { high - low } else { high.abs().max(1.0) * 0.1 };
        let step = round_step(span / TICKS);
        Self {
            low: (low / step).floor() * step,
            high: (high.max(low + span * 0.5) / step).ceil() * step,
            step,
        }
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        let count = ((self.high - self.low) / self.step).round() as usize;
        let (low, step) = (self.low, self.step);
        (0..=count).map(move |index| low + step * index as f64)
    }

    fn place(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    /// A tick's label with the digits that its step needs.
    fn label(&self, value: f64) -> String {
        let digits = (-self.step.log10().floor()).clamp(0.0, 8.0) as usize;
        format!("{value:.digits$}")
    }
}

/// 1, 2 or 5 times a power of ten, at least `raw`.
fn round_step(raw: f64) -> f64 {
    let power = 10f64.powf(raw.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= raw)
        .unwrap_or(power * 10.0)
}

impl<'a> Below<'a> {
    fn label(self) -> &'a str {
        match self {
            Below::Rounds => "round",
            Below::Quantity(name) => name,
        }
    }
}

impl Chart<'_> {
    /// The chart with its legend, or a line that says there is nothing to show.
    pub(super) fn render(&self) -> String {
        match self.drawing() {
            Some(svg) => FRAME.figure(self.title, self.below.label(), &svg, &self.legend()),
            None => "<p class=\"empty\">Nothing was recorded.</p>".to_owned(),
        }
    }

    /// The chart as an SVG file of its own; `None` where there is nothing to show.
    #[must_use]
    pub fn file(&self) -> Option<String> {
        Some(FRAME.file(self.title, self.below.label(), &self.drawing()?, &self.legend()))
    }

    fn drawing(&self) -> Option<String> {
        let points = || self.series.iter().flat_map(Series::drawn);
        points().next()?;
        let range = |of: fn((f64, f64)) -> f64| {
            points()
                .map(of)
                .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)))
        };
        let (_, x_high) = range(|point| point.0);
        let (y_low, y_high) = range(|point| point.1);
        let x = match self.below {
            Below::Rounds => Axis::of_rounds(x_high),
            Below::Quantity(_) => Axis::covering(0.0, x_high),
        };
        let y = Axis::covering(if self.from_zero { 0.0 } else { y_low }, y_high);
        let mut svg = String::new();
        self.axes(&mut svg, &x, &y);
        for series in &self.series {
            line(&mut svg, series, &x, &y);
        }
        Some(svg)
    }

    fn axes(&self, svg: &mut String, x: &Axis, y: &Axis) {
        for tick in y.ticks() {
            let at = at_y(y, tick);
            // Writing to a String cannot fail, here and below.
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>",
                FRAME.left,
                FRAME.left + FRAME.inner_width()
            );
            FRAME.side_tick(svg, at, &y.label(tick));
        }
        for tick in x.ticks() {
            FRAME.below_tick(svg, at_x(x, tick), &x.label(tick));
        }
        let _ = write!(
            svg,
            "<text class=\"label\" transform=\"translate(14 {}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            FRAME.top + FRAME.inner_height() / 2.0,
            escape(self.y_label)
        );
    }

    /// Nothing for a single line, which the axis names.
    fn legend(&self) -> Vec<(String, String)> {
        let entry = |series: &Series| (format!("key {}", series.class()), series.name.clone());
        if self.series.len() < 2 { Vec::new() } else { self.series.iter().map(entry).collect() }
    }
}

fn at_x(axis: &Axis, value: f64) -> f64 {
    FRAME.left + axis.place(value) * FRAME.inner_width()
}

fn at_y(axis: &Axis, value: f64) -> f64 {
    FRAME.top + (1.0 - axis.place(value)) * FRAME.inner_height()
}

fn line(svg: &mut String, series: &Series, x: &Axis, y: &Axis) {
    let points: Vec<(f64, f64)> = series.drawn().collect();
    let stride = points.len().div_ceil(MAX_POINTS).max(1);
    let last = points.len().saturating_sub(1);
    let kept = points.iter().enumerate().filter(|(index, _)| index % stride == 0 || *index == last);
    let _ = write!(svg, "<polyline class=\"line {}\" points=\"", series.class());
    for (_, point) in kept {
        let _ = write!(svg, "{:.1},{:.1} ", at_x(x, point.0), at_y(y, point.1));
    }
    svg.push_str("\"/>");
    // A few points are evaluations and worth a mark with their value; many are a curve.
    if points.len() <= 40 {
        for point in &points {
            let _ = write!(
                svg,
                "<circle class=\"dot c{}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.6\"><title>{}: {}</title></circle>",
                series.color % COLORS,
                at_x(x, point.0),
                at_y(y, point.1),
                escape(&series.name),
                figure(point.1)
            );
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn chart(points: Vec<(f64, f64)>) -> String {
        let series = vec![Series { name: "a<b".into(), color: 10, dashed: true, points }];
        Chart { title: "t", below: Below::Rounds, y_label: "y", from_zero: false, series }.render()
    }

    #[test]
    fn axes_have_round_ticks_that_cover_the_values() {
        let axis = Axis::covering(0.131, 0.692);
        assert!(axis.low <= 0.131 && axis.high >= 0.692);
        assert_eq!(axis.label(axis.low), "0.0");
        assert!((3..=7).contains(&axis.ticks().count()));
        assert_eq!(round_step(0.11), 0.2);
    }

    #[test]
    fn one_value_and_no_value_are_drawn_without_nonsense() {
        assert!(chart(Vec::new()).contains("Nothing was recorded"));
        for svg in [chart(vec![(5.0, 0.0)]), chart(vec![(1.0, 3.0), (2.0, 3.0)])] {
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            assert!(svg.contains("class=\"line c1 dashed\""));
        }
    }

    #[test]
    fn rounds_have_whole_ticks_and_absurd_values_are_left_out() {
        let svg = chart(vec![(1.0, 0.3), (2.0, f64::MAX), (3.0, f64::INFINITY), (4.0, 0.2)]);
        for tick in [">0<", ">1<", ">4<"] {
            assert!(svg.contains(tick), "{svg}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf") && !svg.contains(">0.5<"), "{svg}");
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(chart(vec![(1.0, f64::NAN)]).contains("Nothing was recorded"));
    }

    #[test]
    fn a_file_of_its_own_has_style_title_and_legend() {
        let line = |name: &str, color| Series {
            name: name.into(),
            color,
            dashed: false,
            points: vec![(0.5, 0.6), (2.0, 0.8)],
        };
        let series = vec![line("a<b", 0), line("c", 1)];
        let below = Below::Quantity("epsilon");
        let chart = Chart { title: "AUPR", below, y_label: "y", from_zero: false, series };
        let svg = chart.file().unwrap();
        for part in ["<style>", "xmlns", ">AUPR<", ">epsilon<", ">a&lt;b<", "class=\"line c1\"", ">0.5<"] {
            assert!(svg.contains(part), "{part} in {svg}");
        }
        assert!(Chart { series: Vec::new(), ..chart }.file().is_none());
    }

    #[test]
    fn long_curves_are_thinned_and_keep_their_end() {
        let svg = chart((0..5_000).map(|round| (f64::from(round), f64::from(round))).collect());
        assert!(svg.matches(',').count() < 2 * MAX_POINTS);
        assert!(svg.len() < 40_000);
    }
}
