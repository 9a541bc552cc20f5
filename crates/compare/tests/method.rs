//! The method against fio's: both see the same reads of the same file.
//!
//! The median of single reads decides: on a busy machine a read now and then waits for its turn, most do not. Rates and
//! processor time, which every such wait changes, are held in wide bounds here; `cargo bench -p propagation-compare`
//! prints them.

#[cfg(target_os = "linux")]
#[path = "method/cost.rs"]
mod cost;
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

    use crate::cost::cost;
    use crate::fio::{Agreement, Reads, agreement};

    const TURNS: usize = 7;

    /// A machine that is too busy in one attempt is not in all of them.
    const ATTEMPTS: usize = 4;

    pub(super) fn main() -> ExitCode {
        let arguments = Arguments::from_args();
        let test =
            |name: String, run: Box<dyn FnOnce() -> Result<(), Failed> + Send>| match Path::new(
                "/usr/bin/fio",
            )
            .exists()
            {
                true => Trial::test(name, run),
                false => Trial::ignorable_test(name, || skip("fio", "fio is not installed")),
            };
        let agree = Reads::ALL.map(|reads| {
            let name = format!("fio_sees_the_same: {}", reads.name());
            test(name, Box::new(move || agree(reads)))
        });
        let costs = test("measuring_costs_little_more_than_fio".into(), Box::new(costs_little));
        let trials = agree.into_iter().chain([costs]).collect();
        libtest_mimic::run(&arguments, trials).exit_code()
    }

    /// What is aimed at is a twentieth of a core; a busy machine makes both dearer, and not by the same.
    fn costs_little() -> Result<(), Failed> {
        const AT_MOST: f64 = 0.25;
        let cost = cost(3).map_err(|error| error.to_string())?;
        match cost.more < AT_MOST {
            true => Ok(()),
            false => {
                let (own, fio) = (cost.measuring, cost.fio);
                Err(format!("of a core: {own}, and fio {fio}; more by {}", cost.more).into())
            }
        }
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
