//! Tables without borders: upper-case headings, columns two blanks apart, the last one as long as it is.
//!
//! Where there is a width to fit, columns give way in this order: those that wrap go on below themselves, then names
//! are cut, the longest first. Numbers and ids never give way, so that a very narrow terminal still gets long lines.

use super::{printable, wrap};

/// Rows under headings.
#[derive(Debug, Clone)]
pub struct Table {
    headings: Option<Vec<String>>,
    ways: Vec<Way>,
    rows: Vec<Vec<String>>,
    width_max: Option<usize>,
}

/// How a column gives way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// It keeps its width.
    Not,
    /// Words go on in another line.
    Wrap,
    /// A name is cut.
    Cut,
    /// Each of several names is cut, and they go on in another line.
    CutEach,
}

impl Way {
    /// A column is not made narrower than this: a few words to a line are worse than a line that is too long, and of a
    /// name enough is to be seen to know it.
    fn width_min(self) -> usize {
        match self {
            Self::Not => usize::MAX,
            Self::Wrap => 20,
            Self::Cut => 8,
            Self::CutEach => 12,
        }
    }
}

impl Table {
    /// A table with these headings; the last column wraps.
    #[must_use]
    pub fn new(headings: &[&str]) -> Self {
        let mut ways = vec![Way::Not; headings.len()];
        if let Some(last) = ways.last_mut() {
            *last = Way::Wrap;
        }
        let headings = Some(headings.iter().map(ToString::to_string).collect());
        Self { headings, ways, rows: Vec::new(), width_max: None }
    }

    /// The same with names in these columns, which may be cut.
    #[must_use]
    pub fn cut(self, headings: &[&str]) -> Self {
        self.give(headings, Way::Cut)
    }

    /// The same with lists of names in these columns, which may go on in another line, and of which each may be cut.
    #[must_use]
    pub fn cut_each(self, headings: &[&str]) -> Self {
        self.give(headings, Way::CutEach)
    }

    fn give(mut self, headings: &[&str], way: Way) -> Self {
        for (own, heading) in self.ways.iter_mut().zip(self.headings.iter().flatten()) {
            if headings.contains(&heading.as_str()) {
                *own = way;
            }
        }
        self
    }

    /// The same without its first line.
    #[must_use]
    pub fn without_headings(self) -> Self {
        Self { headings: None, ..self }
    }

    /// The same in lines of at most this width, as far as its columns can give way; `None`: no width to fit.
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
        let widths = self.widths();
        let mut text = String::new();
        for cells in self.headings.iter().chain(&self.rows) {
            let columns: Vec<Vec<String>> =
                cells.iter().enumerate().map(|(at, cell)| self.lines_of(at, cell, &widths)).collect();
            for number in 0..columns.iter().map(Vec::len).max().unwrap_or(0) {
                let mut line = String::new();
                for (lines, width) in columns.iter().zip(&widths) {
                    let cell = lines.get(number).map_or("", String::as_str);
                    line.push_str(&format!("{cell:width$}  "));
                }
                text.push_str(line.trim_end());
                text.push('\n');
            }
        }
        text
    }

    /// A cell in lines that are not longer than its column is wide.
    fn lines_of(&self, column: usize, cell: &str, widths: &[usize]) -> Vec<String> {
        let cell = printable(cell);
        let width = widths.get(column).copied().unwrap_or(usize::MAX);
        match self.ways.get(column) {
            _ if cell.chars().count() <= width => vec![cell],
            Some(Way::Cut) => vec![cut(&cell, width)],
            Some(Way::CutEach) => wrap(&map_words(&cell, |word| cut(word, width)), width),
            Some(Way::Wrap) => wrap(&map_words(&cell, |word| broken(word, width)), width),
            _ => vec![cell],
        }
    }

    /// How wide each column is.
    fn widths(&self) -> Vec<usize> {
        let mut widths = vec![0; self.ways.len()];
        for cells in self.headings.iter().chain(&self.rows) {
            for (width, cell) in widths.iter_mut().zip(cells) {
                // Names are ASCII; a wider character only shifts its own line.
                *width = (*width).max(cell.chars().count());
            }
        }
        let Some(width_max) = self.width_max else { return widths };
        let between = 2 * widths.len().saturating_sub(1);
        for ways in [&[Way::Wrap][..], &[Way::Cut, Way::CutEach]] {
            while widths.iter().sum::<usize>() + between > width_max {
                let gives =
                    |at: &usize| ways.contains(&self.ways[*at]) && widths[*at] > self.ways[*at].width_min();
                let Some(widest) = (0..widths.len()).filter(gives).max_by_key(|at| widths[*at]) else {
                    break;
                };
                widths[widest] -= 1;
            }
        }
        widths
    }
}

/// The beginning of a word that is too long, with the comma behind it.
fn cut(word: &str, width: usize) -> String {
    if word.chars().count() <= width {
        return word.to_owned();
    }
    let end = if word.ends_with(',') { "…," } else { "…" };
    let kept = width.saturating_sub(end.chars().count());
    word.chars().take(kept).chain(end.chars()).collect()
}

/// A word that is too long in pieces, such as a path.
fn broken(word: &str, width: usize) -> String {
    let chars: Vec<char> = word.chars().collect();
    let pieces: Vec<String> = chars.chunks(width.max(1)).map(|piece| piece.iter().collect()).collect();
    pieces.join(" ")
}

fn map_words(text: &str, change: impl Fn(&str) -> String) -> String {
    text.split_whitespace().map(change).collect::<Vec<_>>().join(" ")
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

    #[test]
    fn names_are_cut_where_there_is_a_width() {
        let mut table = Table::new(&["POD", "ID", "AFTER", "STATUS"]).cut(&["POD"]).cut_each(&["AFTER"]);
        let after = "database, cache, message-queue, search";
        table.row(vec![
            "shop-of-all-things-that-are-sold".into(),
            "0a1b2c3d".into(),
            after.into(),
            "running".into(),
        ]);
        let whole = table.render();
        assert!(
            whole.contains("things-that-are-sold  0a1b2c3d  database, cache, message-queue, search  running")
        );
        let cut = "\
POD           ID        AFTER         STATUS
shop-of-all…  0a1b2c3d  database,     running
                        cache,
                        message-qu…,
                        search
";
        assert_eq!(table.fit(Some(45)).render(), cut);
    }

    #[test]
    fn words_are_broken_and_never_cut() {
        let mut table = Table::new(&["APP", "STATUS"]);
        table.row(vec!["a".into(), "not started: /usr/local/libexec/shop/web-server does not exist".into()]);
        let expected = "\
APP  STATUS
a    not started:
     /usr/local/libexec/s
     hop/web-server does
     not exist
";
        assert_eq!(table.fit(Some(25)).render(), expected);
    }

    #[test]
    fn the_longer_name_is_cut_first() {
        let mut table = Table::new(&["POD", "APP", "PID"]).cut(&["POD", "APP"]);
        table.row(vec!["a-pod-with-a-long-name".into(), "an-app".into(), "7".into()]);
        assert_eq!(table.fit(Some(25)).render(), "POD           APP     PID\na-pod-with-…  an-app  7\n");
    }
}
