//! Tables without borders: upper-case headings, columns two blanks apart, the last one as long as it is.

use super::printable;

/// Rows under headings.
#[derive(Debug, Clone)]
pub struct Table {
    headings: Option<Vec<String>>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    #[must_use]
    pub fn new(headings: &[&str]) -> Self {
        Self { headings: Some(headings.iter().map(ToString::to_string).collect()), rows: Vec::new() }
    }

    /// The same without its first line.
    #[must_use]
    pub fn without_headings(self) -> Self {
        Self { headings: None, ..self }
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
        let mut text = String::new();
        for cells in lines {
            let mut line = String::new();
            for (cell, width) in cells.iter().zip(&widths) {
                line.push_str(&format!("{:width$}  ", printable(cell)));
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
        assert_eq!(table.without_headings().render().lines().count(), 2);
    }
}
