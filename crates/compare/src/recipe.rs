//! How each transport is made: what it needs, its programs, and where consumers find the data set.

mod served;

use std::net::Ipv4Addr;

use propagation_core::comparison::Transport;
use propagation_core::protocol::measure::ENTRIES_DIRECTORY;

/// The directory of a simulated node that all containers share.
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
    /// A filesystem of the kernel.
    Filesystem(&'static str),
    /// Containers in the machine's own user namespace.
    MachineRights,
    /// Opening the machine's files by their handles, as servers of NFS do.
    FilesByHandle,
}

/// What the options and the node say of every recipe.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Given<'a> {
    /// The command of [`Transport::Daemon`].
    pub(crate) producer_command: &'a str,
    /// Whether clients of SMB get a wrong password.
    pub(crate) wrong_credentials: bool,
    /// The directory of the node that all containers share.
    pub(crate) bridge: &'a str,
    /// Where a server listens for the node; none for an address of its own on the loopback device.
    pub(crate) server: Option<Ipv4Addr>,
    /// The run: there may be others on the node.
    pub(crate) run: &'a str,
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
    /// Where it mounts, if it does.
    pub(crate) mountpoint: Option<String>,
    /// What shows that it is ready, as arguments of the agent.
    pub(crate) ready: Vec<String>,
    /// Where it prints.
    pub(crate) log: String,
    /// Whether it is a program of the node and not of the producer's container.
    pub(crate) on_node: bool,
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

    /// As a command line.
    fn shown(&self) -> String {
        match self.command.as_slice() {
            [shell, flag, script] if shell == "/bin/sh" && flag == "-c" => {
                script.trim_start_matches("exec ").to_owned()
            }
            [agent, rest @ ..] if agent == AGENT => format!("propagation-agent {}", rest.join(" ")),
            command => command.join(" "),
        }
    }
}

/// How a transport is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recipe {
    pub(crate) transport: Transport,
    /// By which the processes of its programs are known.
    tag: String,
    /// The directory of the node that all containers share.
    bridge: String,
    /// Where its server listens.
    address: String,
    pub(crate) needs: Vec<Need>,
    /// A program that runs before, to its end.
    pub(crate) prepare: Option<Vec<String>>,
    /// The FUSE filesystem that the server serves again.
    pub(crate) below: Option<Program>,
    /// What serves without mounting.
    pub(crate) server: Option<Program>,
    /// What mounts.
    pub(crate) client: Option<Program>,
    /// Where the data set is in a consumer.
    pub(crate) path: String,
}

impl Recipe {
    /// The recipe of a transport.
    pub(crate) fn of(transport: Transport, given: Given<'_>) -> Self {
        let Given { producer_command, wrong_credentials, bridge, server, run } = given;
        let recipe = Self {
            transport,
            tag: format!("{run}.{transport}"),
            bridge: bridge.to_owned(),
            address: server.unwrap_or_else(|| loopback(transport)).to_string(),
            needs: Vec::new(),
            prepare: None,
            below: None,
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
                let client = Some(recipe.client(command, &recipe.path));
                Self { needs, client, ..recipe }
            }
            Transport::Daemon => {
                let command = producer_command
                    .replace("{source}", DATA)
                    .replace("{mountpoint}", &recipe.path)
                    .replace("{work}", &work(transport));
                let make = words(&["mkdir", "-p", &work(transport)]);
                let command = words(&["/bin/sh", "-c", &format!("exec {command}")]);
                let client = Some(recipe.client(command, &recipe.path));
                Self { prepare: Some(make), client, ..recipe }
            }
            Transport::SmbRclone => recipe.by_smbd(DATA, wrong_credentials).mounted_by_rclone(),
            Transport::SmbSmbnetfs => recipe.by_smbd(DATA, wrong_credentials).mounted_by_smbnetfs(),
            Transport::SmbCifs => recipe.by_smbd(DATA, wrong_credentials).mounted_as_cifs(),
            Transport::Nfs => recipe.by_ganesha(DATA).mounted_as_nfs(),
            Transport::FuseSmbRclone => {
                let (recipe, shared) = recipe.with_fuse_below();
                recipe.by_smbd(&shared, wrong_credentials).mounted_by_rclone()
            }
            Transport::FuseSmbCifs => {
                let (recipe, shared) = recipe.with_fuse_below();
                recipe.by_smbd(&shared, wrong_credentials).mounted_as_cifs()
            }
            Transport::FuseNfs => {
                let (recipe, shared) = recipe.with_fuse_below();
                recipe.by_ganesha(&shared).mounted_as_nfs()
            }
        }
    }

    /// A program that mounts at a path; its content is there when `shows` can be looked at.
    fn mounting(&self, role: &str, command: Vec<String>, at: &str, shows: &str) -> Program {
        let shows = format!("{shows}/{ENTRIES_DIRECTORY}");
        Program {
            tag: format!("{}.{role}", self.tag),
            command,
            home: format!("{}/home", work(self.transport)),
            mountpoint: Some(at.to_owned()),
            ready: words(&["--mounted", at, "--shows", &shows]),
            log: format!("/tmp/{}.{role}.log", self.tag),
            on_node: false,
        }
    }

    /// The program that mounts for consumers.
    fn client(&self, command: Vec<String>, shows: &str) -> Program {
        self.mounting("client", command, &mountpoint(self.transport), shows)
    }

    /// What dies when the server is killed: the FUSE daemon of a re-export, the server where there is one, the
    /// FUSE daemon otherwise.
    pub(crate) fn victim(&self) -> Option<&Program> {
        self.below.as_ref().or(self.server.as_ref()).or(self.client.as_ref())
    }

    /// Its programs, in the order in which they start.
    pub(crate) fn programs(&self) -> impl DoubleEndedIterator<Item = &Program> {
        self.below.iter().chain(&self.server).chain(&self.client)
    }

    /// Its programs as command lines.
    pub(crate) fn how(&self) -> Vec<String> {
        match self.transport {
            Transport::Native => {
                vec![format!("hostPath volume of {}/data, bound by the runtime", self.bridge)]
            }
            _ => self.programs().map(Program::shown).collect(),
        }
    }
}

/// Where a transport is mounted in containers.
pub(crate) fn mountpoint(transport: Transport) -> String {
    format!("{SHARED}/{transport}")
}

/// Where the node mounts a transport whose client is its kernel.
pub(crate) fn volume(bridge: &str, transport: Transport) -> String {
    format!("{bridge}/{transport}")
}

/// Where a transport has files of its own.
fn work(transport: Transport) -> String {
    format!("{SHARED}/work/{transport}")
}

/// The address of a transport's server on the loopback device of the node: each has its own, so that all have the port
/// that clients know.
fn loopback(transport: Transport) -> Ipv4Addr {
    let number = (10..).zip(Transport::ALL).find(|(_, one)| *one == transport);
    Ipv4Addr::new(127, 0, 0, number.map_or(0, |(number, _)| number))
}

pub(crate) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(transport: Transport, producer_command: &str) -> Recipe {
        Recipe::of(transport, given(producer_command))
    }

    fn given(producer_command: &str) -> Given<'_> {
        let bridge = BRIDGE;
        Given { producer_command, wrong_credentials: false, bridge, server: None, run: "r" }
    }

    #[test]
    fn the_producers_command_gets_its_paths() {
        let command = "rclone mount {source} {mountpoint} --cache-dir {work}";
        let recipe = recipe(Transport::Daemon, command);
        assert_eq!(
            recipe.how(),
            ["rclone mount /mnt/data /mnt/daemon --cache-dir /mnt/work/daemon"]
        );
        assert_eq!(recipe.victim(), recipe.client.as_ref());
    }

    #[test]
    fn of_a_re_export_the_filesystem_below_dies() {
        let recipe = recipe(Transport::FuseSmbRclone, "");
        let names: Vec<&str> = recipe.programs().map(Program::name).collect();
        assert_eq!(names, ["mirror", "smbd", "rclone"]);
        assert_eq!(recipe.victim(), recipe.below.as_ref());
    }

    #[test]
    fn only_of_a_re_export_cifs_makes_up_inode_numbers() {
        let makes_up = |transport| recipe(transport, "").how().join(" ").contains(",noserverino");
        assert!(makes_up(Transport::FuseSmbCifs));
        assert!(!makes_up(Transport::SmbCifs));
    }

    #[test]
    fn the_kernels_clients_are_mounted_by_the_node_at_the_volumes_path() {
        let server = Some(Ipv4Addr::new(10, 42, 1, 7));
        let given = Given { bridge: "/run/b", server, ..given("") };
        let recipe = Recipe::of(Transport::SmbCifs, given);
        let client = recipe.client.as_ref().expect("a client");
        assert!(client.on_node && client.log.starts_with("/run/b/work/smb-cifs/"), "{client:?}");
        assert_eq!(client.mountpoint.as_deref(), Some("/run/b/smb-cifs"));
        assert!(client.shown().contains("//10.42.1.7/data --type cifs"), "{}", client.shown());
        let server = recipe.server.as_ref().expect("smbd");
        assert!(!server.on_node && server.ready == ["--listens", "10.42.1.7:445"], "{server:?}");
        // Consumers have the volume at its own path, and the other clients run in the producer.
        assert_eq!(recipe.path, "/mnt/smb-cifs");
        let rclone = Recipe::of(Transport::SmbRclone, given);
        assert!(rclone.programs().all(|program| !program.on_node));
    }

    #[test]
    fn the_kernels_clients_are_known_without_their_stands() {
        for transport in Transport::ALL {
            let client = recipe(transport, "").client.filter(|client| client.on_node);
            let at = transport.is_mounted_by_the_kernel().then(|| volume(BRIDGE, transport));
            assert_eq!(client.and_then(|client| client.mountpoint), at, "{transport}");
        }
    }

    #[test]
    fn servers_have_addresses_of_their_own() {
        let of = |transport| recipe(transport, "").server.expect("smbd").ready;
        assert_ne!(of(Transport::SmbRclone), of(Transport::SmbSmbnetfs));
    }
}
