//! The real runtimes: finding them, and a container by one of them on a simulated node.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use libtest_mimic::Failed;
use propagation_core::mountinfo::MountTable;
use propagation_core::plan::Propagation;
use serde_json::{Value, json};

use super::case::Case;
use super::cgroups;
use super::inside::{Step, act};
use super::roots::{Maker, Version};
use super::world::World;

/// Begins the name of every container.
const PREFIX: &str = "propagation-side-by-side";

/// The container's program: the agent, which is static.
const PROGRAM: &str = "/propagation-agent";

/// A runtime that is installed.
#[derive(Debug, Clone)]
pub(super) struct Runtime {
    pub(super) maker: Maker,
    pub(super) version: Version,
    /// What it calls itself.
    pub(super) title: String,
    program: PathBuf,
}

impl Runtime {
    /// Looks for a runtime.
    ///
    /// # Errors
    /// With the reason why it cannot be used.
    pub(super) fn find(maker: Maker) -> Result<Self, String> {
        let name = maker.to_string();
        let path = std::env::var("PATH").unwrap_or_default();
        let program = std::env::split_paths(&format!("{path}:/usr/sbin:/usr/bin:/sbin:/bin"))
            .map(|directory| directory.join(&name))
            .find(|program| program.is_file())
            .ok_or_else(|| format!("{name} is not installed"))?;
        // A simulated node has the host's programs, and nothing else of it.
        let program = fs::canonicalize(&program).map_err(|e| format!("{name}: {e}"))?;
        if !program.starts_with("/usr") {
            return Err(format!("{} is not under /usr", program.display()));
        }
        let output = Command::new(&program).arg("--version").output();
        let output = output.map_err(|e| format!("{}: {e}", program.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let title = text.lines().next().unwrap_or_default().to_owned();
        let version = title.rsplit(' ').next().unwrap_or_default().parse()?;
        Ok(Self { maker, version, title, program })
    }

    /// Makes the bundle of a case on the node.
    pub(super) async fn prepare<'a>(
        &'a self,
        world: &'a World,
        case: Case,
    ) -> Result<Container<'a>, Failed> {
        let directory = format!("/run/side-by-side/{}", self.maker);
        let rootfs = format!("{directory}/rootfs");
        fs::create_dir_all(world.path(&rootfs))?;
        // A mount of its own below a shared one, as containerd makes it.
        world.act(Step::Mount { source: "rootfs".into(), at: rootfs.clone() })?;
        let program = world.path(&format!("{rootfs}{PROGRAM}"));
        fs::write(&program, propagation_agent_embed::AGENT)?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        let config = serde_json::to_vec_pretty(&config(case))?;
        fs::write(world.path(&format!("{directory}/config.json")), config)?;
        self.withhold_cgroups(world).await?;
        Ok(Container {
            runtime: self,
            world,
            id: container_id(world),
            directory,
            rootfs,
            started: false,
        })
    }

    /// Control groups are the machine's, and would stay if the node were killed: the runtime gets
    /// none. runc makes do where it may not make them and was not told to.
    async fn withhold_cgroups(&self, world: &World) -> Result<(), Failed> {
        if self.maker == Maker::Runc {
            for mount in world.mount_table().await?.iter() {
                if mount.fs_type == "cgroup" || mount.fs_type == "cgroup2" {
                    world.act(Step::ReadOnly { at: mount.mount_point.to_string() })?;
                }
            }
        }
        // crun, even when it is told to use none, refuses version 2 with controllers beside version
        // 1. It is covered on the node, and on the node only.
        let hybrid = "/sys/fs/cgroup/unified";
        if self.maker == Maker::Crun && world.path(hybrid).is_dir() {
            world.act(Step::Mount { source: "hidden".into(), at: hybrid.into() })?;
        }
        Ok(())
    }
}

/// The name of the container on a node, and of a control group that must not be made.
fn container_id(world: &World) -> String {
    let node = world.process().file_name().unwrap_or_default().to_string_lossy();
    format!("{PREFIX}-{}-{node}", std::process::id())
}

/// What containerd writes for a privileged container with one volume, as far as mounts go
/// (`WithMounts` of its CRI plugin).
fn config(case: Case) -> Value {
    let paths = case.paths();
    let program = [PROGRAM, "consumer", "--mountpoint", &paths.fuse];
    let mut config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": program,
            "env": ["PATH=/"],
            "cwd": "/",
        },
        "root": { "path": "rootfs", "readonly": false },
        "mounts": [
            {
                "destination": "/proc", "type": "proc", "source": "proc",
                "options": ["nosuid", "noexec", "nodev"],
            },
            {
                "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
            },
            {
                "destination": paths.destination, "type": "bind", "source": paths.source,
                "options": ["rbind", case.mode.mount_option(), "rw"],
            },
        ],
        "linux": {
            "namespaces": [{ "type": "pid" }, { "type": "mount" }],
        },
    });
    if case.mode != Propagation::None {
        config["linux"]["rootfsPropagation"] = case.mode.mount_option().into();
    }
    config
}

/// A container on the node. [`Container::delete`] ends it; dropping it tries to.
pub(super) struct Container<'a> {
    runtime: &'a Runtime,
    world: &'a World,
    id: String,
    directory: String,
    /// Where its root filesystem is on the node.
    pub(super) rootfs: String,
    started: bool,
}

impl Container<'_> {
    /// Starts it.
    pub(super) fn start(&mut self) -> Result<(), Failed> {
        let pid_file = format!("{}/pid", self.directory);
        self.started = true;
        let bundle = self.directory.as_str();
        self.call(&["run", "--detach", "--bundle", bundle, "--pid-file", &pid_file, &self.id])
    }

    /// The directory of its first process, as the node's /proc has it.
    pub(super) fn process(&self) -> Result<PathBuf, Failed> {
        let pid = fs::read_to_string(self.world.path(&format!("{}/pid", self.directory)))?;
        Ok(self.world.path("/proc").join(pid.trim()))
    }

    /// Its mount table.
    pub(super) fn mount_table(&self) -> Result<MountTable, Failed> {
        Ok(MountTable::parse(&fs::read(self.process()?.join("mountinfo"))?)?)
    }

    /// Ends it with everything that the runtime made for it outside the node.
    pub(super) fn delete(mut self) -> Result<(), Failed> {
        self.started = false;
        self.call(&["delete", "--force", &self.id])
    }

    /// Calls the runtime on the node.
    fn call(&self, words: &[&str]) -> Result<(), Failed> {
        let log = format!("{}/log", self.directory);
        let mut arguments =
            vec![format!("--root={}/state", self.directory), format!("--log={log}")];
        let cgroups = match self.runtime.maker {
            Maker::Crun => "--cgroup-manager=disabled",
            _ => "--rootless=true",
        };
        arguments.push(cgroups.into());
        arguments.extend(words.iter().map(|&word| word.to_owned()));
        let program = self.runtime.program.to_string_lossy().into_owned();
        act(self.world.process(), Step::Run { program, arguments }).map_err(|words| {
            let said = fs::read_to_string(self.world.path(&log)).unwrap_or_default();
            format!("{words}; it said: {}", said.trim()).into()
        })
    }
}

impl Drop for Container<'_> {
    /// For a case that failed: best effort.
    fn drop(&mut self) {
        if self.started {
            let _ = self.call(&["delete", "--force", &self.id]);
        }
    }
}

/// Control groups that containers of this process have on the machine.
pub(super) fn cgroups_left() -> Vec<PathBuf> {
    let prefix = format!("{PREFIX}-{}-", std::process::id());
    cgroups::named(|name| name.starts_with(&prefix))
}
