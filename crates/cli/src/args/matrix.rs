//! Options of `propagation matrix`.

use std::path::PathBuf;

use clap::Args;

use super::ReportFormat;

#[derive(Debug, Args)]
pub(crate) struct MatrixOptions {
    /// Values of an axis, such as fault=kill,stop, or fault=all; may be repeated.
    #[arg(long, value_name = "NAME=VALUES")]
    pub(crate) axis: Vec<String>,
    /// YAML file with the values of axes.
    #[arg(long, value_name = "FILE")]
    pub(crate) axes: Option<PathBuf>,
    /// Run one cell only and print its report.
    #[arg(long, value_name = "ID", conflicts_with_all = ["axis", "axes", "resume", "reports"])]
    pub(crate) cell: Option<String>,
    /// Directory for the results.
    #[arg(
        long,
        visible_alias = "report",
        value_name = "DIR",
        default_value = "./propagation-matrix"
    )]
    pub(crate) out: PathBuf,
    /// Cells to run at a time.
    #[arg(long, value_name = "N", default_value_t = 6,
          value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) jobs: u16,
    /// Run only the cells that docs/atlas.md asks about.
    #[arg(long)]
    pub(crate) only_documented: bool,
    /// Keep the report of every cell (about 40 kB each), linked from atlas.html.
    #[arg(long)]
    pub(crate) reports: bool,
    /// Continue an earlier run with the same axes and directory.
    #[arg(long)]
    pub(crate) resume: bool,
    /// Output format of one cell.
    #[arg(long, value_enum, default_value = "text", requires = "cell")]
    pub(crate) format: ReportFormat,
    /// Show the evidence of every check of one cell.
    #[arg(long, requires = "cell")]
    pub(crate) evidence: bool,
}
