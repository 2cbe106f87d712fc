//! Tables of a page.

use Column::{Number, Text};

/// Heading of a column.
#[derive(Clone, Copy)]
pub(in crate::report) enum Column {
    Text(&'static str),
    /// To the right.
    Number(&'static str),
}

impl Column {
    fn cell(self, tag: &str, html: &str) -> String {
        let class = if matches!(self, Number(_)) { " class=\"n\"" } else { "" };
        format!("<{tag}{class}>{html}</{tag}>")
    }
}

/// A table of cells that are HTML already.
pub(in crate::report) fn table<const N: usize>(
    columns: [Column; N],
    rows: impl Iterator<Item = [String; N]>,
) -> String {
    let head = columns.map(|column| match column {
        Text(title) | Number(title) => column.cell("th", title),
    });
    let body = rows.map(|cells| {
        let cells = columns.iter().zip(cells).map(|(column, html)| column.cell("td", &html));
        format!("<tr>{}</tr>", cells.collect::<String>())
    });
    format!("<div class=\"wide\"><table><tr>{}</tr>{}</table></div>", head.concat(), body.collect::<String>())
}
