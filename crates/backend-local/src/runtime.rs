//! OCI runtimes on a simulated node: finds them, and says what they do not support.

use std::path::{Path, PathBuf};

use nix::unistd::Uid;
use propagation_core::plan::{Engine, NodeSpec, Plan, RuntimeSpec};
use propagation_core::program::PATH;

/// Why the containers of a plan cannot be made by the runtime it names; none when they can, as far
/// as can be told before there is a node.
pub(crate) fn missing(plan: &Plan) -> Option<String> {
    let node = &plan.node;
    let engine = &node.runtime.engine;
    if node.runtime.is_builtin() {
        return None;
    }
    let reason = if !Uid::effective().is_root() {
        "that needs root".to_owned()
    } else if node.runtime.user_namespace {
        "it is not run in a user namespace of its own".to_owned()
    } else if let Some(workload) = plan.workloads.iter().find(|one| one.user_namespace) {
        format!("{} has a user namespace, which is not configured for it", workload.name)
    } else if node.without_host_tools {
        "the libraries that it may need are left out of the node".to_owned()
    } else {
        find(&node.runtime).err()?
    };
    Some(format!("containers by {engine} cannot be made on a simulated node: {reason}"))
}

/// The same node, with the absolute path of its runtime.
pub(crate) fn with_path(node: &NodeSpec) -> NodeSpec {
    let mut node = node.clone();
    if !node.runtime.is_builtin()
        && let Ok(path) = find(&node.runtime)
    {
        node.runtime.engine = Engine::At(path.to_string_lossy().into_owned());
    }
    node
}

/// Where the program of a runtime is.
fn find(runtime: &RuntimeSpec) -> Result<PathBuf, String> {
    let name = runtime.engine.to_string();
    if let Engine::At(path) = &runtime.engine {
        return match Path::new(path).canonicalize() {
            Ok(path) if path.is_file() => Ok(path),
            Ok(_) => Err("it is no file".into()),
            Err(error) => Err(error.to_string()),
        };
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    // The variable may lack the system's directories.
    std::env::split_paths(&path)
        .chain(std::env::split_paths(PATH))
        .map(|directory| directory.join(&name))
        .find(|program| program.is_file())
        .and_then(|program| program.canonicalize().ok())
        .ok_or_else(|| "it is not installed".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime(engine: &str) -> RuntimeSpec {
        let engine = engine.parse().expect("an engine");
        RuntimeSpec { engine, ..RuntimeSpec::default() }
    }

    #[test]
    fn a_runtime_is_found_by_its_path() {
        assert!(find(&runtime("/bin/sh")).is_ok_and(|path| path.is_absolute()));
        assert_eq!(find(&runtime("/usr")), Err("it is no file".into()));
        assert!(find(&runtime("/no/such/runtime")).is_err());
    }

    #[test]
    fn the_builtin_engine_is_never_refused() {
        let plan = Plan::default();
        assert_eq!(missing(&plan), None);
        assert_eq!(with_path(&plan.node), plan.node);
    }

    #[test]
    fn what_is_missing_is_named() {
        let node = NodeSpec { runtime: runtime("/no/such/runtime"), ..NodeSpec::default() };
        let reason =
            missing(&Plan::default().with(|plan| plan.node = node)).expect("it is refused");
        let words = if Uid::effective().is_root() { "No such file" } else { "root" };
        assert!(reason.contains("/no/such/runtime") && reason.contains(words), "{reason}");
    }
}
