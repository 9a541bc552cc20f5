//! Tables on standard output, in Markdown.
#![allow(clippy::print_stdout)] // what the benchmarks are for

/// A table: its head, then its rows.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with this head and no rows.
    pub fn new<const N: usize>(head: [&str; N]) -> Self {
        Self { rows: vec![head.map(str::to_owned).to_vec()] }
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.to_vec());
    }

    /// Prints it; the first column is words, the others are numbers.
    pub fn print(&self) {
        let columns = self.rows[0].len();
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0).max(3)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for (number, row) in self.rows.iter().enumerate() {
            let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
                if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            println!("| {} |", cells.collect::<Vec<_>>().join(" | "));
            if number == 0 {
                let rules = widths.iter().enumerate().map(|(column, &width)| {
                    if column == 0 { "-".repeat(width) } else { "-".repeat(width - 1) + ":" }
                });
                println!("| {} |", rules.collect::<Vec<_>>().join(" | "));
            }
        }
        println!();
    }
}

/// Prints the heading of a benchmark: what it is, how it is measured, and on what.
pub fn heading(title: &str, how: &[&str]) {
    println!("\n## {title}\n\n{}.", crate::machine::describe());
    for line in how {
        println!("{line}");
    }
    println!();
}

/// Prints a line below a table.
pub fn note(text: &str) {
    println!("{text}");
}

/// A time given in milliseconds, to three digits or so.
pub fn milliseconds(value: f64) -> String {
    match value {
        value if value >= 1000.0 => format!("{:.2} s", value / 1000.0),
        value if value >= 100.0 => format!("{value:.0} ms"),
        value if value >= 10.0 => format!("{value:.1} ms"),
        value if value >= 1.0 => format!("{value:.2} ms"),
        value => format!("{:.0} us", value * 1000.0),
    }
}

/// How a number stands to its limit.
pub fn against(value: f64, limit: f64) -> &'static str {
    if value <= limit { "kept" } else { "NOT kept" }
}

#[cfg(test)]
mod tests {
    use super::milliseconds;

    #[test]
    fn times_have_about_three_digits() {
        let times = [0.0123, 0.95, 1.234, 16.04, 123.4, 4321.0].map(milliseconds);
        assert_eq!(times, ["12 us", "950 us", "1.23 ms", "16.0 ms", "123 ms", "4.32 s"]);
    }
}
