//! The few options of the benchmarks.

/// The whole number after `--name` on the command line, or `default`. What cargo adds (`--bench`)
/// and names of other options are left alone.
pub fn number(name: &str, default: usize) -> usize {
    find(std::env::args().skip(1), name).unwrap_or(default)
}

fn find(words: impl Iterator<Item = String>, name: &str) -> Option<usize> {
    let mut words = words.skip_while(|word| word.strip_prefix("--") != Some(name));
    words.nth(1)?.parse().ok().filter(|&number| number > 0)
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn the_number_follows_its_name() {
        let words = || ["--bench", "--pairs", "7"].into_iter().map(str::to_owned);
        assert_eq!(find(words(), "pairs"), Some(7));
        assert_eq!(find(words(), "bench"), None);
        assert_eq!(find(words(), "rounds"), None);
    }
}
