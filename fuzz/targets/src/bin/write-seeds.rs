//! Writes the seeds of every target below a directory, each into a file of its own: where libFuzzer begins.

fn main() -> std::io::Result<()> {
    let corpus =
        std::env::args_os().nth(1).ok_or_else(|| std::io::Error::other("name a directory"))?;
    #[cfg(target_os = "linux")]
    for target in propagation_fuzz_targets::TARGETS {
        let directory = std::path::Path::new(&corpus).join(target.name);
        std::fs::create_dir_all(&directory)?;
        for (number, seed) in (target.seeds)().into_iter().enumerate() {
            std::fs::write(directory.join(format!("seed-{number}")), seed)?;
        }
    }
    Ok(())
}
