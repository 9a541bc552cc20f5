//! Values of options: paths, times, and words that a scenario file has too.

use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

/// A parser for some words, each with its value.
pub(crate) fn one_of<T: Clone + Send + Sync + 'static>(
    words: Vec<(PossibleValue, T)>,
) -> impl TypedValueParser<Value = T> {
    let values: Vec<PossibleValue> = words.iter().map(|(word, _)| word.clone()).collect();
    PossibleValuesParser::new(values).try_map(move |given| {
        let found = words.iter().find(|(word, _)| word.matches(&given, true));
        found.map(|(_, value)| value.clone()).ok_or("it is unknown")
    })
}

/// A path without the final slash that shell completion adds.
#[expect(clippy::unnecessary_wraps, reason = "as clap wants it")]
pub(crate) fn parse_bridge(text: &str) -> Result<String, String> {
    let path = text.trim_end_matches('/');
    Ok(if path.is_empty() { text } else { path }.to_owned())
}

/// The name of a file right in a directory.
pub(crate) fn parse_file_name(text: &str) -> Result<String, String> {
    match text {
        "" | "." | ".." => Err("it is not the name of a file".into()),
        path if path.contains('/') => {
            Err("it is a path: write the name of a file right in the mount".into())
        }
        name => Ok(name.to_owned()),
    }
}

/// The command of a FUSE daemon, which is told where to mount.
pub(crate) fn parse_producer_command(text: &str) -> Result<String, String> {
    match text {
        empty if empty.trim().is_empty() => Err("it is empty: write a program".into()),
        deaf if !deaf.contains("{mountpoint}") => Err(
            "it has no {mountpoint}: write that where the daemon is to mount, as in \"bindfs -f {source} {mountpoint}\""
                .into(),
        ),
        command => Ok(command.to_owned()),
    }
}

/// Time limit of experiments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Experiments {
    Off,
    All,
    For(Duration),
}

pub(crate) fn parse_experiments(text: &str) -> Result<Experiments, String> {
    match text {
        "off" => Ok(Experiments::Off),
        "all" => Ok(Experiments::All),
        time => parse_duration(time)
            .map(Experiments::For)
            .map_err(|why| format!("{why}; or `all`, or `off`")),
    }
}

/// `90s`, `4m30s`, `1500ms`, or a bare number of seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let parsed = match text.parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => text.parse::<jiff::SignedDuration>().ok().and_then(|d| d.try_into().ok()),
    };
    let duration =
        parsed.ok_or("write a time such as 500ms, 30s or 4m30s, or a number of seconds")?;
    match duration.as_millis() {
        0 => Err("it must be longer than 0".into()),
        milliseconds if u64::try_from(milliseconds).is_err() => Err("it is too long".into()),
        _ => Ok(duration),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentinel_has_no_path_and_a_daemon_is_told_where_to_mount() {
        assert!(parse_file_name("marker.txt").is_ok());
        for bad in ["", ".", "..", "../x", "a/b"] {
            assert!(parse_file_name(bad).is_err(), "{bad:?}");
        }
        assert!(parse_producer_command("bindfs -f {source} {mountpoint}").is_ok());
        for bad in ["", " ", "bindfs -f {source} {mountpoint"] {
            assert!(parse_producer_command(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("7"), Ok(Duration::from_secs(7)));
        assert_eq!(parse_duration("4m30s"), Ok(Duration::from_secs(270)));
        assert_eq!(parse_duration("1h"), Ok(Duration::from_secs(3_600)));
        let too_long = ["99999999999999999999s", "18446744073709551615m", "18446744073709551615"];
        for bad in ["", "s", "0s", "0", "-1s", "1 s ago", "m30", "banana"].iter().chain(&too_long) {
            assert!(parse_duration(bad).is_err(), "{bad:?}");
        }
    }
}
