//! The log of a program: its last lines, and how many were dropped before them.

use std::collections::VecDeque;

/// The most lines that are kept.
const MOST_LINES: usize = 10_000;

/// The most text that is kept, in bytes.
const MOST_BYTES: usize = 1 << 20;

/// The last lines that a program has logged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lines {
    kept: VecDeque<String>,
    bytes: usize,
    dropped: u64,
}

impl Lines {
    /// Appends a line and drops the oldest ones beyond the limits.
    pub fn push(&mut self, line: String) {
        self.bytes += line.len();
        self.kept.push_back(line);
        while self.kept.len() > MOST_LINES || (self.bytes > MOST_BYTES && self.kept.len() > 1) {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.bytes -= oldest.len();
            self.dropped += 1;
        }
    }

    /// Appends the lines of a later program.
    pub fn append(&mut self, later: &Self) {
        self.dropped += later.dropped;
        self.extend(later.kept.iter().cloned());
    }

    /// The lines, preceded by one that says how many were dropped.
    pub fn to_vec(&self) -> Vec<String> {
        let left_out = (self.dropped > 0).then(|| format!("[{} lines are left out]", self.dropped));
        left_out.into_iter().chain(self.kept.iter().cloned()).collect()
    }
}

impl Extend<String> for Lines {
    fn extend<T: IntoIterator<Item = String>>(&mut self, lines: T) {
        lines.into_iter().for_each(|line| self.push(line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_ends_is_kept_to_its_last_lines() {
        let mut lines = Lines::default();
        for number in 0..MOST_LINES + 5 {
            lines.push(number.to_string());
        }
        let kept = lines.to_vec();
        assert_eq!(kept.len(), MOST_LINES + 1);
        assert_eq!(kept[0], "[5 lines are left out]");
        assert_eq!(kept.last(), Some(&(MOST_LINES + 4).to_string()));
    }

    #[test]
    fn long_lines_make_room_as_well() {
        let mut lines = Lines::default();
        for _ in 0..3 {
            lines.push("x".repeat(MOST_BYTES / 2 + 1));
        }
        let kept = lines.to_vec();
        assert_eq!((kept.len(), kept[0].as_str()), (2, "[2 lines are left out]"));
        let mut all = Lines::default();
        all.push("before".into());
        all.append(&lines);
        assert_eq!(all.to_vec()[..2], ["[2 lines are left out]", "before"]);
    }
}
