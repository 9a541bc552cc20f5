//! The bundle of a container: what containerd's CRI plugin writes, as far as mounts, devices and
//! capabilities go (`WithMounts`, `WithDefaultSpec`, `WithHostDevices`, `WithAllCurrentCapabilities`).

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use propagation_model::plan::Propagation;
use propagation_model::program::{PATH, StartRefused};
use propagation_protocol::{Bind, ContainerSpec};
use serde_json::{Value, json};

use super::super::capabilities;
use super::super::made::refused;
use super::PROGRAM;
use crate::mounts::errno_of;

/// A device of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Device {
    path: String,
    major: u64,
    minor: u64,
    mode: u32,
}

/// The node's devices, which a privileged container has.
pub(super) fn devices() -> Result<Vec<Device>, StartRefused> {
    /// The bits of a mode that are permissions.
    const PERMISSIONS: u32 = 0o7777;
    let read = || -> std::io::Result<Vec<Device>> {
        let mut devices = Vec::new();
        for entry in fs::read_dir("/dev")? {
            let path = entry?.path();
            let metadata = fs::metadata(&path)?;
            if metadata.file_type().is_char_device() {
                devices.push(Device {
                    path: path.to_string_lossy().into_owned(),
                    major: rustix::fs::major(metadata.rdev()).into(),
                    minor: rustix::fs::minor(metadata.rdev()).into(),
                    mode: metadata.mode() & PERMISSIONS,
                });
            }
        }
        devices.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(devices)
    };
    read().map_err(|error| refused("list the node's devices", errno_of(&error)))
}

/// The runtime's configuration of a container with the first volume `volume` and the root filesystem at
/// `rootfs` on the node.
pub(super) fn config(
    spec: &ContainerSpec,
    volume: &Bind,
    rootfs: &Path,
    devices: &[Device],
    capabilities: &[String],
) -> Value {
    let binds = || std::iter::once(volume).chain(&spec.volumes[1..]);
    let mut mounts = vec![
        json!({
            "destination": "/proc", "type": "proc", "source": "proc",
            "options": ["nosuid", "noexec", "nodev"],
        }),
        json!({
            "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        }),
    ];
    if spec.tools {
        // What would be in its image.
        mounts.push(json!({
            "destination": "/usr", "type": "bind", "source": "/usr",
            "options": ["rbind", "rprivate"],
        }));
    }
    mounts.extend(binds().map(|bind| {
        json!({
            "destination": bind.destination, "type": "bind", "source": bind.source,
            "options": [
                if bind.how.recursive { "rbind" } else { "bind" },
                bind.propagation.mount_option(),
                match (bind.how.read_only, bind.how.recursive_read_only) {
                    (_, true) => "rro",
                    (true, false) => "ro",
                    (false, false) => "rw",
                },
            ],
        })
    }));
    let mut config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {
                "uid": spec.user.uid,
                "gid": spec.user.uid,
                "additionalGids": spec.user.groups,
            },
            "args": [PROGRAM, "container"],
            "env": [format!("PATH={PATH}")],
            "cwd": "/",
            "noNewPrivileges": false,
            "capabilities": {
                "bounding": capabilities,
                "effective": capabilities,
                "permitted": capabilities,
            },
        },
        "root": { "path": rootfs, "readonly": false },
        "mounts": mounts,
        "linux": { "namespaces": [{ "type": "pid" }, { "type": "mount" }] },
    });
    if spec.privileged {
        let device = |device: &Device| {
            json!({
                "path": device.path, "type": "c", "major": device.major, "minor": device.minor,
                "fileMode": device.mode, "uid": 0, "gid": 0,
            })
        };
        config["linux"]["devices"] = devices.iter().map(device).collect();
    }
    // The root's propagation follows from the strongest of the volumes'.
    let strongest = [Propagation::Bidirectional, Propagation::HostToContainer]
        .into_iter()
        .find(|mode| binds().any(|bind| bind.propagation == *mode));
    if let Some(mode) = strongest {
        config["linux"]["rootfsPropagation"] = mode.mount_option().into();
    }
    config
}

/// The capabilities of a container: all that the node has when it is privileged.
pub(super) fn capabilities_of(spec: &ContainerSpec) -> Result<Vec<String>, StartRefused> {
    let set = match spec.privileged {
        true => capabilities::current(),
        false => capabilities::default_and(&spec.capabilities),
    };
    set.map(capabilities::names).map_err(|errno| refused("read the capabilities", errno))
}

#[cfg(test)]
mod tests {
    use propagation_model::plan::{BindSpec, User};

    use super::*;

    fn bind(destination: &str, propagation: Propagation) -> Bind {
        let how = BindSpec::default();
        Bind { source: "/tmp/b".into(), destination: destination.into(), propagation, how }
    }

    fn spec(volumes: Vec<Bind>, privileged: bool) -> ContainerSpec {
        ContainerSpec { privileged, ..crate::test_container::consumer(volumes) }
    }

    fn written(volumes: Vec<Bind>, privileged: bool) -> Value {
        let spec = spec(volumes, privileged);
        let fuse = Device { path: "/dev/fuse".into(), major: 10, minor: 229, mode: 0o666 };
        config(&spec, &spec.volumes[0], Path::new("/rootfs"), &[fuse], &["CAP_KILL".into()])
    }

    #[test]
    fn the_roots_propagation_is_the_strongest_of_the_volumes() {
        use Propagation::{Bidirectional, HostToContainer, None};
        for (modes, root) in [
            (vec![None], Value::Null),
            (vec![None, HostToContainer], "rslave".into()),
            (vec![Bidirectional, HostToContainer], "rshared".into()),
        ] {
            let binds = modes.iter().map(|mode| bind("/mnt", *mode)).collect();
            assert_eq!(written(binds, false)["linux"]["rootfsPropagation"], root, "{modes:?}");
        }
    }

    #[test]
    fn the_user_has_its_groups() {
        let mut spec = spec(vec![bind("/mnt", Propagation::None)], false);
        spec.user = User { uid: 1000, groups: vec![2000, 44] };
        let config = config(&spec, &spec.volumes[0], Path::new("/rootfs"), &[], &[]);
        let user = json!({ "uid": 1000, "gid": 1000, "additionalGids": [2000, 44] });
        assert_eq!(config["process"]["user"], user);
    }

    #[test]
    fn volumes_have_the_options_of_containerd() {
        let config = written(vec![bind("/mnt", Propagation::HostToContainer)], false);
        let volume = &config["mounts"][2];
        assert_eq!(volume["destination"], "/mnt");
        assert_eq!(volume["options"], json!(["rbind", "rslave", "rw"]));
    }

    #[test]
    fn read_only_and_alone_are_options_too() {
        for (how, options) in [
            (
                BindSpec { read_only: true, ..BindSpec::default() },
                json!(["rbind", "rprivate", "ro"]),
            ),
            (
                BindSpec { read_only: true, recursive_read_only: true, ..BindSpec::default() },
                json!(["rbind", "rprivate", "rro"]),
            ),
            (
                BindSpec { recursive: false, ..BindSpec::default() },
                json!(["bind", "rprivate", "rw"]),
            ),
        ] {
            let volume = Bind { how, ..bind("/mnt", Propagation::None) };
            assert_eq!(written(vec![volume], false)["mounts"][2]["options"], options);
        }
    }

    #[test]
    fn only_a_privileged_container_has_the_nodes_devices() {
        let binds = || vec![bind("/mnt", Propagation::Bidirectional)];
        assert_eq!(written(binds(), false)["linux"]["devices"], Value::Null);
        assert_eq!(written(binds(), true)["linux"]["devices"][0]["minor"], 229);
    }
}
