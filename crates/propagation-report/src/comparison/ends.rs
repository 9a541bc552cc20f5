//! How each transport ends: whether its mount is stale, whether accesses hang, and whether it heals by itself.

use propagation_model::comparison::{Comparison, Death, Gave, Healing};
use propagation_model::errno::Errno;

use super::figures::time;
use crate::words::one_line;

/// The titles of its columns.
pub(super) const TITLES: [&str; 4] = ["", "stale", "hang", "heals by itself"];

/// An access that takes longer hangs for whoever waits for it.
const HANGS_MS: f64 = 1_000.0;

/// A row for each transport whose server was killed, a cell for each of [`TITLES`].
pub(super) fn rows(comparison: &Comparison) -> Vec<[String; 4]> {
    let row = |one: &propagation_model::comparison::TransportResult| {
        let death = one.death.as_ref()?;
        Some([one.transport.to_string(), stale(death), hang(death), heals(death)])
    };
    comparison.measured().filter_map(row).collect()
}

/// What a stale mount says, whoever looks; other errors are the client's own.
const STALE: [Errno; 3] = [Errno::ENOTCONN, Errno::ECONNABORTED, Errno::ESTALE];

/// Whether accesses that open anew found a stale mount: with their first error or, where the mount never answered
/// again, with a later one. What a client says in passing while it connects again is its own.
fn stale(death: &Death) -> String {
    let first = death.first_error.as_ref().map(|(_, errno)| errno.as_str());
    let later = death.fresh.iter().filter(|_| death.healing != Healing::Reconnect);
    let later = later.filter_map(|span| match &span.gave {
        Gave::Errno(errno) => Some(errno.as_str()),
        _ => None,
    });
    match (first.into_iter().chain(later).find(|errno| is_stale(errno)), first) {
        (Some(errno), _) => format!("yes, {errno}"),
        (None, Some(errno)) => format!("no, {}", one_line(errno)),
        (None, None) => "no".into(),
    }
}

fn is_stale(errno: &str) -> bool {
    errno.parse().is_ok_and(|errno: Errno| STALE.contains(&errno))
}

fn hang(death: &Death) -> String {
    match (death.hangs, death.longest_ms >= HANGS_MS) {
        (true, _) => "to the end".into(),
        (false, true) => format!("for {}", time(death.longest_ms)),
        (false, false) => "no".into(),
    }
}

fn heals(death: &Death) -> String {
    let healed = death.healed_ms.map(|healed| time((healed - death.restarted_ms).max(0.0)));
    match (healed, death.back_ms, death.healing) {
        (_, None, _) => "its server did not come back".into(),
        (None, ..) | (_, _, Healing::Nothing) => "not as long as watched".into(),
        (Some(after), _, Healing::Reconnect) => format!("yes, {after} after the restart"),
        (Some(after), _, Healing::NewMount) => format!("no, by a new mount, {after}"),
    }
}

#[cfg(test)]
mod tests {
    use propagation_model::comparison::Span;

    use super::*;

    fn death(errno: Option<&str>, longest_ms: f64, healing: Healing) -> Death {
        Death {
            killed: "smbd".into(),
            restarted_ms: 700.0,
            back_ms: Some(720.0),
            fresh: Vec::new(),
            held: Vec::new(),
            first_error: errno.map(|errno| (3.0, errno.to_owned())),
            longest_ms,
            failed: 1,
            hangs: false,
            healed_ms: Some(900.0),
            held_healed_ms: None,
            healing,
        }
    }

    fn cells(death: &Death) -> [String; 3] {
        [stale(death), hang(death), heals(death)]
    }

    #[test]
    fn fuse_is_stale_and_heals_by_its_new_mount() {
        let fuse = death(Some("ENOTCONN"), 2.0, Healing::NewMount);
        assert_eq!(cells(&fuse), ["yes, ENOTCONN", "no", "no, by a new mount, 200 ms"]);
    }

    #[test]
    fn a_mount_that_is_stale_after_another_error_is_stale() {
        let span = |gave: &str| Span {
            from_ms: 3.0,
            until_ms: 900.0,
            gave: gave.to_owned().into(),
            operations: 9,
        };
        let fresh = vec![span("ok"), span("EIO"), span("ESTALE")];
        let again = death(Some("EIO"), 2.0, Healing::Nothing);
        assert_eq!(stale(&Death { fresh: fresh.clone(), ..again.clone() }), "yes, ESTALE");
        assert_eq!(stale(&Death { fresh: vec![span("EIO")], ..again.clone() }), "no, EIO");
        assert_eq!(stale(&Death { fresh, healing: Healing::Reconnect, ..again }), "no, EIO");
        let aborted = death(Some("ECONNABORTED"), 2.0, Healing::NewMount);
        assert_eq!(stale(&aborted), "yes, ECONNABORTED");
    }

    #[test]
    fn a_client_that_reconnects_hangs_and_heals_by_itself() {
        let smb = death(Some("EHOSTDOWN"), 5_110.0, Healing::Reconnect);
        assert_eq!(cells(&smb), ["no, EHOSTDOWN", "for 5.11 s", "yes, 200 ms after the restart"]);
        let nfs = death(None, 6_000.0, Healing::Reconnect);
        assert_eq!(cells(&nfs)[0], "no");
    }

    #[test]
    fn what_never_answers_again_does_not_heal() {
        let hangs =
            Death { hangs: true, healed_ms: None, ..death(None, 2_000.0, Healing::Nothing) };
        assert_eq!(cells(&hangs), ["no", "to the end", "not as long as watched"]);
        let gone = Death { back_ms: None, ..hangs };
        assert_eq!(heals(&gone), "its server did not come back");
    }
}
