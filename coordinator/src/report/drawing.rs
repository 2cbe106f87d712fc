//! What the drawings of a report share: frame, tick labels, the axis of rounds and the legend, as inline SVG. Colors come
//! from the page's style sheet, so they follow light and dark.

use std::fmt::Write as _;

use super::text::escape;

/// Style of a drawing that is a file of its own.
const STYLE: &str = concat!(include_str!("style.css"), ".page{fill:var(--bg)}");
/// Entries beside each other in the legend of a file, their width, and the height of a line.
const LEGEND_COLUMNS: usize = 4;
const LEGEND_COLUMN: f64 = 172.0;
const LEGEND_ROW: f64 = 20.0;

/// Where a drawing over rounds lies in its figure.
pub(super) struct Frame {
    pub(super) left: f64,
    pub(super) right: f64,
    pub(super) top: f64,
    /// Of the whole figure.
    pub(super) height: f64,
}

impl Frame {
    /// Of every figure.
    pub(super) const WIDTH: f64 = 760.0;
    /// Below the drawing, for ticks and label of the rounds.
    pub(super) const BOTTOM: f64 = 40.0;

    pub(super) const fn inner_width(&self) -> f64 {
        Self::WIDTH - self.left - self.right
    }

    pub(super) const fn inner_height(&self) -> f64 {
        self.height - self.top - Self::BOTTOM
    }

    /// The whole figure. `title` is for those who do not see it; the legend's entries are style classes and names.
    pub(super) fn figure(
        &self,
        title: &str,
        x_label: &str,
        drawing: &str,
        legend: &[(String, String)],
    ) -> String {
        let entry = |(class, name): &(String, String)| {
            format!("<span><i class=\"{class}\"></i>{}</span>", escape(name))
        };
        let legend = match legend.is_empty() {
            true => String::new(),
            false => {
                format!(
                    "<figcaption class=\"legend\">{}</figcaption>",
                    legend.iter().map(entry).collect::<String>()
                )
            }
        };
        format!(
            "<figure><svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">{drawing}{}</svg>{legend}</figure>",
            Self::WIDTH,
            self.height,
            escape(title),
            self.below(x_label),
        )
    }

    /// A file of its own: the drawing with its style, its title above and its legend below.
    pub(super) fn file(
        &self,
        title: &str,
        x_label: &str,
        drawing: &str,
        legend: &[(String, String)],
    ) -> String {
        let top = LEGEND_ROW + self.height;
        let rows = legend.len().div_ceil(LEGEND_COLUMNS) as f64;
        let entry = |(index, (class, name)): (usize, &(String, String))| {
            let x = self.left + (index % LEGEND_COLUMNS) as f64 * LEGEND_COLUMN;
            let y = top + (index / LEGEND_COLUMNS) as f64 * LEGEND_ROW + 8.0;
            let line = class.replace("key", "line");
            let mut svg =
                format!("<line class=\"{line}\" x1=\"{x}\" x2=\"{}\" y1=\"{y}\" y2=\"{y}\"/>", x + 22.0);
            tick(&mut svg, (x + 28.0, y + 4.0), "start", name);
            svg
        };
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
             height=\"{height}\" role=\"img\" aria-label=\"{title}\" font-family=\"sans-serif\"><style>{STYLE}</style>\
             <rect class=\"page\" width=\"{width}\" height=\"{height}\"/>\
             <text class=\"label\" x=\"{}\" y=\"{}\">{title}</text>\
             <g transform=\"translate(0 {LEGEND_ROW})\">{drawing}{}</g>{}</svg>\n",
            self.left,
            LEGEND_ROW - 6.0,
            self.below(x_label),
            legend.iter().enumerate().map(entry).collect::<String>(),
            width = Self::WIDTH,
            height = top + rows * LEGEND_ROW + 8.0,
            title = escape(title),
        )
    }

    /// The label of the axis below the drawing.
    fn below(&self, label: &str) -> String {
        format!(
            "<text class=\"label\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            self.left + self.inner_width() / 2.0,
            self.height - 6.0,
            escape(label)
        )
    }

    /// A label of the axis below.
    pub(super) fn below_tick(&self, svg: &mut String, x: f64, label: &str) {
        tick(svg, (x, self.height - Self::BOTTOM + 16.0), "middle", label);
    }

    /// A label to the left of the drawing, beside the height `y`.
    pub(super) fn side_tick(&self, svg: &mut String, y: f64, label: &str) {
        tick(svg, (self.left - 8.0, y + 4.0), "end", label);
    }
}

fn tick(svg: &mut String, (x, y): (f64, f64), anchor: &str, label: &str) {
    // Writing to a String cannot fail.
    let _ = write!(
        svg,
        "<text class=\"tick\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>",
        escape(label)
    );
}
