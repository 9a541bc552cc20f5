//! The method against fio's, with rates and the cost of measuring. Agreement within 10 % and at most 5 % more processor
//! time than fio are aimed at, on a machine that does nothing else.

#[cfg(target_os = "linux")]
#[path = "../tests/method/cost.rs"]
mod cost;
#[cfg(target_os = "linux")]
#[path = "../tests/method/fio.rs"]
mod fio;

#[cfg(target_os = "linux")]
#[expect(clippy::print_stdout, reason = "a program that measures")]
fn main() -> Result<(), fio::Failed> {
    const TURNS: usize = 15;
    for reads in fio::Reads::ALL {
        let found = fio::agreement(reads, TURNS)?;
        println!(
            "{}: median read {:.3}, rate {:.3}, processor time {:.3} times fio's",
            reads.name(),
            found.read,
            found.rate,
            found.cost
        );
    }
    let cost = cost::cost(5)?;
    println!(
        "at 16 MiB/s from a FUSE mount, of one core: measuring {:.2} %, fio {:.2} %, more by {:.2} %",
        cost.measuring * 100.0,
        cost.fio * 100.0,
        cost.more * 100.0
    );
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn main() {}
