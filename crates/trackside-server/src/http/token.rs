//! The secret that opens page and API: from `TRACKSIDE_TOKEN`, else from the file `token` in the data directory, which
//! is made with 32 random bytes and mode 0600 when it is missing.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// Variable that holds the token.
pub const VARIABLE: &str = "TRACKSIDE_TOKEN";
/// File in the data directory that holds the token.
pub const FILE: &str = "token";
/// Random bytes of a token; twice as many characters.
const BYTES: usize = 32;
/// Random bytes of a one-time code.
const CODE_BYTES: usize = 16;
/// Shortest token that we take from a user: what is shorter can be guessed.
const SHORTEST: usize = 8;

/// The token that was chosen by hand or made before, if there is one.
pub fn given(data: &Path) -> io::Result<Option<String>> {
    if let Some(token) = std::env::var(VARIABLE).ok().filter(|token| !token.trim().is_empty()) {
        return check(token.trim(), VARIABLE).map(Some);
    }
    let path = data.join(FILE);
    match fs::read_to_string(&path) {
        Ok(token) => check(token.trim(), &path.display().to_string()).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            Err(io::Error::new(error.kind(), format!("the token in `{}` cannot be read: {error}", path.display())))
        }
    }
}

/// The token; made and written down if there is none yet.
pub fn load(data: &Path) -> io::Result<String> {
    if let Some(token) = given(data)? {
        return Ok(token);
    }
    let (path, token) = (data.join(FILE), random(BYTES)?);
    let written = fs::create_dir_all(data).and_then(|()| write(&path, &token));
    written.map_err(|error| {
        io::Error::new(error.kind(), format!("the token cannot be written to `{}`: {error}", path.display()))
    })?;
    Ok(token)
}

/// A code that opens the page once.
pub fn code() -> io::Result<String> {
    random(CODE_BYTES)
}

fn check(token: &str, from: &str) -> io::Result<String> {
    let plain = token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte));
    if token.len() < SHORTEST || !plain {
        let message = format!("the token in `{from}` is not usable: at least {SHORTEST} letters, digits or `-._~+/=`");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok(token.to_owned())
}

fn random(bytes: usize) -> io::Result<String> {
    let mut buffer = [0u8; BYTES];
    getrandom::fill(&mut buffer[..bytes]).map_err(|error| io::Error::other(format!("no random numbers: {error}")))?;
    Ok(buffer[..bytes].iter().map(|byte| format!("{byte:02x}")).collect())
}

fn write(path: &Path, token: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(format!("{token}\n").as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_made_once_and_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let token = load(folder.path()).unwrap();
        assert_eq!((token.len(), load(folder.path()).unwrap() == token), (64, true));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(folder.path().join(FILE)).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_token_that_can_be_guessed_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), "abc\n").unwrap();
        assert!(load(folder.path()).unwrap_err().to_string().contains("at least 8"));
    }
}
