//! What the drawings of a report share: frame, tick labels, the axis of rounds and the legend, as inline SVG. Colors come
//! from the page's style sheet, so they follow light and dark.

use std::fmt::Write as _;

use super::text::escape;

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
    pub(super) fn figure(&self, title: &str, drawing: &str, legend: &[(String, String)]) -> String {
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
            "<figure><svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">{drawing}\
             <text class=\"label\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">round</text></svg>{legend}</figure>",
            Self::WIDTH,
            self.height,
            escape(title),
            self.left + self.inner_width() / 2.0,
            self.height - 6.0,
        )
    }

    /// A label of the axis of rounds.
    pub(super) fn round_tick(&self, svg: &mut String, x: f64, label: &str) {
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
