//! A directory of names for one test.

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Operation, Result};
use crate::transport::Transport;

/// The number of attempts at a name for the directory that nothing has.
const ATTEMPTS: u32 = 16;

/// A private base directory that lives as long as a test. It is removed with everything in it when it is dropped.
///
/// The names that [`name`](Base::name) returns are absolute addresses in it. A server and a client that use them look
/// nowhere else: neither `$PARLOUR_DIR` nor the directories of the machine matter, the environment is not changed, and
/// tests that run at the same time do not meet.
///
/// The directory is in `$TMPDIR` or `/tmp`, with the mode 0700. If the process is killed, it stays there.
///
/// # Examples
///
/// ```
/// use parlour::testing::Base;
/// use parlour::{Connection, Server};
///
/// let base = Base::new()?;
/// let server = Server::bind(base.name("echo"))?;
/// let client = std::thread::spawn({
///     let name = base.name("echo");
///     move || Connection::connect(name)
/// });
/// let mut served = server.accept()?;
/// served.send("hello")?;
/// assert_eq!(client.join().unwrap()?.recv()?.unwrap(), b"hello");
/// # Ok::<(), parlour::Error>(())
/// ```
#[derive(Debug)]
pub struct Base {
    path: PathBuf,
}

impl Base {
    /// Creates the directory.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] or [`ErrorKind::Denied`]: the directory cannot be created. [`ErrorKind::Unsupported`]: the
    /// path of the directory for temporary files is not UTF-8.
    pub fn new() -> Result<Self> {
        let place = std::env::temp_dir();
        let failed = |error| Error::io(Operation::CreateDirectory, place.display().to_string(), error);
        let place = fs::canonicalize(&place).map_err(failed)?;
        if place.to_str().is_none() {
            let detail = "the path is not UTF-8, so it cannot be in an address";
            return Err(Error::new(
                ErrorKind::Unsupported,
                Operation::CreateDirectory,
                place.display().to_string(),
                detail,
            )
            .next("set $TMPDIR to another directory"));
        }
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let mut number = [0; 8];
            rustix::rand::getrandom(&mut number, rustix::rand::GetRandomFlags::empty())
                .map_err(|errno| failed(errno.into()))?;
            let path = place.join(format!("parlour-test-{:016x}", u64::from_ne_bytes(number)));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {
                    let base = Self { path };
                    // The umask may have removed bits.
                    fs::set_permissions(&base.path, Permissions::from_mode(0o700)).map_err(failed)?;
                    return Ok(base);
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => last = Some(error),
                Err(error) => return Err(failed(error)),
            }
        }
        Err(failed(last.unwrap_or_else(|| std::io::ErrorKind::AlreadyExists.into())))
    }

    /// Returns the path of the directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the address of a name in this base, such as `/tmp/parlour-test-1f00/echo`.
    #[must_use]
    pub fn name(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }

    /// Returns the address of a name over this transport, such as `fifo:/tmp/parlour-test-1f00/echo`.
    #[must_use]
    pub fn address(&self, transport: Transport, name: &str) -> String {
        format!("{transport}:{}", self.name(name))
    }
}

impl Drop for Base {
    fn drop(&mut self) {
        // Files that cannot be removed are left to the system, which clears its directory for temporary files.
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "the base of a test was not removed");
        }
    }
}
