//! A child that is stopped at its system calls with ptrace(2), so that a test can act between any two of them
//! deterministically.
//!
//! The role marks the relevant part by calling [`mark`] before and after it. All methods of a [`Traced`] must be
//! called in the thread that started it.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt;
use std::ptr;
use std::sync::OnceLock;

use crate::support::Child;

/// The `libc` crate does not define these options for every target.
const O_TRACESYSGOOD: usize = 1;
const O_EXITKILL: usize = 0x10_0000;

/// Marks the begin or end of the relevant part of a role with a SIGSTOP, to the calling thread: only that is traced.
pub fn mark() {
    // SAFETY: a system call without arguments.
    let thread = unsafe { libc::gettid() };
    // SAFETY: a system call that takes only numbers.
    let result = unsafe { libc::syscall(libc::SYS_tgkill, std::process::id(), thread, libc::SIGSTOP) };
    assert_eq!(result, 0, "tgkill: {}", io::Error::last_os_error());
}

/// The offsets of the registers of a system call in `struct user_regs_struct` of x86_64.
mod registers {
    pub const NUMBER: usize = 15 * 8;
    pub const RESULT: usize = 10 * 8;
    pub const ARGUMENTS: [usize; 6] = [14 * 8, 13 * 8, 12 * 8, 7 * 8, 9 * 8, 8 * 8];
    pub const STACK: usize = 19 * 8;
}

/// A system call: its number and its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    pub number: i64,
    pub arguments: [u64; 6],
}

#[derive(Debug)]
pub struct Traced {
    child: Child,
    pid: libc::pid_t,
    place: Place,
    /// The descriptors that are registered edge-triggered (`EPOLLET`) with an epoll(7) instance of the child, among
    /// those that were registered between the first mark and the current stop.
    watched: BTreeMap<u64, Watched>,
}

/// The registration of a descriptor: the epoll instance and the `struct epoll_event`.
#[derive(Clone, Copy, Debug)]
struct Watched {
    epoll: u64,
    event: [u64; 2],
}

/// The position of the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    AtMark,
    AtCall,
    Ended,
}

/// The reason why the child has stopped.
#[derive(Debug, PartialEq, Eq)]
enum Stop {
    /// At entry to or exit from a system call.
    Call,
    Signal(i32),
    Ended,
}

/// Returns the reason why no child can be traced here, if there is one.
pub fn cannot_trace() -> Option<String> {
    static REASON: OnceLock<Option<String>> = OnceLock::new();
    let tried = || {
        let mut command = std::process::Command::new("/bin/true");
        // SAFETY: the closure makes one system call.
        unsafe { command.pre_exec(trace_me) };
        match command.spawn() {
            Ok(mut child) => {
                let _ = child.kill();
                let _ = child.wait();
                None
            }
            Err(error) => Some(format!("ptrace(2) does not work here: {error}")),
        }
    };
    REASON.get_or_init(tried).clone()
}

/// Returns the reason why system calls cannot be made to fail here, if there is one.
pub fn cannot_inject() -> Option<String> {
    if cfg!(not(target_arch = "x86_64")) {
        return Some("the tests know only the registers of x86_64".to_owned());
    }
    cannot_trace()
}

fn trace_me() -> io::Result<()> {
    // SAFETY: PTRACE_TRACEME ignores its other arguments.
    match unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, ptr::null_mut::<u8>(), ptr::null_mut::<u8>()) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

impl Traced {
    /// Starts a child in a role and runs it to its first mark.
    pub fn start<A: AsRef<OsStr>>(role: &str, arguments: &[A]) -> Self {
        let mut command = Child::command(role, arguments);
        // SAFETY: the closure makes one async-signal-safe system call and allocates nothing.
        unsafe { command.pre_exec(trace_me) };
        let child = Child::start(&mut command);
        let pid = child.pid() as libc::pid_t;
        let mut traced = Self { child, pid, place: Place::AtMark, watched: BTreeMap::new() };
        assert_eq!(traced.wait(), Stop::Signal(libc::SIGTRAP), "the child stops after its exec");
        traced.request(libc::PTRACE_SETOPTIONS, O_TRACESYSGOOD | O_EXITKILL);
        traced.run_to_mark();
        traced
    }

    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Runs to the entry of this system call, counted from 0 at the first mark. Returns `false` if the next mark comes
    /// first.
    pub fn go_to_call(&mut self, number: usize) -> bool {
        let mut stops = 0;
        let mut signal = 0;
        self.watched.clear();
        loop {
            self.request(libc::PTRACE_SYSCALL, signal);
            signal = 0;
            match self.wait() {
                // Entry and exit stops alternate.
                Stop::Call if stops == 2 * number => {
                    self.place = Place::AtCall;
                    return true;
                }
                Stop::Call => {
                    if stops % 2 == 0 && cfg!(target_arch = "x86_64") {
                        self.note_what_is_watched();
                    }
                    stops += 1;
                }
                Stop::Signal(libc::SIGSTOP) => {
                    self.place = Place::AtMark;
                    return false;
                }
                Stop::Signal(other) => signal = other as usize,
                Stop::Ended => {
                    self.place = Place::Ended;
                    return false;
                }
            }
        }
    }

    /// Returns the system call at whose entry the child is stopped.
    pub fn call(&self) -> Call {
        assert_eq!(self.place, Place::AtCall);
        self.peek_call()
    }

    fn peek_call(&self) -> Call {
        Call { number: self.peek(registers::NUMBER) as i64, arguments: registers::ARGUMENTS.map(|at| self.peek(at)) }
    }

    /// Makes the system call at whose entry the child is stopped fail with this error. The call is executed only if
    /// `made` is true.
    pub fn fail(&mut self, error: i32, made: bool) {
        assert_eq!(self.place, Place::AtCall);
        if !made {
            self.poke(registers::NUMBER, -1);
        }
        if self.finish_call() {
            self.poke(registers::RESULT, -i64::from(error));
        }
    }

    /// Makes the system call at whose entry the child is stopped, which reads or writes its first argument, fail with
    /// `EAGAIN`, as if the descriptor became ready just after the call. A level-triggered poll finds the descriptor
    /// ready. An edge-triggered registration must report the new edge: instead of the call, the child executes
    /// `EPOLL_CTL_MOD` with the same event, which re-arms it.
    pub fn fail_for_now(&mut self) {
        let descriptor = self.call().arguments[0];
        let Some(&Watched { epoll, event }) = self.watched.get(&descriptor) else {
            return self.fail(libc::EAGAIN, false);
        };
        /// The ABI allows the child to use this many bytes below the stack pointer.
        const RED_ZONE: u64 = 128;
        let place = (self.peek(registers::STACK) - RED_ZONE - size_of_val(&event) as u64) & !15;
        for (at, word) in (place..).step_by(8).zip(event) {
            self.poke_memory(at, word);
        }
        let before = self.call().arguments;
        let instead = [epoll, libc::EPOLL_CTL_MOD as u64, descriptor, place];
        self.poke(registers::NUMBER, libc::SYS_epoll_ctl);
        for (register, argument) in registers::ARGUMENTS.into_iter().zip(instead) {
            self.poke(register, argument as i64);
        }
        if self.finish_call() {
            assert_eq!(self.peek(registers::RESULT) as i64, 0, "the child could not re-arm the descriptor");
            for (register, argument) in registers::ARGUMENTS.into_iter().zip(before) {
                self.poke(register, argument as i64);
            }
            self.poke(registers::RESULT, -i64::from(libc::EAGAIN));
        }
    }

    /// Makes the system call at whose entry the child is stopped, which writes to its first argument, fail with this
    /// error, which says that the peer has gone. Instead of the call, the child executes shutdown(2), so that the error
    /// is true: later writes fail as well, and the peer sees the end. On a descriptor that is no socket it has no
    /// effect.
    pub fn fail_for_good(&mut self, error: i32) {
        let before = self.call().arguments;
        self.poke(registers::NUMBER, libc::SYS_shutdown);
        self.poke(registers::ARGUMENTS[1], i64::from(libc::SHUT_WR));
        if self.finish_call() {
            self.poke(registers::ARGUMENTS[1], before[1] as i64);
            self.poke(registers::RESULT, -i64::from(error));
        }
    }

    /// Runs from the entry of a call to its exit. Returns `false` if the child exits instead.
    fn finish_call(&mut self) -> bool {
        let mut signals = Vec::new();
        loop {
            self.request(libc::PTRACE_SYSCALL, 0);
            match self.wait() {
                Stop::Call => break,
                // Collected for the assertion below, and not delivered.
                Stop::Signal(signal) => signals.push(signal),
                Stop::Ended => {
                    self.place = Place::Ended;
                    return false;
                }
            }
        }
        assert!(signals.is_empty(), "unexpected signals: {signals:?}");
        true
    }

    /// Updates `watched` for the call that is about to be executed.
    fn note_what_is_watched(&mut self) {
        let Call { number, arguments: [first, operation, descriptor, event, ..] } = self.peek_call();
        match (number, operation as i32) {
            (libc::SYS_epoll_ctl, libc::EPOLL_CTL_ADD | libc::EPOLL_CTL_MOD) => {
                let event = [self.peek_memory(event), self.peek_memory(event + 8)];
                if event[0] as i32 & libc::EPOLLET != 0 {
                    self.watched.insert(descriptor, Watched { epoll: first, event });
                }
            }
            (libc::SYS_epoll_ctl, _) => drop(self.watched.remove(&descriptor)),
            (libc::SYS_close, _) => drop(self.watched.remove(&first)),
            _ => {}
        }
    }

    /// Runs to the next mark. Returns `false` if the child exits instead.
    pub fn go_to_mark(&mut self) -> bool {
        self.run_to_mark();
        self.place == Place::AtMark
    }

    fn peek(&self, register: usize) -> u64 {
        // SAFETY: PTRACE_PEEKUSER takes an offset and returns the word there, or -1 on an error, which does not occur
        // for these offsets.
        let word = unsafe {
            let offset = ptr::without_provenance_mut::<u8>(register);
            libc::ptrace(libc::PTRACE_PEEKUSER, self.pid, offset, ptr::null_mut::<u8>())
        };
        word as u64
    }

    fn poke(&self, register: usize, value: i64) {
        // SAFETY: PTRACE_POKEUSER takes an offset and a number.
        let result = unsafe {
            let offset = ptr::without_provenance_mut::<u8>(register);
            libc::ptrace(libc::PTRACE_POKEUSER, self.pid, offset, ptr::without_provenance_mut::<u8>(value as usize))
        };
        assert_eq!(result, 0, "ptrace: {}", io::Error::last_os_error());
    }

    fn peek_memory(&self, address: u64) -> u64 {
        // SAFETY: PTRACE_PEEKDATA takes an address in the child and returns the word there, or -1 for an invalid
        // address.
        let word = unsafe {
            let address = ptr::without_provenance_mut::<u8>(address as usize);
            libc::ptrace(libc::PTRACE_PEEKDATA, self.pid, address, ptr::null_mut::<u8>())
        };
        word as u64
    }

    fn poke_memory(&self, address: u64, word: u64) {
        // SAFETY: PTRACE_POKEDATA takes an address in the child and a word. It changes only the child's memory.
        let result = unsafe {
            let address = ptr::without_provenance_mut::<u8>(address as usize);
            libc::ptrace(libc::PTRACE_POKEDATA, self.pid, address, ptr::without_provenance_mut::<u8>(word as usize))
        };
        assert_eq!(result, 0, "ptrace: {}", io::Error::last_os_error());
    }

    fn run_to_mark(&mut self) {
        let mut signal = 0;
        loop {
            self.request(libc::PTRACE_CONT, signal);
            match self.wait() {
                Stop::Signal(libc::SIGSTOP) => return self.place = Place::AtMark,
                Stop::Signal(other) => signal = other as usize,
                Stop::Call => signal = 0,
                Stop::Ended => return self.place = Place::Ended,
            }
        }
    }

    /// Runs to the end of the relevant part, then detaches, so that the child continues untraced.
    pub fn release(mut self) -> Child {
        if self.place == Place::AtCall {
            self.run_to_mark();
        }
        if self.place == Place::AtMark {
            self.request(libc::PTRACE_DETACH, 0);
        }
        self.child
    }

    /// Sends SIGKILL where the child is stopped.
    pub fn kill(mut self) {
        self.child.kill();
    }

    fn request(&self, request: libc::c_uint, data: usize) {
        // SAFETY: the requests that are made here take a number and no address.
        let result =
            unsafe { libc::ptrace(request, self.pid, ptr::null_mut::<u8>(), ptr::without_provenance_mut::<u8>(data)) };
        assert_eq!(result, 0, "ptrace {request}: {}", io::Error::last_os_error());
    }

    fn wait(&self) -> Stop {
        let mut status = 0;
        loop {
            // SAFETY: `status` is valid for writes during the call.
            let waited = unsafe { libc::waitpid(self.pid, &raw mut status, libc::__WALL) };
            if waited == self.pid {
                break;
            }
            let error = io::Error::last_os_error();
            assert_eq!(error.kind(), io::ErrorKind::Interrupted, "waitpid: {error}");
        }
        if !libc::WIFSTOPPED(status) {
            return Stop::Ended;
        }
        match libc::WSTOPSIG(status) {
            signal if signal == libc::SIGTRAP | 0x80 => Stop::Call,
            signal => Stop::Signal(signal),
        }
    }
}
