//! Log lines of a consumer, and their meanings.
//!
//! The agent prints these lines and the test plan explains them; both take them from here.

use std::fmt;

/// One line of a consumer's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsumerLine<'a> {
    /// The program has started, and the marker is not there yet.
    Waiting {
        /// Where the FUSE mount will be.
        mountpoint: &'a str,
        /// How it learns of new mounts.
        watch: &'a str,
    },
    /// The marker was read for the first time.
    Found {
        /// When, as RFC 3339.
        at: &'a str,
    },
    /// The names in the mount follow.
    Contents {
        /// Where the FUSE mount is.
        mountpoint: &'a str,
    },
    /// The marker's content follows.
    Reading,
    /// The end of the log of the first success.
    Ready,
    /// The mount can be read.
    Accessible {
        /// When, as RFC 3339.
        at: &'a str,
    },
    /// The mount could be read and no longer can.
    Inaccessible {
        /// When, as RFC 3339.
        at: &'a str,
        /// The observed outcome, such as `ENOTCONN from open`.
        outcome: &'a str,
    },
    /// The marker did not appear in time.
    NeverAppeared {
        /// How long it waited, in seconds.
        seconds: &'a str,
    },
    /// The content at the end of waiting follows.
    FinalContents {
        /// Where the FUSE mount should be.
        mountpoint: &'a str,
    },
    /// The outcome of the last look.
    LastSeen {
        /// Its class, such as `absent`.
        class: &'a str,
    },
    /// The program cannot watch any longer.
    Failed {
        /// When, as RFC 3339.
        at: &'a str,
        /// The error.
        error: &'a str,
    },
}

impl ConsumerLine<'_> {
    /// All lines, with names in angle brackets for the parts that differ from run to run.
    pub const ALL: [ConsumerLine<'static>; 11] = [
        ConsumerLine::Waiting { mountpoint: "<mountpoint>", watch: "<how it watches>" },
        ConsumerLine::Found { at: "<timestamp>" },
        ConsumerLine::Contents { mountpoint: "<mountpoint>" },
        ConsumerLine::Reading,
        ConsumerLine::Ready,
        ConsumerLine::Accessible { at: "<timestamp>" },
        ConsumerLine::Inaccessible { at: "<timestamp>", outcome: "<what it saw>" },
        ConsumerLine::NeverAppeared { seconds: "<n>" },
        ConsumerLine::FinalContents { mountpoint: "<mountpoint>" },
        ConsumerLine::LastSeen { class: "<class>" },
        ConsumerLine::Failed { at: "<timestamp>", error: "<error>" },
    ];

    /// Meaning of the line, and what to do about it.
    pub fn meaning(&self) -> &'static str {
        match self {
            Self::Waiting { .. } => {
                "The consumer runs and has not read the marker yet. It is told of new mounts by the \
                 kernel, and looks every second besides."
            }
            Self::Found { .. } => {
                "Propagation works: the marker of this very generation was read through the \
                 consumer's own mount."
            }
            Self::Contents { .. } => "The names in the mount follow, as `ls -ln` prints them.",
            Self::Reading => "The marker's lines follow: start time, generation, nonce.",
            Self::Ready => "Phase 3 is done for this consumer; from now on it watches.",
            Self::Accessible { .. } => {
                "The mount can be read. It appears about once a second, and at once after a recovery."
            }
            Self::Inaccessible { .. } => {
                "The stale mount is noticed. `ENOTCONN`: the daemon is dead. `hang`: it is alive and \
                 does not answer. `absent`: it has unmounted cleanly, so there is an empty directory \
                 and no error. `EACCES`: another user without `allow_other`, or a security module."
            }
            Self::NeverAppeared { .. } => {
                "The key test has failed: the mount does not reach this consumer. The mount graph of \
                 the report shows which link is missing."
            }
            Self::FinalContents { .. } => "What the consumer found instead follows.",
            Self::LastSeen { .. } => {
                "`absent`: only the lower directory is there, so no mount came. An errno: a mount is \
                 there and cannot be used. `hang`: its daemon does not answer."
            }
            Self::Failed { .. } => {
                "The consumer itself could not go on. The report has it as a dead consumer, not as a \
                 stale mount."
            }
        }
    }
}

impl fmt::Display for ConsumerLine<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting { mountpoint, watch } => {
                write!(formatter, "Waiting for {mountpoint} ({watch})")
            }
            Self::Found { at } => write!(formatter, "SUCCESS: Producer marker found at {at}"),
            Self::Contents { mountpoint } => {
                write!(formatter, "=== Full {mountpoint} Contents ===")
            }
            Self::Reading => formatter.write_str("=== Reading Producer Files ==="),
            Self::Ready => formatter.write_str("[Consumer Ready]"),
            Self::Accessible { at } => write!(formatter, "[{at}] Mount is accessible"),
            Self::Inaccessible { at, outcome } => {
                write!(formatter, "[{at}] ERROR: Mount became inaccessible! ({outcome})")
            }
            Self::NeverAppeared { seconds } => {
                write!(formatter, "ERROR: Producer marker never appeared after {seconds} seconds!")
            }
            Self::FinalContents { mountpoint } => write!(formatter, "Final {mountpoint} contents:"),
            Self::LastSeen { class } => write!(formatter, "({class})"),
            Self::Failed { at, error } => write!(formatter, "[{at}] ERROR: {error}"),
        }
    }
}
