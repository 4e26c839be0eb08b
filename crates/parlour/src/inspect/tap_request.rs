//! The request of a tap in the page of a server. docs/stats.md specifies it.
//!
//! The page was chosen by another process, so it is checked before anything is written to it.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{SealFlags, fcntl_get_seals, fstat};
use rustix::io::{Errno, pwrite};

use crate::shm::place::now;
use crate::shm::tap_reader::read_at;
use crate::sys::fork::Process;
use crate::wire::tap_request::{BELL, HOLDS, PAGE_LEN, Request, free_place, request_at};

/// The number of attempts to take a place, against processes that take the same one at the same time.
const TRIES: usize = 16;

/// The seals of a page. It may have the one that forbids execution as well.
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// `F_SEAL_EXEC`, which the kernel sets by itself.
const SEAL_EXEC: SealFlags = SealFlags::from_bits_retain(0x20);

/// The taps that this process has begun.
static BEGUN: AtomicU64 = AtomicU64::new(0);

/// A request that holds as long as it is renewed. Dropping it ends it.
pub(super) struct Asking {
    page: OwnedFd,
    /// The second word of the request: it tells this request from all others.
    mark: u64,
    place: usize,
    process: Process,
}

/// Returns true if a file is a page of requests of this user: writing to it changes nothing else.
pub(super) fn is_page(file: impl AsFd, owner: u32) -> Result<bool, Errno> {
    let stat = fstat(&file)?;
    if stat.st_nlink != 0 || stat.st_uid != owner || stat.st_size != PAGE_LEN as i64 {
        return Ok(false);
    }
    match fcntl_get_seals(&file) {
        Ok(seals) => Ok(seals.difference(SEAL_EXEC) == SEALS),
        // The file has no seals.
        Err(Errno::INVAL) => Ok(false),
        Err(errno) => Err(errno),
    }
}

impl Asking {
    /// Returns a request in a page that passed [`is_page`]. It has no place yet.
    pub(super) fn new(page: OwnedFd) -> Self {
        let pid = rustix::process::getpid().as_raw_nonzero().get() as u32;
        let count = BEGUN.fetch_add(1, Ordering::Relaxed);
        // Processes in several PID namespaces may have the same id.
        let nonce = now().rotate_left(17).wrapping_add(count).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let mark = nonce << 32 | u64::from(pid);
        // Processes that begin at the same time begin to search at different places.
        let place = nonce as usize;
        Self { page, mark, place, process: Process::current() }
    }

    /// Returns true if this process is a forked child of the one that asks.
    pub(super) fn is_in_child(&self) -> bool {
        !self.process.is_current()
    }

    /// Asks for two more seconds. The caller is not a forked child.
    pub(super) fn renew(&mut self) -> Result<(), Errno> {
        if self.is_own(&self.read()?) {
            return self.write(now().saturating_add(HOLDS));
        }
        // Another process has taken the same place at the same time. If there is no other place, the requests of other
        // processes keep the tap, and the next renewal tries again.
        self.take_place().map(drop)
    }

    /// Takes a place, and asks for two seconds. Returns false if there is none. The caller is not a forked child.
    pub(super) fn take_place(&mut self) -> Result<bool, Errno> {
        for _ in 0..TRIES {
            let Some(place) = free_place(&self.read()?, now(), self.place) else { return Ok(false) };
            self.place = place;
            self.write(now().saturating_add(HOLDS))?;
            if self.is_own(&self.read()?) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn read(&self) -> Result<[u8; PAGE_LEN], Errno> {
        let mut page = [0; PAGE_LEN];
        read_at(&self.page, &mut page, 0)?;
        Ok(page)
    }

    fn is_own(&self, page: &[u8]) -> bool {
        request_at(page, self.place).pid == self.mark
    }

    fn write(&self, until: u64) -> Result<(), Errno> {
        let request = Request { until, pid: self.mark };
        pwrite(&self.page, &request.encode(), Request::offset(self.place) as u64)?;
        pwrite(&self.page, &now().to_ne_bytes(), BELL as u64)?;
        Ok(())
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        // A forked child does not end the tap of its parent, and no tap ends that of another process.
        if !self.is_in_child() && self.read().is_ok_and(|page| self.is_own(&page)) {
            // If this fails, the request ends by itself.
            let _ = self.write(0);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use rustix::fs::{MemfdFlags, fcntl_add_seals, ftruncate, memfd_create};

    use super::*;
    use crate::wire::tap_request::requests;

    fn memfd(length: usize, seals: SealFlags) -> OwnedFd {
        let file = memfd_create("parlour-test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&file, length as u64).unwrap();
        fcntl_add_seals(&file, seals).unwrap();
        file
    }

    fn begin(page: &OwnedFd) -> Asking {
        let mut asking = Asking::new(page.try_clone().unwrap());
        assert!(asking.take_place().unwrap());
        asking
    }

    /// Returns the number of requests that hold.
    fn held(page: &OwnedFd) -> usize {
        let mut bytes = [0; PAGE_LEN];
        read_at(page, &mut bytes, 0).unwrap();
        requests(&bytes).filter(|request| request.holds(now())).count()
    }

    #[test]
    fn only_a_sealed_page_of_the_user_is_written_to() {
        let own = rustix::process::geteuid().as_raw();
        let is_page = |length, seals| is_page(memfd(length, seals), own).unwrap();
        assert!(is_page(PAGE_LEN, SEALS));
        assert!(!is_page(PAGE_LEN + 1, SEALS) && !is_page(PAGE_LEN / 2, SEALS));
        assert!(!is_page(PAGE_LEN, SealFlags::SHRINK | SealFlags::GROW) && !is_page(PAGE_LEN, SealFlags::empty()));
        assert!(!is_page(PAGE_LEN, SEALS | SealFlags::WRITE) && !is_page(PAGE_LEN, SEALS | SealFlags::FUTURE_WRITE));
        assert!(!super::is_page(memfd(PAGE_LEN, SEALS), own + 1).unwrap());
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(PAGE_LEN as u64).unwrap();
        assert!(!super::is_page(file.as_file(), own).unwrap());
        assert!(!super::is_page(tempfile::tempfile_in("/dev/shm").unwrap(), own).unwrap());
    }

    #[test]
    fn a_request_whose_place_was_taken_moves_and_ends_no_other() {
        let page = memfd(PAGE_LEN, SEALS);
        let (mut first, mut second) = (begin(&page), begin(&page));
        // The second took the place of the first at the same time.
        second.write(0).unwrap();
        second.place = first.place;
        second.write(now() + HOLDS).unwrap();
        assert_eq!(held(&page), 1);
        first.renew().unwrap();
        assert_ne!(first.place % 128, second.place % 128);
        assert_eq!(held(&page), 2);
        second.renew().unwrap();
        first.place = second.place;
        drop(first);
        assert_eq!(held(&page), 2, "a tap ends its own request only");
        drop(second);
        assert_eq!(held(&page), 1);
    }

    #[test]
    fn a_forked_child_does_not_end_the_request_of_its_parent() {
        let page = memfd(PAGE_LEN, SEALS);
        let mut child = begin(&page);
        child.process = Process::other();
        assert!(child.is_in_child());
        drop(child);
        assert_eq!(held(&page), 1);
    }
}
