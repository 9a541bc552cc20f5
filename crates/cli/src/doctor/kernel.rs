//! The kernel in the output of doctor: its features, their use, and what a newer kernel would add.

use propagation_core::kernel::{FeatureFact, FeatureState, Known};
use propagation_report::text::Colour;

/// The lines of the section; none where nothing is known of the kernel.
pub(super) fn section(release: &str, facts: &[FeatureFact], colour: Colour) -> Vec<String> {
    let of = |state| facts.iter().filter(move |fact| fact.state == state);
    let mut lines = Vec::new();
    let mut part = |title: String, found: Vec<String>| {
        if !found.is_empty() {
            lines.push(String::new());
            lines.push(colour.bold(&title));
            lines.extend(found);
        }
    };
    part(format!("Linux {release} gives"), of(FeatureState::There).map(line).collect());
    let off = of(FeatureState::Off).flat_map(|fact| {
        let switch = fact.feature.switch().map(|command| format!("      {command}"));
        std::iter::once(line(fact)).chain(switch)
    });
    part("It would also give, when switched on for the whole machine".into(), off.collect());
    part("A newer kernel would add".into(), of(FeatureState::Missing).map(line).collect());
    lines
}

fn line(fact: &FeatureFact) -> String {
    let known = match fact.known {
        Known::Probed => "probed",
        Known::ByVersion => "by its version",
    };
    let FeatureFact { feature, .. } = fact;
    format!("  {} (Linux {}, {known}): {}", feature.name(), feature.since(), feature.worth())
}

#[cfg(test)]
mod tests {
    use propagation_core::kernel::KernelFeature;

    use super::*;

    #[test]
    fn each_feature_is_named_once_where_it_belongs() {
        let mut facts: Vec<FeatureFact> =
            KernelFeature::ALL.map(|one| FeatureFact::by_version(one, "6.8.0")).into();
        facts.push(FeatureFact::probed(KernelFeature::RequestTimeout, FeatureState::Off));
        let lines = section("6.8.0", &facts, Colour::Plain);
        let at = |part: &str| lines.iter().position(|line| line.contains(part)).expect("a line");
        assert!(at("Linux 6.8.0 gives") < at("rebind_without_hole (Linux 6.5, by its version)"));
        assert!(at("switched on") < at("request_timeout (Linux 6.15, probed)"));
        assert!(at("request_timeout (Linux 6.15, probed)") < at("sysctl -w fs.fuse"));
        assert!(at("A newer kernel would add") < at("resend (Linux 6.9, by its version)"));
        assert!(section("6.8.0", &[], Colour::Plain).is_empty());
    }
}
