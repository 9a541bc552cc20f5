//! The connection over the API server, which executes the relay in the host pod.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::Client;
use kube::api::AttachParams;
use propagation_core::{Error, ErrorKind};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use super::{Link, Stream};
use crate::failure::api;
use crate::kinds::Pod;
use crate::objects::CONTAINER;
use crate::requests::Api;

/// Room for what is on its way, in bytes: more than a frame has as a rule.
const BUFFER_BYTES: usize = 256 * 1024;

/// The relay in a host pod.
pub(crate) struct ExecLink {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) pod: String,
    pub(crate) command: Vec<String>,
}

#[async_trait]
impl Link for ExecLink {
    async fn connect(&self) -> Result<Stream, Error> {
        let operation = format!("execute the relay in pod {}/{}", self.namespace, self.pod);
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let parameters = AttachParams::default()
            .container(CONTAINER)
            .stdin(true)
            .stdout(true)
            .stderr(true)
            .max_stdin_buf_size(BUFFER_BYTES)
            .max_stdout_buf_size(BUFFER_BYTES);
        let attached = pods.exec(&self.pod, self.command.clone(), &parameters).await;
        let mut process = attached.map_err(|error| api(operation.clone(), error))?;
        let lacks = |what: &str| Error::new(ErrorKind::Internal, operation.clone(), what);
        let writer = process.stdin().ok_or_else(|| lacks("no standard input"))?;
        let reader = process.stdout().ok_or_else(|| lacks("no standard output"))?;
        let stderr = process.stderr().ok_or_else(|| lacks("no standard error"))?;
        let status = process.take_status().ok_or_else(|| lacks("no status"))?.boxed().shared();
        let reader = UntilEnd { reader, end: status.clone() };
        let mut stderr = UntilEnd { reader: stderr, end: status.clone() };
        let end = tokio::spawn(async move {
            let mut words = String::new();
            // The status is taken first: waiting for the end of the process gives it away.
            let (read, status) = tokio::join!(stderr.read_to_string(&mut words), status);
            drop(process);
            match read {
                Ok(_) => ended(status.as_ref(), &words),
                Err(error) => format!("{}; {error}", ended(status.as_ref(), &words)),
            }
        });
        Ok(Stream { reader: Box::new(reader), writer: Box::new(writer), end })
    }
}

/// A stream that ends with its process at the latest: kube leaves its streams open when the connection
/// breaks, and a reader would hang.
struct UntilEnd<R> {
    reader: R,
    end: Shared<BoxFuture<'static, Option<Status>>>,
}

impl<R: AsyncRead + Unpin> AsyncRead for UntilEnd<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.reader).poll_read(context, buffer) {
            Poll::Pending => self.end.poll_unpin(context).map(|_| Ok(())),
            read => read,
        }
    }
}

/// The end of an executed program, in words.
fn ended(status: Option<&Status>, stderr: &str) -> String {
    let words = match status {
        None => "the connection broke".to_owned(),
        Some(status) if status.status.as_deref() == Some("Success") => "the relay ended".to_owned(),
        Some(status) => {
            format!("the relay failed: {}", status.message.as_deref().unwrap_or("no reason given"))
        }
    };
    match stderr.trim() {
        "" => words,
        stderr => format!("{words}: {stderr}"),
    }
}
