//! The method against fio's: both see the same reads of the same file.
//!
//! The median of single reads decides: on a busy machine a read now and then waits for its turn, most do not. Rates and
//! processor time, which every such wait changes, are held in wide bounds here; `cargo bench -p propagation-compare`
//! prints them.

#[cfg(target_os = "linux")]
#[path = "method/fio.rs"]
mod fio;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    linux::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
mod linux {
    use std::path::Path;
    use std::process::ExitCode;

    use libtest_mimic::{Arguments, Failed, Trial};
    use propagation_conformance::skip;

    use crate::fio::{Agreement, Reads, agreement};

    const TURNS: usize = 7;

    /// A machine that is too busy in one attempt is not in all of them.
    const ATTEMPTS: usize = 4;

    pub(super) fn main() -> ExitCode {
        let arguments = Arguments::from_args();
        let trials = Reads::ALL.map(|reads| {
            let name = format!("fio_sees_the_same: {}", reads.name());
            match Path::new("/usr/bin/fio").exists() {
                true => Trial::test(name, move || agree(reads)),
                false => Trial::ignorable_test(name, || skip("fio", "fio is not installed")),
            }
        });
        libtest_mimic::run(&arguments, trials.into()).exit_code()
    }

    fn agree(reads: Reads) -> Result<(), Failed> {
        let mut found: Vec<Agreement> = Vec::new();
        for _ in 0..ATTEMPTS {
            let now = agreement(reads, TURNS).map_err(|error| error.to_string())?;
            let is_near = |value: f64| (0.5..=2.0).contains(&value);
            if (0.9..=1.1).contains(&now.read) && is_near(now.rate) && is_near(now.cost) {
                return Ok(());
            }
            found.push(now);
        }
        Err(format!("reads within 10 %, the rest within a factor of two: {found:#?}").into())
    }
}
