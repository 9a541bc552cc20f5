//! Suggestions for misspelt words.

/// The candidate that is nearest to `word`, if one is near enough to have been meant.
///
/// ```
/// use propagation_model::suggest::nearest;
///
/// assert_eq!(nearest("propogation", ["role", "propagation"]), Some("propagation"));
/// assert_eq!(nearest("colour", ["role", "propagation"]), None);
/// ```
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// Below this two words have little in common.
    const NEAR: f64 = 0.8;
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(likeness, _)| *likeness > NEAR)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}
