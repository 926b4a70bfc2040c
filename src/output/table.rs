//! Tables without borders: upper-case headings, columns two blanks apart, the last one as long as it is.

use super::{printable, wrap};

/// Rows under headings.
#[derive(Debug, Clone)]
pub struct Table {
    headings: Option<Vec<String>>,
    rows: Vec<Vec<String>>,
    width_max: Option<usize>,
}

/// The last column is not made narrower than this: a few words to a line are worse than a line that is too long.
const LAST_WIDTH_MIN: usize = 20;

impl Table {
    /// A table with these headings.
    #[must_use]
    pub fn new(headings: &[&str]) -> Self {
        Self {
            headings: Some(headings.iter().map(ToString::to_string).collect()),
            rows: Vec::new(),
            width_max: None,
        }
    }

    /// The same without its first line.
    #[must_use]
    pub fn without_headings(self) -> Self {
        Self { headings: None, ..self }
    }

    /// The same with the last column in as many lines as it takes to fit this width; `None`: no width to fit.
    #[must_use]
    pub fn fit(self, width_max: Option<usize>) -> Self {
        Self { width_max, ..self }
    }

    /// Adds a row; it should have as many cells as there are headings.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The text, each line with its newline and without blanks at its end.
    #[must_use]
    pub fn render(&self) -> String {
        let lines: Vec<&Vec<String>> = self.headings.iter().chain(&self.rows).collect();
        let columns = lines.iter().map(|cells| cells.len()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|column| lines.iter().filter_map(|cells| cells.get(column)).map(|cell| width(cell)).max())
            .map(Option::unwrap_or_default)
            .collect();
        let before: usize = widths.iter().rev().skip(1).map(|width| width + 2).sum();
        let last_width = self.width_max.map(|max| max.saturating_sub(before).max(LAST_WIDTH_MIN));
        let mut text = String::new();
        for cells in lines {
            let mut line = String::new();
            for (column, (cell, width)) in cells.iter().zip(&widths).enumerate() {
                let cell = printable(cell);
                match last_width.filter(|_| column + 1 == columns) {
                    Some(last) => {
                        line.push_str(&wrap(&cell, last).join(&format!("\n{}", " ".repeat(before))))
                    }
                    None => line.push_str(&format!("{cell:width$}  ")),
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Names are ASCII; a wider character only shifts its own line.
fn width(cell: &str) -> usize {
    cell.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["POD", "STATUS"]);
        table.row(vec!["shop-long".into(), "running".into()]);
        table.row(vec!["a".into(), "lost: a\x1b[31m\nb".into()]);
        assert_eq!(table.render(), "POD        STATUS\nshop-long  running\na          lost: a?[31m?b\n");
        let narrow = table.clone().fit(Some(10)).render();
        assert_eq!(narrow.lines().count(), 3, "not narrower than it can be read:\n{narrow}");
        assert_eq!(table.without_headings().render().lines().count(), 2);
    }

    #[test]
    fn the_last_column_goes_on_below_itself() {
        let mut table = Table::new(&["APP", "STATUS"]);
        table.row(vec!["api".into(), "not started: no such file in the root of the app".into()]);
        let expected = "APP  STATUS\napi  not started: no such file\n     in the root of the app\n";
        assert_eq!(table.fit(Some(30)).render(), expected);
    }
}
