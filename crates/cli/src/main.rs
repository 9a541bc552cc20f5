//! The binary `propagation`.

fn main() -> std::process::ExitCode {
    propagation_cli::main(std::env::args_os()).into()
}
