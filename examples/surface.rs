//! What embedders see of each library, item by item, held against `docs/api`, so that a change of the public surface
//! is part of a change's diff. `scripts/lint` runs it on what rustdoc says; `BLESS=1` writes the files anew.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a program of `make lint`

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

/// The libraries that embedders use. What backends and agents say to each other is not for them.
const LIBRARIES: [&str; 6] = [
    "mountinfo",
    "propagation_model",
    "propagation_core",
    "propagation_report",
    "propagation_backend_local",
    "propagation_backend_k8s",
];

fn main() -> ExitCode {
    let Some(directory) = env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: surface DIRECTORY   # with the JSON of rustdoc");
        return ExitCode::from(2);
    };
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let bless = env::var_os("BLESS").is_some_and(|value| value == "1");
    let mut changed = false;
    for library in LIBRARIES {
        let surface = surface(&directory.join(format!("{library}.json")));
        let file = workspace.join("docs/api").join(format!("{library}.txt"));
        if bless {
            fs::write(&file, surface).expect("write the surface");
        } else if fs::read_to_string(&file).unwrap_or_default() != surface {
            println!("{} is not the surface of {library}", file.display());
            changed = true;
        }
    }
    if changed {
        println!("BLESS=1 scripts/lint-surface writes them");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// The items of a crate, one a line, without what every type has.
fn surface(json: &Path) -> String {
    let builder = public_api::Builder::from_rustdoc_json(json)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true);
    let api = builder.build().unwrap_or_else(|error| panic!("read {}: {error}", json.display()));
    api.items().map(|item| format!("{item}\n")).collect()
}
