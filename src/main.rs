//! The `reprise` binary: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    reprise::cli::main()
}
