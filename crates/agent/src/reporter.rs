//! Where a program's log lines and events go: to the node that started it; and lines to standard
//! output when it was started by hand or by a kubelet.

use std::io::Write;
use std::os::fd::OwnedFd;

use propagation_protocol::ProgramEvent;
use propagation_protocol::consumer_log::ConsumerLine;

use crate::pipe::Pipe;

/// The outgoing side of a program.
#[derive(Debug)]
pub struct Reporter {
    node: Option<Pipe>,
    prints: bool,
}

impl Reporter {
    /// Reports to the node that holds the other end.
    pub(crate) fn to_node(pipe: Pipe) -> Self {
        Self { node: Some(pipe), prints: false }
    }

    /// Reports to a host agent, and prints log lines beside.
    pub(crate) fn to_host(pipe: Pipe) -> Self {
        Self { node: Some(pipe), prints: true }
    }

    /// Prints log lines, as `kubectl logs` shows them.
    pub fn to_stdout() -> Self {
        Self { node: None, prints: true }
    }

    /// The node's end, to learn that it has gone.
    pub(crate) fn node(&self) -> Option<&Pipe> {
        self.node.as_ref()
    }

    /// Logs one line.
    pub(crate) fn log(&self, line: impl Into<String>) {
        self.event(&ProgramEvent::Log { line: line.into() });
    }

    /// Gives the node a descriptor to keep, with the FUSE_INIT request of its connection.
    pub(crate) fn give(&self, kept: OwnedFd, init: &[u8]) {
        let Some(pipe) = &self.node else { return };
        if pipe.send_descriptors(&[kept]).is_ok() {
            self.event(&ProgramEvent::Kept { init: to_hex(init) });
        }
    }

    /// Logs one of the lines that a consumer has.
    pub(crate) fn log_line(&self, line: ConsumerLine<'_>) {
        self.log(line.to_string());
    }

    /// Reports an event. A node that has gone ends the program anyway, so a failure is dropped.
    pub(crate) fn event(&self, event: &ProgramEvent) {
        if let (true, ProgramEvent::Log { line }) = (self.prints, event) {
            let mut out = std::io::stdout().lock();
            let _ = writeln!(out, "{line}");
            let _ = out.flush();
        }
        if let Some(pipe) = &self.node {
            let _ = pipe.send(event);
        }
    }
}

/// Bytes as text.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The wall clock as it stands in logs: RFC 3339, UTC, to the second.
pub(crate) fn timestamp() -> String {
    let seconds = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    format_utc(seconds)
}

/// Civil date from days since 1970-01-01, after Howard Hinnant's `civil_from_days`.
fn format_utc(seconds: u64) -> String {
    let days = i64::try_from(seconds / 86_400).unwrap_or_default() + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::format_utc;

    #[test]
    fn dates_are_right() {
        assert_eq!(format_utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(format_utc(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(format_utc(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(format_utc(1_772_236_800), "2026-02-28T00:00:00Z");
        assert_eq!(format_utc(4_107_542_400), "2100-03-01T00:00:00Z");
    }
}
