//! Security modules in the output of doctor: what stands in the way of FUSE mounts, and how it is got out of it.

use propagation_core::confinement::Confinement;
use propagation_report::text::{Colour, one_line};

/// The lines of the section; none where nothing is known to stand in the way.
pub(super) fn section(found: &[Confinement], colour: Colour) -> Vec<String> {
    if found.is_empty() {
        return Vec::new();
    }
    let head = [String::new(), colour.bold("Security modules")];
    let each = found.iter().flat_map(|one| {
        let fix = one.fix().map(|fix| format!("      {fix}"));
        std::iter::once(format!("  {}", one_line(&one.words()))).chain(fix)
    });
    head.into_iter().chain(each).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_denies_has_a_fix_below_it() {
        let found = [Confinement::Helper("fusermount3".into()), Confinement::SelinuxPermissive];
        let lines = section(&found, Colour::Plain);
        assert_eq!(lines.len(), 5);
        assert!(lines[2].contains("the AppArmor profile fusermount3 lists"), "{lines:?}");
        assert!(lines[3].contains("/etc/apparmor.d/local/fusermount3"), "{lines:?}");
        assert!(lines[4].contains("permissive"), "{lines:?}");
        assert!(section(&[], Colour::Plain).is_empty());
    }
}
