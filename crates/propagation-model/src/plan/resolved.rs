//! Paths of a plan that lead over symbolic links of a node.

use serde::{Deserialize, Serialize};

use super::{Plan, Volume};

/// A path of a plan, and where the symbolic links of the node lead from it. Mount tables have the second only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ResolvedPath {
    /// The path that the plan named.
    pub asked: String,
    /// The path without symbolic links.
    pub on_node: String,
}

impl Plan {
    /// The absolute paths of the node that the plan names: the bridge's first, then those of further volumes.
    pub fn node_paths(&self) -> Vec<String> {
        let sources = self.workloads.iter().flat_map(|spec| &spec.volumes);
        let sources = sources.map(|volume| &volume.source).filter(|source| source.starts_with('/'));
        let mut paths = vec![self.bridge.path.clone()];
        for source in sources {
            if !paths.contains(source) {
                paths.push(source.clone());
            }
        }
        paths
    }

    /// Names these paths of the node by where they lead.
    ///
    /// ```
    /// use propagation_model::Plan;
    /// use propagation_model::plan::ResolvedPath;
    ///
    /// let mut plan = Plan::default();
    /// plan.bridge.path = "/var/run/shared".into();
    /// let (asked, on_node) = ("/var/run/shared".into(), "/run/shared".into());
    /// plan.resolve(&[ResolvedPath { asked, on_node }]);
    /// assert_eq!(plan.bridge.fuse_path(), "/run/shared/dfs");
    /// ```
    pub fn resolve(&mut self, resolved: &[ResolvedPath]) {
        for spec in &mut self.workloads {
            let Volume::Path(path) = &mut spec.volume else { continue };
            let below = resolved.iter().find_map(|known| {
                let rest = path.strip_prefix(known.asked.as_str())?;
                (rest.is_empty() || rest.starts_with('/'))
                    .then(|| format!("{}{rest}", known.on_node))
            });
            if let Some(on_node) = below {
                *path = on_node;
            }
        }
        let sources = self.workloads.iter_mut().flat_map(|spec| &mut spec.volumes);
        for path in sources.map(|volume| &mut volume.source).chain([&mut self.bridge.path]) {
            if let Some(known) = resolved.iter().find(|known| known.asked == *path) {
                path.clone_from(&known.on_node);
            }
        }
    }
}
