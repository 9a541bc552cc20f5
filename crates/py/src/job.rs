//! A job that goes on without Python, and how Python waits for it.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use propagation_core::{Error, ErrorKind};
use pyo3::prelude::*;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::error::{OrRaise, other_process};

#[cfg(unix)]
use std::os::{fd::IntoRawFd, unix::net::UnixStream as Bell};

#[cfg(windows)]
use std::{net::TcpStream as Bell, os::windows::io::IntoRawSocket};

/// Makes the Python object of a result, in the thread that asks for it, with the interpreter.
pub(crate) type Convert =
    Box<dyn for<'py> FnOnce(Python<'py>) -> PyResult<Bound<'py, PyAny>> + Send>;

/// Something that a job gives before its result, kept until Python takes it.
pub(crate) trait Given: Send {
    /// Its object, in the thread that asks for it.
    fn into_object(self: Box<Self>, py: Python<'_>) -> PyResult<Bound<'_, PyAny>>;
}

/// What has come out of a job so far.
struct State {
    items: Vec<Box<dyn Given>>,
    outcome: Option<Result<Convert, Error>>,
    /// Written to when there is something to take, closed when nothing more will come.
    bell: Option<Bell>,
    /// Whether it has been written to since everything was taken.
    rung: bool,
}

/// The end of a job that what goes on writes to.
#[derive(Clone)]
pub(crate) struct Feed(Arc<Mutex<State>>);

impl Feed {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Only short code without panics holds it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an item. Wakes the waiting thread, once until everything has been taken.
    pub(crate) fn push(&self, item: impl Given + 'static) {
        let mut state = self.lock();
        state.items.push(Box::new(item));
        if !state.rung {
            state.rung = true;
            if let Some(bell) = &mut state.bell {
                // Nobody listens any more: then nobody needs to be woken.
                let _ = bell.write(&[0]);
            }
        }
    }
}

/// The right and the duty to end a job. Dropping it ends the job too, with an error.
pub(crate) struct Completion(Feed);

impl Completion {
    /// Ends the job.
    pub(crate) fn complete<T: Send + 'static>(
        self,
        result: Result<T, Error>,
        convert: impl for<'py> FnOnce(Python<'py>, T) -> PyResult<Bound<'py, PyAny>> + Send + 'static,
    ) {
        self.0.lock().outcome = Some(result.map(|value| {
            let convert: Convert = Box::new(move |py| convert(py, value));
            convert
        }));
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        let gone = || Error::new(ErrorKind::Cancelled, "wait for a result", "the run has ended");
        state.outcome.get_or_insert_with(|| Err(gone()));
        state.bell = None;
    }
}

/// The thread of a job that has one.
pub(crate) struct Worker {
    /// Dropped to make the thread leave everything as it is and end.
    pub(crate) abandon: oneshot::Sender<()>,
    /// The thread.
    pub(crate) thread: JoinHandle<()>,
}

struct Inner {
    feed: Feed,
    cancellation: CancellationToken,
    listener: Mutex<Option<Bell>>,
    worker: Mutex<Option<Worker>>,
}

/// Something that goes on without Python: a run, or one call of it.
///
/// Wait until `descriptor` is readable, then `take` what has come. All methods return at once.
#[pyclass(frozen, module = "propagation._native")]
pub(crate) struct Job {
    /// There until the drop.
    inner: Option<Inner>,
    process: u32,
}

impl Job {
    /// A job and the two ends that belong to what goes on.
    pub(crate) fn new(cancellation: CancellationToken) -> Result<(Self, Feed, Completion), Error> {
        let (bell, listener) = pair().map_err(|error| {
            Error::from_source(ErrorKind::Environment, "make a pair of sockets", error)
                .with_fix("raise the limit of open files (ulimit -n)")
        })?;
        let state = State { items: Vec::new(), outcome: None, bell: Some(bell), rung: false };
        let feed = Feed(Arc::new(Mutex::new(state)));
        let completion = Completion(feed.clone());
        let inner = Inner {
            feed: feed.clone(),
            cancellation,
            listener: Mutex::new(Some(listener)),
            worker: Mutex::new(None),
        };
        let job = Self { inner: Some(inner), process: std::process::id() };
        Ok((job, feed, completion))
    }

    /// Gives it the thread that it goes on in.
    pub(crate) fn set_worker(&self, worker: Worker) {
        if let Some(inner) = &self.inner {
            *lock(&inner.worker) = Some(worker);
        }
    }

    fn inner(&self, py: Python<'_>) -> PyResult<&Inner> {
        let own = self.inner.as_ref().filter(|_| self.process == std::process::id());
        own.ok_or_else(|| other_process(self.process)).or_raise(py)
    }
}

#[pymethods]
impl Job {
    /// A socket that becomes readable when there is something to take, and that is closed at the
    /// other side when nothing more will come. The caller owns it; it is given once.
    fn descriptor(&self, py: Python<'_>) -> PyResult<u64> {
        let listener = lock(&self.inner(py)?.listener).take();
        let given = Error::new(ErrorKind::Internal, "wait for a job", "its socket has been given");
        listener.map(raw).ok_or(given).or_raise(py)
    }

    /// What has come since the last call, and whether nothing more will.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<(Vec<Bound<'py, PyAny>>, bool)> {
        let (items, ended) = {
            let mut state = self.inner(py)?.feed.lock();
            let items = std::mem::take(&mut state.items);
            state.rung = !items.is_empty();
            (items, state.bell.is_none())
        };
        let objects =
            items.into_iter().map(|item| item.into_object(py)).collect::<PyResult<_>>()?;
        Ok((objects, ended))
    }

    /// The result of a job that has ended; given once.
    ///
    /// Raises the error with which it ended.
    fn result<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let inner = self.inner(py)?;
        let outcome = inner.feed.lock().outcome.take();
        let worker = lock(&inner.worker).take();
        if let Some(worker) = worker {
            // It has nothing left to do.
            let _ = py.detach(|| worker.thread.join());
        }
        let missing = || Err(Error::new(ErrorKind::Internal, "take a result", "there is none"));
        outcome.unwrap_or_else(missing).or_raise(py)?(py)
    }

    /// Asks it to end early. A run cleans up before it ends.
    fn cancel(&self, py: Python<'_>) -> PyResult<()> {
        self.inner(py)?.cancellation.cancel();
        Ok(())
    }

    /// Ends it at once and waits for that. What a run has made is removed without its waiting.
    fn abandon(&self, py: Python<'_>) -> PyResult<()> {
        let worker = lock(&self.inner(py)?.worker).take();
        py.detach(|| worker.map(Worker::end));
        Ok(())
    }
}

impl Worker {
    fn end(self) {
        drop(self.abandon);
        // Its end is all that is wanted.
        let _ = self.thread.join();
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let Some(inner) = self.inner.take() else { return };
        if self.process != std::process::id() {
            // A fork: the locks may be held for ever, and the sockets are the parent's too.
            std::mem::forget(inner);
            return;
        }
        inner.cancellation.cancel();
        let worker = lock(&inner.worker).take();
        if let Some(worker) = worker {
            worker.end();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(unix)]
fn pair() -> io::Result<(Bell, Bell)> {
    Bell::pair()
}

#[cfg(unix)]
fn raw(bell: Bell) -> u64 {
    u64::from(bell.into_raw_fd().unsigned_abs())
}

/// Two ends of a connection on the loopback interface: Windows has no pairs.
#[cfg(windows)]
fn pair() -> io::Result<(Bell, Bell)> {
    let listener = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))?;
    let ours = Bell::connect(listener.local_addr()?)?;
    loop {
        let (theirs, peer) = listener.accept()?;
        if peer == ours.local_addr()? {
            return Ok((ours, theirs));
        }
    }
}

#[cfg(windows)]
fn raw(bell: Bell) -> u64 {
    bell.into_raw_socket()
}
