//! `propagation matrix`: every combination of the axes, several at a time, one JSON line for each.

mod atlas;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread::Scope;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use propagation_core::fake::FakeBackend;
use propagation_core::matrix::{self, Cell, Matrix, run_cell};
use propagation_core::{Error, ErrorKind, Report, Runner, input, scenario};
use propagation_report::html;
use propagation_report::text::Detail;
use tokio_util::sync::CancellationToken;

use crate::args::matrix::MatrixOptions;
use crate::exit::Exit;
use crate::files::{Directory, make_directory};
use crate::interrupt::cancel_on_signals;
use crate::output;
use crate::report;
use crate::runtime;
use crate::targets::local;
use propagation_core::Class;

pub(crate) fn main(options: &MatrixOptions) -> Result<Exit, Error> {
    runtime::allow_a_run()?;
    if let Some(id) = &options.cell {
        return one_cell(options, id);
    }
    let matrix = Selection::of(read(options)?, options.only_documented);
    let out = make_directory(&options.out, "--out")?;
    let reports = options.reports.then(|| make_directory(&out.join(REPORTS), "--out"));
    let reports = reports.transpose()?;
    let started = Instant::now();
    let path = out.join(CELLS);
    let mut cells = if options.resume { before(&path, &matrix)? } else { Vec::new() };
    let kept = cells.len();
    let interrupted = run(options.jobs, &matrix, &out, reports.as_ref(), &mut cells)?;
    finish(&out, &cells)?;
    output::text(&summary(&matrix, &cells, kept, started))?;
    if interrupted {
        return Ok(Exit::Interrupted);
    }
    let failed = cells.iter().filter(|cell| cell.failed.is_some()).count();
    if failed > 0 {
        let first = cells.iter().find_map(|cell| cell.failed.as_deref()).unwrap_or_default();
        let reason = format!(
            "{failed} cells failed, one because: {first}; `failed` in {} says why of each",
            path.display()
        );
        return Err(Error::new(ErrorKind::Internal, "run the matrix", reason));
    }
    Ok(Exit::Success)
}

/// The cells of a matrix that are run.
struct Selection {
    matrix: Matrix,
    /// Their numbers in the matrix.
    numbers: Vec<usize>,
}

impl Selection {
    fn of(matrix: Matrix, only_documented: bool) -> Self {
        let wanted =
            |number: &usize| !only_documented || matrix::is_documented(&matrix.cell(*number).axes);
        let numbers = (0..matrix.len()).filter(wanted).collect();
        Self { matrix, numbers }
    }

    fn len(&self) -> usize {
        self.numbers.len()
    }

    fn cell(&self, number: usize) -> matrix::CellPlan {
        self.matrix.cell(self.numbers[number])
    }
}

/// One cell, as `run` shows a run.
fn one_cell(options: &MatrixOptions, id: &str) -> Result<Exit, Error> {
    let matrix = Matrix::of_cell(id)?;
    if matrix.len() != 1 {
        let open: Vec<&str> =
            matrix.values().filter(|(_, values)| values.len() > 1).map(|(axis, _)| axis).collect();
        let reason = format!("it lacks {}", open.join(", "));
        return Err(Error::new(ErrorKind::InvalidInput, format!("run the cell {id:?}"), reason)
            .with_fix("name one value for each of these"));
    }
    let cell = matrix.cell(0);
    let report = runtime::runtime()?.block_on(async {
        let cancellation = CancellationToken::new();
        let signals = cancel_on_signals([cancellation.clone()])?;
        let runner = Runner::new(cell.plan)?.with_cancellation(cancellation);
        let report = runner.run(&*local()?).await;
        signals.abort();
        report
    })?;
    let detail = if options.evidence { Detail::Full } else { Detail::Normal };
    report::print(&report, options.format, detail)?;
    Ok(Exit::Outcome(report.verdict.outcome()))
}

fn read(options: &MatrixOptions) -> Result<Matrix, Error> {
    let mut matrix = Matrix::default();
    if let Some(path) = &options.axes {
        let refuse = |reason: String| {
            Error::new(ErrorKind::InvalidInput, format!("read {}", path.display()), reason)
                .with_fix("write a map of axes to lists of values: `fault: [kill, terminate]`")
        };
        let bytes = input::read(path, scenario::MOST_BYTES);
        let bytes = bytes.map_err(|error| refuse(error.to_string()).with_source(error))?;
        let text = String::from_utf8(bytes).map_err(|_| refuse("it is not UTF-8 text".into()))?;
        let axes: BTreeMap<String, Vec<String>> =
            scenario::parse_as(&path.display().to_string(), &text)?;
        if axes.is_empty() {
            return Err(refuse("no axis in it".into()));
        }
        for (axis, values) in &axes {
            matrix = matrix.with(axis, values.iter().map(String::as_str))?;
        }
    }
    for pair in &options.axis {
        let (axis, values) = pair.split_once('=').ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput, format!("read --axis {pair:?}"), "no `=` in it")
                .with_fix("write --axis fault=kill,terminate")
        })?;
        matrix = matrix.with(axis, values.split(','))?;
    }
    Ok(matrix)
}

/// The cells that an earlier run of the same matrix has finished, in order.
fn before(path: &Path, matrix: &Selection) -> Result<Vec<Cell>, Error> {
    let Ok(file) = File::open(path) else { return Ok(Vec::new()) };
    let mut cells = Vec::new();
    for line in BufReader::new(file).lines() {
        // A line that was cut short when the tool was killed, and all after it, are run again.
        let Some(cell) = line.ok().and_then(|line| serde_json::from_str::<Cell>(&line).ok()) else {
            break;
        };
        if cells.len() >= matrix.len() || cell.id != matrix.cell(cells.len()).id {
            let operation = format!("go on with {}", path.display());
            return Err(Error::new(
                ErrorKind::InvalidInput,
                operation,
                "it belongs to another matrix",
            )
            .with_fix("name the same axes again, or another directory with --out"));
        }
        cells.push(cell);
    }
    Ok(cells)
}

/// Runs the cells that are missing; returns whether it was interrupted.
fn run(
    jobs: u16,
    matrix: &Selection,
    out: &Directory,
    reports: Option<&Directory>,
    cells: &mut Vec<Cell>,
) -> Result<bool, Error> {
    let failed = |error: std::io::Error| not_written(out, CELLS, error);
    // What was kept is written again: a line that was cut short goes.
    let file = out.replace(CELLS, |file| {
        let mut file = BufWriter::new(file);
        cells.iter().try_for_each(|cell| write_line(&mut file, cell))?;
        file.flush()
    });
    let mut file = BufWriter::new(file.map_err(failed)?);
    let progress = progress(matrix.len(), cells.len());
    let cancellation = CancellationToken::new();
    let next = AtomicUsize::new(cells.len());
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|scope| {
        // However this ends, the listener and the workers end too: the scope waits for them.
        let end = cancellation.clone().drop_guard();
        let listener = cancellation.clone();
        spawn(scope, jobs, move || listen(&listener))?;
        for _ in 0..jobs {
            let (sender, next, cancellation) = (sender.clone(), &next, &cancellation);
            spawn(scope, jobs, move || work(matrix, next, &sender, reports, cancellation))?;
        }
        drop(sender);
        let mut waiting: BTreeMap<usize, Cell> = BTreeMap::new();
        for (number, cell) in receiver {
            progress.inc(1);
            waiting.insert(number, cell?);
            while let Some(cell) = waiting.remove(&cells.len()) {
                write_line(&mut file, &cell).map_err(failed)?;
                cells.push(cell);
            }
        }
        let interrupted = cancellation.is_cancelled();
        drop(end);
        file.flush().map_err(failed)?;
        progress.finish_and_clear();
        Ok(interrupted)
    })
}

fn spawn<'scope>(
    scope: &'scope Scope<'scope, '_>,
    jobs: u16,
    work: impl FnOnce() + Send + 'scope,
) -> Result<(), Error> {
    let thread = std::thread::Builder::new().spawn_scoped(scope, work);
    thread.map(drop).map_err(|error| {
        runtime::failed(error).with_fix(format!(
            "run fewer cells at a time (--jobs is {jobs}), or raise the limit of processes: ulimit -u"
        ))
    })
}

fn write_line(file: &mut impl Write, cell: &Cell) -> std::io::Result<()> {
    serde_json::to_writer(&mut *file, cell)?;
    file.write_all(b"\n")
}

/// Cancels at the first signal, until the token is cancelled.
fn listen(cancellation: &CancellationToken) {
    let Ok(runtime) = runtime::runtime() else { return };
    runtime.block_on(async {
        if let Ok(task) = cancel_on_signals([cancellation.clone()]) {
            cancellation.cancelled().await;
            task.abort();
        }
    });
}

type Sent = (usize, Result<Cell, Error>);

/// The file of the results of all cells.
const CELLS: &str = "cells.jsonl";

/// Where in the directory of the results the reports of the cells are.
const REPORTS: &str = "reports";

/// Writes the report of a cell into `directory`, and notes in the cell where.
fn keep_report(
    directory: &Directory,
    number: usize,
    cell: &mut Cell,
    report: &Report,
) -> Result<(), Error> {
    let name = format!("{}.html", number + 1);
    let written = directory.write(&name, html::render(report).as_bytes());
    written.map_err(|error| not_written(directory, &name, error))?;
    cell.report = Some(format!("{REPORTS}/{name}"));
    Ok(())
}

fn not_written(directory: &Directory, name: &str, error: std::io::Error) -> Error {
    let operation = format!("write {}", directory.join(name).display());
    Error::from_source(ErrorKind::Environment, operation, error)
        .with_fix("free space, or name another directory with --out")
}

/// Runs cells one after the other on a runtime of its own, until there are no more. Their reports are
/// kept in a directory, if there is one.
fn work(
    matrix: &Selection,
    next: &AtomicUsize,
    sender: &mpsc::Sender<Sent>,
    directory: Option<&Directory>,
    cancellation: &CancellationToken,
) {
    let model = FakeBackend::default().with_patience(std::time::Duration::ZERO);
    let run = async {
        let backend = local()?;
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= matrix.len() || cancellation.is_cancelled() {
                return Ok(());
            }
            let plan = matrix.cell(number);
            let (mut cell, report) = run_cell(&plan, &*backend, Some(&model)).await;
            if let (Some(directory), Some(report)) = (directory, &report) {
                keep_report(directory, number, &mut cell, report)?;
            }
            if sender.send((number, Ok(cell))).is_err() {
                return Ok(());
            }
        }
    };
    let result = runtime::runtime().and_then(|runtime| runtime.block_on(run));
    if let Err(error) = result {
        let _ = sender.send((usize::MAX, Err(error)));
    }
}

fn progress(all: usize, done: usize) -> ProgressBar {
    let bar = ProgressBar::new(all as u64);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} cells, {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_position(done as u64);
    bar
}

/// Writes the documents of all cells.
fn finish(out: &Directory, cells: &[Cell]) -> Result<(), Error> {
    for (name, content) in
        [("atlas.html", atlas::atlas(cells)), ("atlas.md", matrix::document(cells))]
    {
        let written = out.write(name, content.as_bytes());
        written.map_err(|error| not_written(out, name, error))?;
    }
    Ok(())
}

fn summary(matrix: &Selection, cells: &[Cell], kept: usize, started: Instant) -> String {
    let mut lines = Vec::new();
    let disagreeing: Vec<&Cell> = cells.iter().filter(|c| c.agrees() == Some(false)).collect();
    const SHOWN: usize = 10;
    if !disagreeing.is_empty() {
        lines.push("Cells that came out otherwise than in the model:".to_owned());
        for cell in disagreeing.iter().take(SHOWN) {
            let (seen, predicted) = (cell.seen.as_ref(), cell.predicted.as_ref());
            let words = |classes: &[Class]| {
                classes.iter().map(Class::to_string).collect::<Vec<_>>().join(" ")
            };
            let both = |seen: Option<&matrix::Seen>| {
                seen.map_or_else(String::new, |seen| {
                    format!("{} (node {})", words(&seen.consumer), words(&seen.node))
                })
            };
            lines.push(format!("  {}: {}, not {}", cell.id, both(seen), both(predicted)));
        }
        if disagreeing.len() > SHOWN {
            lines.push(format!("  … and {} more, first in the atlas", disagreeing.len() - SHOWN));
        }
        let hangs = |seen: Option<&matrix::Seen>| {
            seen.is_some_and(|seen| seen.consumer.contains(&Class::Hang))
        };
        let late = |cell: &&&Cell| hangs(cell.seen.as_ref()) && !hangs(cell.predicted.as_ref());
        let late = disagreeing.iter().filter(late).count();
        if late > 0 {
            lines.push(format!(
                "In {late} of them a look got no answer in time, as under load: run such a cell alone with --cell"
            ));
        }
    }
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    for cell in cells {
        *outcomes.entry(cell.outcome()).or_default() += 1;
    }
    let outcomes: Vec<String> = outcomes.iter().map(|(word, n)| format!("{word} {n}")).collect();
    lines.push(format!("in the end: {}", outcomes.join(", ")));
    let agreeing = cells.iter().filter(|cell| cell.agrees() == Some(true)).count();
    let silent = cells.iter().filter(|cell| cell.agrees().is_none()).count();
    lines.push(format!(
        "{} of {} cells in {:.1} s ({kept} kept from before); the model agrees in {agreeing}, not in \
         {}, and is silent or not asked in {silent}",
        cells.len(),
        matrix.len(),
        started.elapsed().as_secs_f64(),
        disagreeing.len()
    ));
    lines.join("\n")
}
