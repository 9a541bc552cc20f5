//! Who a host agent talks to: the program of a pod, and nobody else who gets to its socket. The host agent is
//! alone here, in namespaces of its own; what a kubelet makes around a program is made by hand.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use propagation_core::host::{FromHost, HostCall, HostMessage, HostRequest, ProgramId, ToHost};
use propagation_core::marker::Marker;
use propagation_core::plan::{FuseSpec, Role, User};
use propagation_core::protocol::{
    Call, ContainerSpec, Failure, PROTOCOL_VERSION, Place, Reply, encode, frame_length,
};
use serde::de::DeserializeOwned;
use support::{PASSED, TestResult, expect_code, expect_part, skip, stderr, stdout, tests};

fn main() {
    support::main(tests![
        a_user_of_the_node_does_not_get_to_the_socket,
        only_the_program_of_the_pod_is_told_what_to_do,
        nothing_is_executed_in_a_container_by_the_host_agent,
        strangers_cost_little
    ]);
}

const RUN: &str = "20260228t100000-ab12cd34";
const POD: &str = "0f0e1d2c-1111-2222-3333-444455556666";
const SECRET: &str = "5ec2e7";

/// How long anything may take.
const SOON: Duration = Duration::from_secs(30);

/// A host agent in namespaces of its own, and who asks it.
struct Lab {
    scratch: tempfile::TempDir,
    agent: PathBuf,
    outer: Child,
    /// The host agent.
    pid: u32,
    control: UnixStream,
    last_id: u64,
    group: PathBuf,
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.outer.kill();
        let _ = self.outer.wait();
        // Processes leave their group a moment after they were killed.
        let end = Instant::now() + SOON;
        while fs::remove_dir(&self.group).is_err() && self.group.exists() && Instant::now() < end {
            thread::park_timeout(Duration::from_millis(20));
        }
        let _ = self.group.parent().map(fs::remove_dir);
    }
}

macro_rules! lab {
    () => {{
        if !support::is_root() {
            return skip("root", "a host agent is root");
        }
        match group() {
            Some(group) => Lab::new(group)?,
            None => return skip("cgroup", "no control group can be made"),
        }
    }};
}

/// A control group as a kubelet makes it for a pod.
fn group() -> Option<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let legacy = root.join("memory");
    let root = if legacy.is_dir() { legacy } else { root.to_owned() };
    let group = root.join("kubepods").join(format!("pod{POD}"));
    fs::create_dir_all(&group).ok().map(|()| group)
}

/// Waits until something is there.
fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> Result<T, Failed> {
    let end = Instant::now() + SOON;
    loop {
        if let Some(found) = found() {
            return Ok(found);
        }
        if Instant::now() > end {
            return Err(format!("{what}: not in {} s", SOON.as_secs()).into());
        }
        thread::park_timeout(Duration::from_millis(20));
    }
}

impl Lab {
    fn new(group: PathBuf) -> Result<Self, Failed> {
        let scratch = support::scratch();
        let agent = scratch.path().join("agent");
        fs::write(&agent, propagation_agent_embed::AGENT)?;
        for path in [scratch.path(), &agent] {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
        }
        let script = "mount -t tmpfs none /var/lib; mount -t tmpfs none /run; \
                      mkdir -p /run/propagation /run/open; \
                      exec \"$0\" host --run-id \"$1\" --bridge /var/lib/bridge";
        let mut outer = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"])
            .args(["--mount-proc", "sh", "-euc", script])
            .arg(&agent)
            .arg(RUN)
            .stdin(Stdio::null())
            .stderr(fs::File::create(scratch.path().join("log"))?)
            .spawn()?;
        let children = format!("/proc/{0}/task/{0}/children", outer.id());
        let found = until("the host agent", || {
            let pid: u32 = fs::read_to_string(&children).ok()?.trim().parse().ok()?;
            let socket = format!("/proc/{pid}/root/var/lib/propagation/{RUN}/control.sock");
            Some((pid, UnixStream::connect(socket).ok()?))
        });
        let (pid, control) = match found {
            Ok(found) => found,
            Err(error) => {
                outer.kill()?;
                return Err(error);
            }
        };
        control.set_read_timeout(Some(SOON))?;
        let mut lab = Self { scratch, agent, outer, pid, control, last_id: 0, group };
        // As a pod with a volume of the host's would have it.
        let open = format!("mount --bind /var/lib/propagation/{RUN} /run/open");
        expect_code(&lab.inside(&open).output()?, 0)?;
        lab.send(&ToHost::Resume { operator: "test".into(), received: 0 })?;
        match lab.receive()? {
            FromHost::Hello { protocol: PROTOCOL_VERSION, .. } => Ok(lab),
            other => Err(format!("it greets with {other:?}").into()),
        }
    }

    fn send(&mut self, message: &ToHost) -> Result<(), Failed> {
        Ok(self.control.write_all(&encode(message)?)?)
    }

    fn receive<T: DeserializeOwned>(&mut self) -> Result<T, Failed> {
        let mut header = [0; 4];
        self.control.read_exact(&mut header)?;
        let mut body = vec![0; frame_length(header)?];
        self.control.read_exact(&mut body)?;
        Ok(serde_json::from_slice(&body)?)
    }

    /// Asks, and waits for the answer; whether a program has arrived meanwhile.
    fn ask(&mut self, call: HostCall) -> Result<(Result<Reply, Failure>, bool), Failed> {
        self.last_id += 1;
        let request = HostRequest { id: self.last_id, call };
        self.send(&ToHost::Request { request, received: 0 })?;
        let mut arrived = false;
        loop {
            if let FromHost::Numbered { message, .. } = self.receive()? {
                match message {
                    HostMessage::Answer { id, result } if id == self.last_id => {
                        return Ok((result, arrived));
                    }
                    HostMessage::Arrived { .. } => arrived = true,
                    _ => {}
                }
            }
        }
    }

    /// A pod was made for a program, and a container is to start.
    fn admit(&mut self) -> Result<(), Failed> {
        let program = ProgramId { container: 0, replica: 0 };
        let (pod, secret, user_namespace) = (POD.into(), SECRET.into(), false);
        let call = HostCall::Admit { program, pod, secret, user_namespace };
        self.ask(call)?.0.map_err(|failure| failure.reason)?;
        let start = Call::Start { containers: vec![spec()], deadline_ms: 1_000 };
        self.ask(HostCall::Node { call: start })?.0.map_err(|failure| failure.reason)?;
        Ok(())
    }

    /// A shell line where the host agent is.
    fn inside(&self, line: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.pid.to_string(), "--mount", "--pid", "bash", "-euc", line]);
        command
            .env("AGENT", &self.agent)
            .env("GROUP", &self.group)
            .env("ON_NODE", format!("/var/lib/propagation/{RUN}"))
            .env("PROPAGATION_SECRET", SECRET)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn log(&self) -> String {
        fs::read_to_string(self.scratch.path().join("log")).unwrap_or_default()
    }
}

/// A consumer of nothing.
fn spec() -> ContainerSpec {
    ContainerSpec {
        id: 0,
        name: "early".into(),
        role: Role::Control,
        privileged: false,
        capabilities: Vec::new(),
        volumes: Vec::new(),
        sub_path: None,
        fresh_pod: false,
        fuse_path: "/mnt/dfs".into(),
        host: false,
        user_namespace: false,
        made_in: Place::Runtime,
        tools: false,
        directory: "/".into(),
        user: User::default(),
        replicas: 1,
        marker: Marker { started: "now".into(), generation: 1, nonce: "n0nce".into() },
        marker_ms: 60_000,
        probe_ms: 500,
        fuse: FuseSpec::default(),
        supervised: false,
        readers: 0,
        writers: 0,
        watches: false,
    }
}

/// What an ordinary user is called by.
const AS_NOBODY: &str = "setpriv --reuid 65534 --regid 65534 --clear-groups";

/// The client of the agent, which prints what it does once it has been told.
const PROGRAM: &str = "\"$AGENT\" program --container 0 --socket";

fn a_user_of_the_node_does_not_get_to_the_socket() -> TestResult {
    let mut lab = lab!();
    lab.admit()?;
    let line = format!("{AS_NOBODY} {PROGRAM} $ON_NODE/programs.sock");
    let output = lab.inside(&line).output()?;
    expect_code(&output, 1)?;
    expect_part(&stdout(&output), "EACCES")?;
    let line = format!("{AS_NOBODY} ls $ON_NODE");
    expect_part(&stderr(&lab.inside(&line).output()?), "Permission denied")?;
    PASSED
}

/// What a runtime makes around a program, but for one thing.
fn only_the_program_of_the_pod_is_told_what_to_do() -> TestResult {
    let mut lab = lab!();
    lab.admit()?;
    let socket = "/run/open/programs.sock";
    let join = "echo 0 > \"$GROUP/cgroup.procs\";";
    let pod = "unshare --mount --pid --fork --kill-child --mount-proc sh -euc";
    let files = "mount --bind /run/open /run/propagation;";
    let told = format!("exec {PROGRAM} {socket}");
    let attacks = [
        ("does not have the secret", format!("{join} PROPAGATION_SECRET=x {pod} '{files} {told}'")),
        (
            "does not have the secret",
            format!("{join} unset PROPAGATION_SECRET; {AS_NOBODY} {PROGRAM} {socket}"),
        ),
        ("is in no control group of pod", format!("{pod} '{files} {told}'")),
        ("is in no control group of pod", format!("{AS_NOBODY} unshare -Urm {PROGRAM} {socket}")),
        ("is not process 1", format!("{join} unshare --mount sh -euc '{files} {told}'")),
        ("is not process 1", format!("{join} {pod} '{files} {PROGRAM} {socket} & wait'")),
        (
            "is in a user namespace",
            format!(
                "{join} {AS_NOBODY} unshare -Ur --mount --pid --fork --kill-child sh -euc '{told}'"
            ),
        ),
        (
            "is in the mount namespace of the node",
            format!("{join} unshare --pid --fork --kill-child sh -euc '{told}'"),
        ),
        ("does not have the files of the run", format!("{join} {pod} '{told}'")),
    ];
    for (number, (reason, line)) in attacks.iter().enumerate() {
        let output = lab.inside(line).output()?;
        let said = format!("{}{}", stdout(&output), stderr(&output));
        if !said.is_empty() {
            return Err(format!("{line}: it was told something, or failed: {said}").into());
        }
        // Refusals are told of in the order in which they happen, and may be told of after the end of the connection.
        let refusals = until(line, || {
            let log = lab.log();
            let refusals = log.lines().filter(|line| line.contains("refused:"));
            let refusals: Vec<String> = refusals.map(str::to_owned).collect();
            (refusals.len() > number).then_some(refusals)
        })?;
        if refusals.len() != number + 1 || !refusals[number].contains(reason) {
            return Err(format!("{line}: not refused because it {reason}: {refusals:?}").into());
        }
        if lab.ask(HostCall::Node { call: Call::Usage })?.1 {
            return Err(format!("{line}: it was taken for the program").into());
        }
    }
    // With nothing amiss it is told.
    let mut real = lab.inside(&format!("{join} {pod} '{files} {told}'"));
    let mut real = real.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let arrived = until("the program of the pod", || {
        let asked = lab.ask(HostCall::Node { call: Call::Usage });
        asked.map_or_else(|error| Some(Err(error)), |(_, arrived)| arrived.then_some(Ok(())))
    });
    let log = lab.log();
    // It ends with the host agent.
    drop(lab);
    real.wait()?;
    arrived.and_then(|arrived| arrived).map_err(|error| format!("{error:?}; {log}"))?;
    PASSED
}

fn nothing_is_executed_in_a_container_by_the_host_agent() -> TestResult {
    let mut lab = lab!();
    lab.admit()?;
    let (place, command) = (Place::Container(0, 0), vec!["true".to_owned()]);
    let call = Call::Execute { place, command, deadline_ms: 1_000 };
    match lab.ask(HostCall::Node { call })?.0 {
        Err(failure) => expect_part(&failure.reason, "on the node only")?,
        Ok(reply) => return Err(format!("it answers {reply:?}").into()),
    }
    let (place, command) = (Place::Node, vec!["true".to_owned()]);
    let call = Call::Execute { place, command, deadline_ms: 10_000 };
    match lab.ask(HostCall::Node { call })?.0 {
        Ok(Reply::Executed { executed }) => {
            if executed.exit_code() == Some(0) {
                PASSED
            } else {
                Err(format!("{executed:?}").into())
            }
        }
        other => Err(format!("it answers {other:?}").into()),
    }
}

/// Whether the host agent has hung up.
fn is_closed(stream: &mut UnixStream) -> bool {
    let _ = stream.set_nonblocking(true);
    match stream.read(&mut [0; 16]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

fn strangers_cost_little() -> TestResult {
    const MOST: usize = 64;
    let mut lab = lab!();
    lab.admit()?;
    let socket = format!("/proc/{}/root/run/open/programs.sock", lab.pid);
    let connect = || UnixStream::connect(&socket);
    // A frame that is longer than any greeting is not waited for.
    let mut long = connect()?;
    long.write_all(&encode(&vec![0_u8; 100_000])?[..8_192])?;
    until("the end of one with a long greeting", || is_closed(&mut long).then_some(()))?;
    // One more than it keeps: the first has to go. All of them have to in the end.
    let mut silent = (0..=MOST).map(|_| connect()).collect::<Result<Vec<_>, _>>()?;
    lab.ask(HostCall::Node { call: Call::Usage })?.0.map_err(|failure| failure.reason)?;
    until("the end of the first of many", || is_closed(&mut silent[0]).then_some(()))?;
    if is_closed(&mut silent[MOST]) {
        return Err("the last of many is gone too".into());
    }
    until("the end of those who do not greet", || silent.iter_mut().all(is_closed).then_some(()))?;
    PASSED
}
