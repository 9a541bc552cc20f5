//! The suite on the real kernel of this machine, through the local backend.

use std::process::ExitCode;

use propagation_conformance::{Suite, run_suites};

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    use propagation_backend_local::{LocalBackend, leftovers, remove};
    use propagation_conformance::Need;
    use propagation_core::Feature;

    let suite = Suite::new(LocalBackend::new())
        // Without newuidmap an ordinary user has one user id only, and the mode of /dev/fuse is the
        // machine's.
        .accepting_without([Need::Feature(Feature::OtherUids), Need::Fusermount3])
        .with_remover(|run| async move {
            remove(&run).await.map(drop).map_err(|error| error.to_string())
        })
        .with_look_afterwards(|run| {
            let left = leftovers().map_err(|error| error.to_string())?;
            match left.into_iter().find(|leftover| leftover.run_id == *run) {
                Some(leftover) => Err(format!("left behind: {leftover:?}")),
                None => Ok(()),
            }
        });
    run_suites(vec![suite])
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    use propagation_core::fake::FakeBackend;

    let absent = FakeBackend::default()
        .with_name("local")
        .with_absence("simulated nodes are Linux mount namespaces, and this is not Linux");
    run_suites(vec![Suite::new(absent)])
}
