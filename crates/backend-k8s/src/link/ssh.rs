//! The connection over ssh: the user's own configuration, one connection for all commands, checked host keys.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use openssh::{Child, ControlPersist, KnownHosts, Session, SessionBuilder, Stdio};
use propagation_core::host::Layout;
use propagation_core::{Error, ErrorKind, RunId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Mutex;

use super::{Link, Stream};
use crate::failure::{AWAY_AT_MOST, chain, fix_of_disk};
use crate::objects::host::may_be_executed;

/// How a node is reached over ssh.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SshOptions {
    /// Another file than `~/.ssh/config`.
    pub config: Option<PathBuf>,
    /// Another user than the configuration says. Users other than root need sudo without a password.
    pub user: Option<String>,
    /// Appended to the node's name to give the host's.
    pub domain: Option<String>,
}

/// How long connecting may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// How long the shared connection stays without a command, in seconds.
const PERSIST_SECONDS: std::num::NonZeroUsize = std::num::NonZeroUsize::new(60).unwrap();

/// A node that is reached over ssh.
#[derive(Debug)]
pub(crate) struct SshNode {
    options: SshOptions,
    host: String,
    session: Mutex<Arc<Session>>,
    /// Put before every command: empty for root.
    become_root: Vec<String>,
}

impl SshNode {
    /// Connects to a node.
    ///
    /// # Errors
    /// [`ErrorKind::Environment`] with ssh's own words.
    pub(crate) async fn connect(node: &str, options: &SshOptions) -> Result<Self, Error> {
        let host = format!("{node}{}", options.domain.as_deref().unwrap_or_default());
        let session = open(&host, options).await?;
        let asked = session.command("id").arg("-u").output().await;
        let asked = asked.map_err(|error| failed(&host, &error))?;
        let become_root = match String::from_utf8_lossy(&asked.stdout).trim() {
            "0" => Vec::new(),
            _ => vec!["sudo".to_owned(), "-n".to_owned(), "--".to_owned()],
        };
        Ok(Self {
            options: options.clone(),
            host,
            session: Mutex::new(Arc::new(session)),
            become_root,
        })
    }

    /// The session, made anew if it has broken.
    async fn session(&self) -> Result<Arc<Session>, Error> {
        let mut session = self.session.lock().await;
        if session.check().await.is_err() {
            *session = Arc::new(open(&self.host, &self.options).await?);
        }
        Ok(Arc::clone(&session))
    }

    /// Starts a command as root, with pipes.
    async fn spawn(&self, words: &[String]) -> Result<Child<Arc<Session>>, Error> {
        let session = self.session().await?;
        let words: Vec<&String> = self.become_root.iter().chain(words).collect();
        let (program, arguments) = words.split_first().ok_or_else(|| {
            Error::new(ErrorKind::Internal, "run a command over ssh", "there is none")
        })?;
        let mut command = session.arc_command(program.as_str());
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().await.map_err(|error| failed(&self.host, &error))
    }

    /// Runs a command as root with bytes as its standard input; its standard output.
    ///
    /// # Errors
    /// When it cannot be run or fails, with its standard error.
    pub(crate) async fn run(&self, words: &[String], input: &[u8]) -> Result<String, Error> {
        let operation = format!("run {:?} on {} over ssh", words.join(" "), self.host);
        let mut child = self.spawn(words).await?;
        let stdin = child.stdin().take();
        let feed = async move {
            if let Some(mut stdin) = stdin {
                // A program that ends early says why by its status.
                let _ = stdin.write_all(input).await;
                let _ = stdin.shutdown().await;
            }
        };
        let ((), output) = tokio::join!(feed, child.wait_with_output());
        let output = output.map_err(|error| failed(&self.host, &error))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let reason = format!("it ended with {}: {stderr}", output.status);
        let error = Error::new(ErrorKind::Environment, operation, reason);
        Err(match fix_of_disk(&stderr) {
            Some(fix) => error.with_fix(fix),
            None if stderr.contains("sudo") => {
                error.with_fix("log in as root (--ssh-user root), or allow sudo without a password")
            }
            None => error,
        })
    }

    /// Ends the host agent of a run, if there is one.
    pub(crate) async fn end_agent(&self, run: &RunId) -> Result<(), Error> {
        let script = "for process in /proc/[0-9]*; do \
                      tr '\\0' ' ' < \"$process/cmdline\" 2> /dev/null | \
                      grep -q \" host --run-id $0 \" && kill -KILL \"${process#/proc/}\"; \
                      done; rm -f \"$1\"";
        // A child of it that hangs has its socket still: nobody would answer there.
        let socket = Layout::on_node(run.as_str()).control();
        let words = ["sh", "-c", script, run.as_str(), &socket].map(ToOwned::to_owned);
        self.run(&words, &[]).await.map(drop)
    }

    /// Puts the agent into the run's directory.
    pub(crate) async fn upload_agent(&self, run: &RunId, agent: &[u8]) -> Result<(), Error> {
        let layout = Layout::on_node(run.as_str());
        // On the node itself only root gets to the files of runs.
        let script = format!(
            "umask 022 && mkdir -p -m 0700 \"${{0%/*}}\" && mkdir -p \"$0\" && \
             cat > \"$1.new\" && chmod 0755 \"$1.new\" && mv \"$1.new\" \"$1\" && {}",
            may_be_executed("$1")
        );
        let words = |words: &[&str]| -> Vec<String> { words.iter().map(|&w| w.into()).collect() };
        let uploaded = self
            .run(&words(&["sh", "-c", &script, layout.directory(), &layout.agent()]), agent)
            .await;
        if uploaded.is_err() {
            // Ctrl-C reaches the ssh of the upload too: the script ends with what had come until then.
            let script = "rm -f \"$1\" \"$1.new\"; rmdir \"$0\" \"${0%/*}\"";
            let remove = words(&["sh", "-c", script, layout.directory(), &layout.agent()]);
            let _ = self.run(&remove, &[]).await;
        }
        uploaded.map(drop)
    }
}

/// The relay, run on the node itself; the host agent is started with it.
#[derive(Debug)]
pub(crate) struct SshLink {
    pub(crate) node: Arc<SshNode>,
    pub(crate) command: Vec<String>,
}

#[async_trait]
impl Link for SshLink {
    async fn connect(&self) -> Result<Stream, Error> {
        let mut child = self.node.spawn(&self.command).await?;
        let streams = (child.stdin().take(), child.stdout().take(), child.stderr().take());
        let (Some(writer), Some(reader), Some(mut stderr)) = streams else {
            return Err(Error::new(ErrorKind::Internal, "run the relay over ssh", "no streams"));
        };
        let end = tokio::spawn(async move {
            let mut words = String::new();
            let (read, status) = tokio::join!(stderr.read_to_string(&mut words), child.wait());
            let status = match (status, read) {
                (Ok(status), _) => format!("the relay ended with {status}"),
                (Err(error), _) => format!("the connection broke: {error}"),
            };
            format!("{status}: {}", words.trim())
        });
        Ok(Stream { reader: Box::new(reader), writer: Box::new(writer), end })
    }
}

async fn open(host: &str, options: &SshOptions) -> Result<Session, Error> {
    let mut builder = SessionBuilder::default();
    builder
        .known_hosts_check(KnownHosts::Strict)
        .connect_timeout(CONNECT_WITHIN)
        // The shared connection does not outlive a killed run for long.
        .control_persist(ControlPersist::IdleFor(PERSIST_SECONDS))
        .server_alive_interval(AWAY_AT_MOST / 4);
    if let Some(config) = &options.config {
        builder.config_file(config);
    }
    if let Some(user) = &options.user {
        builder.user(user.clone());
    }
    builder.connect(host).await.map_err(|error| failed(host, &error))
}

/// What ssh says, with what can be done about it.
fn failed(host: &str, error: &openssh::Error) -> Error {
    let reason = chain(error);
    let fix = match reason.as_str() {
        text if text.contains("HOST IDENTIFICATION HAS CHANGED")
            || text.contains("Host key verification failed")
            || text.contains("host key") =>
        {
            "the node's host key is not the one that is known: find out why; if it is meant to be, \
             ssh-keygen -R HOST and log in once by hand"
        }
        text if text.contains("Permission denied") => {
            "give ssh a key that the node accepts (ssh-add, IdentityFile), or another user with \
             --ssh-user; or go without ssh: --access pod"
        }
        text if text.contains("Could not resolve") => {
            "add the node to ~/.ssh/config, or name a file with --ssh-config, or a domain with \
             --ssh-domain; or go without ssh: --access pod"
        }
        text if text.contains("No such file or directory") && text.contains("ssh") => {
            "install an ssh client, or go without ssh: --access pod"
        }
        _ => "see that `ssh HOST true` works without a question; or go without ssh: --access pod",
    };
    Error::new(ErrorKind::Environment, format!("connect to {host} over ssh"), reason).with_fix(fix)
}

/// Whether the user's ssh configuration says anything of a host: its name becomes another.
pub(crate) async fn is_configured(host: &str) -> bool {
    let asked = tokio::process::Command::new("ssh").args(["-G", "--", host]).output().await;
    let Ok(asked) = asked else { return false };
    let text = String::from_utf8_lossy(&asked.stdout).into_owned();
    let name = text.lines().find_map(|line| line.strip_prefix("hostname "));
    asked.status.success() && name.is_some_and(|name| name != host)
}

/// Imports an image made of the agent into the node's runtime; its name.
///
/// # Errors
/// When the runtime has neither `k3s ctr` nor `ctr`, or refuses it.
pub(crate) async fn import(
    node: &SshNode,
    agent: &[u8],
    architecture: &str,
) -> Result<String, Error> {
    let image = crate::oci::image_name();
    let archive = crate::oci::archive(agent, architecture)?;
    // The kubelet sees an image once the runtime has labelled it, a moment after the import.
    let script = r#"
        if command -v k3s > /dev/null; then set -- k3s ctr; else set -- ctr -n k8s.io; fi
        "$@" images import - > /dev/null || exit
        for try in $(seq 100); do
            filter="name==$0,labels.\"io.cri-containerd.image\"==managed"
            "$@" images list -q "$filter" | grep -q . && exit 0
            sleep 0.05
        done
        echo the image does not show up >&2
        exit 1"#;
    let words = ["sh", "-c", script, &image];
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    node.run(&words, &archive).await?;
    Ok(image)
}
