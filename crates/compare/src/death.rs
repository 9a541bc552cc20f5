//! Kills a transport's server while it is used, and starts it again.

use std::time::Duration;

use propagation_core::Error;
use propagation_core::comparison::{Death, Healing, Span};
use propagation_core::protocol::measure::{Gave, Measured, Stretch, Work};

use crate::options::Sizes;
use crate::stand::{Stand, ms};

/// How much longer a client of the kernel's is watched, in milliseconds: it tries to connect again every three seconds at
/// first, and a server of NFS has a grace period.
const KERNELS_CLIENT_MS: u64 = 6_000;

/// What the killing and the coming back gave.
struct Killed {
    at_ns: u64,
    restarted_ns: u64,
    back_ns: Option<u64>,
}

/// Uses a transport, kills its server, starts it again. `None` for a transport without one, and where it
/// had died before.
///
/// # Errors
/// When the node fails.
pub(crate) async fn die(
    stand: &Stand<'_>,
    sizes: Sizes,
    seed: u64,
) -> Result<Option<Death>, Error> {
    let Some(victim) = stand.recipe.victim().cloned() else { return Ok(None) };
    let kill = async {
        tokio::time::sleep(Duration::from_millis(sizes.kill_ms)).await;
        let Some(killed) = stand.kill(&victim).await? else { return Ok(None) };
        tokio::time::sleep(Duration::from_millis(sizes.down_ms)).await;
        // What a producer does that finds a dead mount: it unmounts it, then mounts.
        stand.unmount(&victim).await?;
        let spawned = stand.spawn(&victim).await?;
        let (restarted_ns, back_ns) = match &spawned {
            Ok(spawned) => (spawned.began_ns, Some(spawned.known_ns)),
            Err(_) => (killed.at_ns + sizes.down_ms * 1_000_000, None),
        };
        Ok::<_, Error>(Some(Killed { at_ns: killed.at_ns, restarted_ns, back_ns }))
    };
    let longer_ms = match stand.recipe.transport.is_mounted_by_the_kernel() {
        true => KERNELS_CLIENT_MS,
        false => 0,
    };
    let work = Work::Die { duration_ms: sizes.die_ms + longer_ms, seed };
    let (measured, killed) = tokio::join!(stand.measure(sizes, work), kill);
    let measured = measured?;
    let is_served = stand.recipe.server.is_some();
    let death = |killed| what_happened(victim.name().to_owned(), &measured, &killed, is_served);
    Ok(killed?.map(death))
}

fn what_happened(killed: String, measured: &Measured, times: &Killed, is_served: bool) -> Death {
    let since = |at_ns: u64| ms(times.at_ns, at_ns);
    let after = || measured.fresh.iter().filter(|stretch| stretch.until_ns >= times.at_ns);
    let error = after().find_map(|stretch| match &stretch.gave {
        // What failed before the kill too fails at the kill.
        Gave::Errno(errno) => Some((since(stretch.first_until_ns).max(0.0), errno.clone())),
        _ => None,
    });
    let longest = after().map(|stretch| stretch.longest_ns).max();
    let failed = after().filter(|stretch| matches!(stretch.gave, Gave::Errno(_)));
    let healed = healed(&measured.fresh, times.at_ns);
    let healing = match (healed, is_served) {
        (None, _) => Healing::Nothing,
        (Some(_), true) => Healing::Reconnect,
        (Some(_), false) => Healing::NewMount,
    };
    Death {
        killed,
        restarted_ms: since(times.restarted_ns),
        back_ms: times.back_ns.map(since),
        first_error: error,
        longest_ms: longest.unwrap_or_default() as f64 / 1e6,
        failed: failed.map(|stretch| stretch.operations).sum(),
        hangs: measured.fresh.iter().any(|stretch| stretch.gave == Gave::Hang),
        healed_ms: healed.map(since),
        held_healed_ms: self::healed(&measured.held, times.at_ns).map(since),
        healing,
        fresh: spans(&measured.fresh, times.at_ns),
        held: spans(&measured.held, times.at_ns),
    }
}

/// When the first access ended since which all have been good; none when the last ones are not.
fn healed(stretches: &[Stretch], killed_ns: u64) -> Option<u64> {
    let is_good = |stretch: &Stretch| matches!(stretch.gave, Gave::Ok | Gave::Slow);
    let good_at_end = stretches.iter().rev().take_while(|stretch| is_good(stretch)).count();
    let first = stretches.get(stretches.len() - good_at_end)?;
    // Where nothing was ever wrong, it was slow at the most.
    let slow = stretches.iter().find(|one| one.gave == Gave::Slow && one.until_ns >= killed_ns);
    match first.until_ns >= killed_ns && first.from_ns > killed_ns {
        true => Some(first.first_until_ns),
        false => slow.map_or(Some(killed_ns), |slow| Some(slow.until_ns)),
    }
}

fn spans(stretches: &[Stretch], killed_ns: u64) -> Vec<Span> {
    let span = |stretch: &Stretch| Span {
        from_ms: ms(killed_ns, stretch.from_ns),
        until_ms: ms(killed_ns, stretch.until_ns),
        gave: stretch.gave.clone(),
        operations: stretch.operations,
    };
    stretches.iter().map(span).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn stretch(from: u64, until: u64, gave: Gave, operations: u64) -> Stretch {
        Stretch {
            from_ns: from * MS,
            first_until_ns: (from + 1) * MS,
            until_ns: until * MS,
            gave,
            operations,
            longest_ns: MS,
        }
    }

    fn happened(fresh: Vec<Stretch>, is_served: bool) -> Death {
        let times = Killed { at_ns: 100 * MS, restarted_ns: 300 * MS, back_ns: Some(310 * MS) };
        let measured = Measured { fresh, ..Measured::default() };
        what_happened("bindfs".into(), &measured, &times, is_served)
    }

    #[test]
    fn an_error_and_the_new_mount_are_timed_from_the_kill() {
        let enotconn = Gave::Errno("ENOTCONN".into());
        let death = happened(
            vec![
                stretch(0, 99, Gave::Ok, 20),
                stretch(104, 310, enotconn, 40),
                stretch(314, 400, Gave::Ok, 9),
            ],
            false,
        );
        assert_eq!(death.first_error, Some((5.0, "ENOTCONN".into())));
        assert_eq!((death.failed, death.hangs), (40, false));
        assert_eq!((death.healed_ms, death.healing), (Some(215.0), Healing::NewMount));
        assert_eq!((death.restarted_ms, death.back_ms), (200.0, Some(210.0)));
        assert_eq!(death.fresh[0].from_ms, -100.0);
    }

    #[test]
    fn what_failed_before_the_kill_is_not_of_the_kill() {
        let errno = |name: &str| Gave::Errno(name.into());
        let fresh = vec![
            stretch(10, 20, errno("EIO"), 3),
            stretch(24, 90, Gave::Ok, 9),
            stretch(120, 400, errno("ENOTCONN"), 5),
        ];
        let death = happened(fresh, false);
        assert_eq!((death.first_error, death.failed), (Some((21.0, "ENOTCONN".into())), 5));
        let death = happened(vec![stretch(10, 400, errno("EIO"), 8)], false);
        assert_eq!(death.first_error, Some((0.0, "EIO".into())));
    }

    #[test]
    fn what_hangs_at_the_end_has_not_healed() {
        let death =
            happened(vec![stretch(0, 99, Gave::Ok, 20), stretch(99, 900, Gave::Hang, 1)], true);
        assert!(death.hangs && death.healed_ms.is_none());
        assert_eq!((death.healing, death.first_error), (Healing::Nothing, None));
    }

    #[test]
    fn a_client_that_waits_for_its_server_is_slow_and_no_error() {
        let death = happened(
            vec![
                stretch(0, 99, Gave::Ok, 20),
                stretch(100, 350, Gave::Slow, 1),
                stretch(354, 500, Gave::Ok, 30),
            ],
            true,
        );
        assert_eq!((death.first_error, death.failed), (None, 0));
        assert_eq!(death.healed_ms, Some(250.0));
        assert_eq!(death.healing, Healing::Reconnect);
    }
}
