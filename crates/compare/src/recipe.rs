//! How each transport is made: what it needs, its programs, and where consumers find the data set.

use propagation_core::comparison::Transport;

/// The directory of the node that all containers share.
pub(crate) const BRIDGE: &str = "/srv/compare";

/// Where containers have it.
pub(crate) const SHARED: &str = "/mnt";

/// Where the data set is in containers.
pub(crate) const DATA: &str = "/mnt/data";

/// The agent, for programs that a process of the agent executes.
pub(crate) const AGENT: &str = "/proc/self/exe";

/// What a transport needs of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// A program, and the package of Debian that has it.
    Program(&'static str, &'static str),
    /// Containers in the machine's own user namespace.
    MachineRights,
}

/// A program of a transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    /// By which its processes are known.
    pub(crate) tag: String,
    /// The program and its arguments.
    pub(crate) command: Vec<String>,
    /// Where it finds its configuration.
    pub(crate) home: String,
    /// What shows that it is ready, as arguments of the agent.
    pub(crate) ready: Vec<String>,
}

impl Program {
    /// What it is called.
    pub(crate) fn name(&self) -> &str {
        match self.command.as_slice() {
            [agent, program, ..] if agent == AGENT => program,
            [_, flag, script, ..] if flag == "-c" => {
                script.trim_start_matches("exec ").split_whitespace().next().unwrap_or_default()
            }
            [program, ..] => program,
            [] => "",
        }
    }
}

/// How a transport is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recipe {
    pub(crate) transport: Transport,
    pub(crate) needs: Vec<Need>,
    /// A program that runs before, to its end.
    pub(crate) prepare: Option<Vec<String>>,
    /// What serves without mounting.
    pub(crate) server: Option<Program>,
    /// What mounts.
    pub(crate) client: Option<Program>,
    /// Where the data set is in a consumer.
    pub(crate) path: String,
}

impl Recipe {
    /// The recipe of a transport.
    pub(crate) fn of(
        transport: Transport,
        producer_command: &str,
        wrong_credentials: bool,
    ) -> Self {
        let recipe = Self {
            transport,
            needs: Vec::new(),
            prepare: None,
            server: None,
            client: None,
            path: mountpoint(transport),
        };
        match transport {
            Transport::Native => Self { path: DATA.into(), ..recipe },
            Transport::Fuse | Transport::FusePassthrough => {
                let mut command = words(&[AGENT, "mirror", DATA, "--mountpoint", &recipe.path]);
                let mut needs = Vec::new();
                if transport == Transport::FusePassthrough {
                    command.push("--passthrough".into());
                    needs.push(Need::MachineRights);
                }
                let client = Some(recipe.mounting(command, &recipe.path));
                Self { needs, client, ..recipe }
            }
            Transport::Daemon => {
                let command = producer_command
                    .replace("{source}", DATA)
                    .replace("{mountpoint}", &recipe.path)
                    .replace("{work}", &work(transport));
                let make = words(&["mkdir", "-p", &work(transport)]);
                let command = words(&["/bin/sh", "-c", &format!("exec {command}")]);
                let client = Some(recipe.mounting(command, &recipe.path));
                Self { prepare: Some(make), client, ..recipe }
            }
            Transport::SmbRclone => {
                let config = format!("{}/home/rclone.conf", work(transport));
                let command = words(&[
                    "rclone",
                    "--config",
                    &config,
                    "mount",
                    "smb:data",
                    &recipe.path,
                    "--allow-other",
                ]);
                let needs = vec![Need::Program("rclone", "rclone")];
                let client = Some(recipe.mounting(command, &recipe.path));
                Self { needs, client, ..recipe }.served_by_smbd(wrong_credentials)
            }
            Transport::SmbSmbnetfs => {
                let config = format!("config={}/home/.smb/smbnetfs.conf", work(transport));
                let command =
                    words(&["smbnetfs", &recipe.path, "-f", "-o", "allow_other", "-o", &config]);
                let path = format!("{}/{}/data", recipe.path, address(transport));
                let needs = vec![Need::Program("smbnetfs", "smbnetfs")];
                let client = Some(recipe.mounting(command, &path));
                Self { needs, client, path, ..recipe }.served_by_smbd(wrong_credentials)
            }
            // Left out: the kernel would mount them.
            Transport::SmbCifs | Transport::Nfs => recipe,
        }
    }

    /// The program that mounts; its content is there when `shows` can be looked at.
    fn mounting(&self, command: Vec<String>, shows: &str) -> Program {
        let at = mountpoint(self.transport);
        let shows = format!("{shows}/entries");
        Program {
            tag: format!("{}.client", self.transport),
            command,
            home: format!("{}/home", work(self.transport)),
            ready: words(&["--mounted", &at, "--shows", &shows]),
        }
    }

    fn served_by_smbd(mut self, wrong_credentials: bool) -> Self {
        let (directory, address) = (work(self.transport), address(self.transport));
        let script = include_str!("samba.sh");
        let mut prepare = words(&["/bin/sh", "-c", script, "samba.sh", &directory, DATA, &address]);
        prepare.extend(wrong_credentials.then(|| "wrong".to_owned()));
        let config = format!("{directory}/smb.conf");
        self.needs.insert(0, Need::Program("smbd", "samba"));
        self.needs.insert(1, Need::Program("smbpasswd", "samba-common-bin"));
        self.prepare = Some(prepare);
        self.server = Some(Program {
            tag: format!("{}.server", self.transport),
            command: words(&[
                "smbd",
                "--foreground",
                "--no-process-group",
                "--debug-stdout",
                "-s",
                &config,
            ]),
            home: format!("{directory}/home"),
            ready: words(&["--listens", &format!("{address}:445")]),
        });
        self
    }

    /// What dies when the server is killed: smbd where there is one, the FUSE daemon otherwise.
    pub(crate) fn victim(&self) -> Option<&Program> {
        self.server.as_ref().or(self.client.as_ref())
    }

    /// Its programs, in the order in which they start.
    pub(crate) fn programs(&self) -> impl Iterator<Item = &Program> {
        self.server.iter().chain(&self.client)
    }

    /// Its programs as command lines.
    pub(crate) fn how(&self) -> Vec<String> {
        let shown = |program: &Program| match program.command.as_slice() {
            [shell, flag, script] if shell == "/bin/sh" && flag == "-c" => {
                script.trim_start_matches("exec ").to_owned()
            }
            [agent, rest @ ..] if agent == AGENT => format!("propagation-agent {}", rest.join(" ")),
            command => command.join(" "),
        };
        match self.transport {
            Transport::Native => {
                vec![format!("hostPath volume of {BRIDGE}/data, bound by the runtime")]
            }
            _ => self.programs().map(shown).collect(),
        }
    }
}

/// Where a transport is mounted in containers.
pub(crate) fn mountpoint(transport: Transport) -> String {
    format!("{SHARED}/{transport}")
}

/// Where a transport has files of its own.
fn work(transport: Transport) -> String {
    format!("{SHARED}/work/{transport}")
}

/// The address of a transport's server: each has its own on the loopback device of the node, so that all
/// have the port that clients know.
fn address(transport: Transport) -> String {
    let number = Transport::ALL.iter().position(|one| *one == transport).unwrap_or_default();
    format!("127.0.0.{}", 10 + number)
}

pub(crate) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_producers_command_gets_its_paths() {
        let command = "rclone mount {source} {mountpoint} --cache-dir {work}";
        let recipe = Recipe::of(Transport::Daemon, command, false);
        assert_eq!(
            recipe.how(),
            ["rclone mount /mnt/data /mnt/daemon --cache-dir /mnt/work/daemon"]
        );
        assert_eq!(recipe.victim(), recipe.client.as_ref());
    }

    #[test]
    fn servers_have_addresses_of_their_own() {
        let of = |transport| Recipe::of(transport, "", false).server.expect("smbd").ready;
        assert_ne!(of(Transport::SmbRclone), of(Transport::SmbSmbnetfs));
    }
}
