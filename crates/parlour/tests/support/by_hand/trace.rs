//! A child that is stopped at any of its system calls, by ptrace(2), so that what happens between two of them can be
//! tried out instead of hoped for.
//!
//! The role marks the part that matters by [`mark`] before and behind it. All calls of one [`Traced`] must be made by
//! the thread that started it.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt;
use std::ptr;
use std::sync::OnceLock;

use rustix::process::{Signal, getpid, kill_process};

use crate::support::Child;

/// Not in the `libc` crate for every target.
const O_TRACESYSGOOD: usize = 1;
const O_EXITKILL: usize = 0x10_0000;

/// For roles: the part that matters begins or ends here.
pub fn mark() {
    kill_process(getpid(), Signal::STOP).unwrap();
}

/// Where the registers of a traced process are that matter for a call: `struct user_regs_struct` of x86_64.
mod registers {
    pub const NUMBER: usize = 15 * 8;
    pub const RESULT: usize = 10 * 8;
    pub const ARGUMENTS: [usize; 6] = [14 * 8, 13 * 8, 12 * 8, 7 * 8, 9 * 8, 8 * 8];
    pub const STACK: usize = 19 * 8;
}

/// A system call.
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
    /// The descriptors that announce themselves to an epoll(7) instance of the child's once each time (`EPOLLET`), of those
    /// that were registered on the way to where it stands.
    watched: BTreeMap<u64, Watched>,
}

/// How a descriptor is registered: with which instance, and the `struct epoll_event`.
#[derive(Clone, Copy, Debug)]
struct Watched {
    epoll: u64,
    event: [u64; 2],
}

/// Where the child stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    AtMark,
    AtCall,
    Ended,
}

/// Why the child has stopped.
#[derive(Debug, PartialEq, Eq)]
enum Stop {
    /// At the beginning or the end of a system call.
    Call,
    Signal(i32),
    Ended,
}

/// Why no child can be traced here, if none can.
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
            Err(error) => Some(format!("no child can be traced here: {error}")),
        }
    };
    REASON.get_or_init(tried).clone()
}

/// Why no system call can be made to fail here, if none can.
pub fn cannot_inject() -> Option<String> {
    if cfg!(not(target_arch = "x86_64")) {
        return Some("the registers of this processor are not known to the tests".to_owned());
    }
    cannot_trace()
}

fn trace_me() -> io::Result<()> {
    // SAFETY: this request has no arguments.
    match unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, ptr::null_mut::<u8>(), ptr::null_mut::<u8>()) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

impl Traced {
    /// Starts a child in a role and comes back when it stands at its first mark.
    pub fn start<A: AsRef<OsStr>>(role: &str, arguments: &[A]) -> Self {
        let mut command = Child::command(role, arguments);
        // SAFETY: the closure makes one system call and allocates nothing.
        unsafe { command.pre_exec(trace_me) };
        let child = Child::start(&mut command);
        let pid = child.pid() as libc::pid_t;
        let mut traced = Self { child, pid, place: Place::AtMark, watched: BTreeMap::new() };
        assert_eq!(traced.wait(), Stop::Signal(libc::SIGTRAP), "the child stops when it has begun its program");
        traced.request(libc::PTRACE_SETOPTIONS, O_TRACESYSGOOD | O_EXITKILL);
        traced.run_to_mark();
        traced
    }

    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Goes on to where this system call begins, counted from 0 at the first mark; `false` when the next mark comes
    /// first.
    pub fn go_to_call(&mut self, number: usize) -> bool {
        let mut stops = 0;
        let mut signal = 0;
        self.watched.clear();
        loop {
            self.request(libc::PTRACE_SYSCALL, signal);
            signal = 0;
            match self.wait() {
                // Beginnings and ends take turns.
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

    /// The call at whose beginning it stands: its number, and its arguments.
    pub fn call(&self) -> Call {
        assert_eq!(self.place, Place::AtCall);
        self.peek_call()
    }

    fn peek_call(&self) -> Call {
        Call { number: self.peek(registers::NUMBER) as i64, arguments: registers::ARGUMENTS.map(|at| self.peek(at)) }
    }

    /// Has the call at whose beginning it stands fail with this error. It is not made, unless `made` says so.
    pub fn fail(&mut self, error: i32, made: bool) {
        assert_eq!(self.place, Place::AtCall);
        if !made {
            self.poke(registers::NUMBER, -1);
        }
        if self.finish_call() {
            self.poke(registers::RESULT, -i64::from(error));
        }
    }

    /// Has the call at whose beginning it stands, which reads or writes its first argument, fail with `EAGAIN`, and the
    /// descriptor be ready the moment after. One that is looked at is found ready; one that announces itself once does so
    /// again, as that of a kernel does that had nothing to give when it was asked, and has it now: instead of the call, the
    /// child registers it anew in the same way.
    pub fn fail_for_now(&mut self) {
        let descriptor = self.call().arguments[0];
        let Some(&Watched { epoll, event }) = self.watched.get(&descriptor) else {
            return self.fail(libc::EAGAIN, false);
        };
        /// What lies behind the top of a stack may be in use, but not further than this.
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
            assert_eq!(self.peek(registers::RESULT) as i64, 0, "it cannot be registered anew");
            for (register, argument) in registers::ARGUMENTS.into_iter().zip(before) {
                self.poke(register, argument as i64);
            }
            self.poke(registers::RESULT, -i64::from(libc::EAGAIN));
        }
    }

    /// Goes on from the beginning of a call to its end; `false` when the child ends instead.
    fn finish_call(&mut self) -> bool {
        let mut signals = Vec::new();
        loop {
            self.request(libc::PTRACE_SYSCALL, 0);
            match self.wait() {
                Stop::Call => break,
                // They are for later.
                Stop::Signal(signal) => signals.push(signal),
                Stop::Ended => {
                    self.place = Place::Ended;
                    return false;
                }
            }
        }
        assert!(signals.is_empty(), "nobody sends signals here: {signals:?}");
        true
    }

    /// Keeps `watched` what it is, by the call that is about to be made.
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

    /// Goes on to the next mark; `false` when the child ends instead.
    pub fn go_to_mark(&mut self) -> bool {
        self.run_to_mark();
        self.place == Place::AtMark
    }

    fn peek(&self, register: usize) -> u64 {
        // SAFETY: this request takes an offset and gives what is there, or -1, which no call here has.
        let word = unsafe {
            let offset = ptr::without_provenance_mut::<u8>(register);
            libc::ptrace(libc::PTRACE_PEEKUSER, self.pid, offset, ptr::null_mut::<u8>())
        };
        word as u64
    }

    fn poke(&self, register: usize, value: i64) {
        // SAFETY: this request takes an offset and a number.
        let result = unsafe {
            let offset = ptr::without_provenance_mut::<u8>(register);
            libc::ptrace(libc::PTRACE_POKEUSER, self.pid, offset, ptr::without_provenance_mut::<u8>(value as usize))
        };
        assert_eq!(result, 0, "ptrace: {}", io::Error::last_os_error());
    }

    fn peek_memory(&self, address: u64) -> u64 {
        // SAFETY: this request takes an address of the child's and gives the word there; of a wrong one it gives -1.
        let word = unsafe {
            let address = ptr::without_provenance_mut::<u8>(address as usize);
            libc::ptrace(libc::PTRACE_PEEKDATA, self.pid, address, ptr::null_mut::<u8>())
        };
        word as u64
    }

    fn poke_memory(&self, address: u64, word: u64) {
        // SAFETY: this request takes an address of the child's and a word; it is the child's memory that changes.
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

    /// Lets it do the rest of the part, and go on untraced.
    pub fn let_go(mut self) -> Child {
        if self.place == Place::AtCall {
            self.run_to_mark();
        }
        if self.place == Place::AtMark {
            self.request(libc::PTRACE_DETACH, 0);
        }
        self.child
    }

    /// SIGKILL, where it stands.
    pub fn kill(mut self) {
        self.child.kill();
    }

    fn request(&self, request: libc::c_uint, data: usize) {
        // SAFETY: the requests that are made here take a number, and no address.
        let result =
            unsafe { libc::ptrace(request, self.pid, ptr::null_mut::<u8>(), ptr::without_provenance_mut::<u8>(data)) };
        assert_eq!(result, 0, "ptrace {request}: {}", io::Error::last_os_error());
    }

    fn wait(&self) -> Stop {
        let mut status = 0;
        loop {
            // SAFETY: the status lives through the call.
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
