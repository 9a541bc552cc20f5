//! Images that a node already has: containers can be made of them without a registry.

use propagation_core::{Error, ErrorKind};

use crate::kinds::Node;

/// Parts of the names of images that have a shell and gunzip. k3s brings the first ones along.
const WITH_SHELL: [&str; 7] =
    ["busybox", "klipper-lb", "klipper-helm", "alpine", "debian", "ubuntu", "nginx"];

/// The images that a node says it has, each by one of its names, the smallest first.
fn images(node: &Node) -> Vec<(&str, i64)> {
    let images = node.status.iter().flat_map(|status| status.images.iter().flatten());
    let mut named: Vec<(&str, i64)> = images
        .filter_map(|image| {
            let names = image.names.as_ref()?;
            // A name with a tag is what a pod would say; a digest will do as well.
            let name = names.iter().find(|name| !name.contains('@')).or_else(|| names.first())?;
            Some((name.as_str(), image.size_bytes.unwrap_or_default()))
        })
        .filter(|(name, _)| *name != "<none>:<none>")
        .collect();
    named.sort_by_key(|(_, size)| *size);
    named
}

/// An image for the container of the agent: preferably the pause image, which every node has and which is
/// empty.
///
/// # Errors
/// [`ErrorKind::Environment`] when the node reports no image.
pub(crate) fn surroundings(node: &Node) -> Result<String, Error> {
    let images = images(node);
    let pause = images.iter().find(|(name, _)| name.contains("pause"));
    pause.or(images.first()).map(|(name, _)| (*name).to_owned()).ok_or_else(|| {
        Error::new(ErrorKind::Environment, "choose an image", "the node tells of none that it has")
            .with_fix("name one with --image")
    })
}

/// An image that can unpack the agent.
///
/// # Errors
/// [`ErrorKind::Environment`] with the other ways when the node has none.
pub(crate) fn with_shell(node: &Node) -> Result<String, Error> {
    let images = images(node);
    let found = WITH_SHELL.iter().find_map(|part| {
        images.iter().find(|(name, _)| name.contains(part)).map(|(name, _)| (*name).to_owned())
    });
    found.ok_or_else(|| {
        let reason = "the node has no image with a shell that could unpack it";
        Error::new(ErrorKind::Environment, "bring the agent onto the node", reason).with_fix(
            "reach the node over ssh (--access ssh); or name an image that has the agent with \
             --image; or import the archive that `propagation image` writes",
        )
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(images: &[(&str, i64)]) -> Node {
        let image = |(name, size): &(&str, i64)| json!({ "names": [name], "sizeBytes": size });
        let images: Vec<Value> = images.iter().map(image).collect();
        serde_json::from_value(json!({ "status": { "images": images } })).expect("a node")
    }

    #[test]
    fn pause_is_best_and_the_smallest_will_do() {
        let all = [("big:1", 900), ("docker.io/rancher/mirrored-pause:3.6", 300), ("tiny:1", 1)];
        assert_eq!(surroundings(&node(&all)).expect("pause"), all[1].0);
        assert_eq!(surroundings(&node(&all[..1])).expect("another"), "big:1");
        assert!(surroundings(&node(&[])).is_err());
    }

    #[test]
    fn a_shell_is_looked_for_by_name() {
        let all = [("docker.io/library/nginx:1", 9), ("rancher/mirrored-library-busybox:1.36", 5)];
        assert_eq!(with_shell(&node(&all)).expect("busybox"), all[1].0);
        let error = with_shell(&node(&[("pause:3", 1)])).expect_err("none");
        assert!(error.fix().is_some_and(|fix| fix.contains("--image")));
    }
}
