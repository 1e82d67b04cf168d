//! Which Python runs the models, and whether it has the package. The engine follows the same rule.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use trackside_engine::Options;

/// The interpreter for workers: what the wheel says, else `TRACKSIDE_PYTHON`, else `python3`.
pub(crate) fn interpreter(options: &Options) -> PathBuf {
    let named = || std::env::var_os("TRACKSIDE_PYTHON").filter(|path| !path.is_empty()).map(PathBuf::from);
    options.python.clone().or_else(named).unwrap_or_else(|| "python3".into())
}

/// Whether that interpreter can run workers.
pub(crate) fn has_package(python: &Path) -> bool {
    let mut command = Command::new(python);
    command.args(["-c", "import trackside.worker, trackside._native"]);
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_python_has_no_package() {
        assert!(!has_package(Path::new("/nowhere/python3")));
    }
}
