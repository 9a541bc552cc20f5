//! How text looks: colours, signs, wrapped lines.

use propagation_model::report::Status;

/// Whether to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// ANSI colours.
    Ansi,
    /// None.
    Plain,
}

impl Colour {
    /// `text` in the colour of a status.
    pub fn paint(self, status: Status, text: &str) -> String {
        let code = match status {
            Status::Passed => "32",
            Status::Failed | Status::Errored => "31",
            Status::Skipped => "33",
        };
        self.wrap(code, text)
    }

    /// `text` in bold.
    pub fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    fn wrap(self, code: &str, text: &str) -> String {
        match self {
            Self::Ansi => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            Self::Plain => text.to_owned(),
        }
    }
}

/// The sign of a status: `✓`, `✗`, `-`, `!`.
pub fn sign(status: Status) -> &'static str {
    match status {
        Status::Passed => "✓",
        Status::Failed => "✗",
        Status::Skipped => "-",
        Status::Errored => "!",
    }
}

/// Before a line that is not wrapped, because it is copied: no text of a report has it.
pub(super) const VERBATIM: char = '\u{1}';

/// The least number of columns that is worth wrapping for.
const NARROWEST: usize = 30;

/// Wraps lines at a width, each with a hanging indent; commands and manifests are left as they are.
pub fn lay_out(text: &str, width: Option<usize>) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let width = width.map(|width| width.max(NARROWEST));
        match (line.strip_prefix(VERBATIM), width) {
            (Some(verbatim), _) => out.push_str(verbatim),
            (None, Some(width)) if textwrap::core::display_width(line) > width => {
                let indent = line.len() - line.trim_start_matches(' ').len();
                let (first, next) = (" ".repeat(indent), " ".repeat(indent + 2));
                let options = textwrap::Options::new(width)
                    .initial_indent(&first)
                    .subsequent_indent(&next)
                    .break_words(false)
                    .word_separator(textwrap::WordSeparator::AsciiSpace)
                    .word_splitter(textwrap::WordSplitter::NoHyphenation);
                out.push_str(&textwrap::fill(&line[indent..], options));
            }
            (None, _) => out.push_str(line),
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_wrapped_with_a_hanging_indent_and_what_is_copied_is_not() {
        let command = "x".repeat(50);
        let text =
            format!("    evidence: {}\n{VERBATIM}  {command} {command}\n", "word ".repeat(12));
        let wrapped = lay_out(&text, Some(40));
        let lines: Vec<&str> = wrapped.lines().collect();
        assert!(lines[0].starts_with("    evidence: word"), "{wrapped}");
        assert!(lines[1].starts_with("      word"), "{wrapped}");
        assert!(lines.iter().all(|line| line.len() <= 40 || line.contains(&command)), "{wrapped}");
        assert_eq!(lines.last().copied(), Some(&*format!("  {command} {command}")));
        assert_eq!(lay_out(&text, None).lines().count(), 2);
        assert!(!wrapped.contains(VERBATIM));
    }

    #[test]
    fn colours_do_not_count_as_columns() {
        let line = format!("{} {}", Colour::Ansi.paint(Status::Passed, "ab"), "c".repeat(27));
        assert_eq!(lay_out(&line, Some(30)).lines().count(), 1);
    }
}
