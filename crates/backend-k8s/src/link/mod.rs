//! Ways onto a node: a stream of bytes to its host agent, over the API server or over ssh.

pub(crate) mod exec;
#[cfg(unix)]
pub(crate) mod ssh;

use async_trait::async_trait;
use propagation_core::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;

/// A connection to the relay of a host agent.
pub(crate) struct Stream {
    pub(crate) reader: Box<dyn AsyncRead + Send + Unpin>,
    pub(crate) writer: Box<dyn AsyncWrite + Send + Unpin>,
    /// How it ended, in words: exit status and standard error, both drained while it goes on.
    pub(crate) end: JoinHandle<String>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.end.abort();
    }
}

/// A way to the host agent of a run on one node; it may be taken again when it has broken.
#[async_trait]
pub(crate) trait Link: Send + Sync {
    /// Connects.
    ///
    /// # Errors
    /// When the node cannot be reached this way, with what can be done about it.
    async fn connect(&self) -> Result<Stream, Error>;
}
