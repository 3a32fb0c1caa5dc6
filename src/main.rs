//! The binary: everything it can do is named in [`weighbridge::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    weighbridge::cli::run()
}
