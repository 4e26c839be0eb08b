//! The limits of `parlour serve`: descriptors, programs, and clients that send nothing.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::args::{Idle, Serve};

/// The descriptors that this process needs for one program: its connection, its stdin, its stdout and its pidfd, and
/// two more while it starts or while the connection is over `fifo`.
const DESCRIPTORS_PER_PROGRAM: u64 = 6;

/// The maximum number of programs, each of which serves one client.
const PROGRAMS_MAX: usize = 1024;

/// The maximum number of programs for one user, on a server to which other users may connect.
const PROGRAMS_PER_USER_MAX: usize = 32;

/// The time after which a client of another user is disconnected if no message has passed.
const FOREIGN_IDLE: Duration = Duration::from_secs(600);

/// The maximum length of a message, in bytes, on a server to which other users may connect. While its client or its
/// program does not take a message, the server keeps it, with a program up to three times.
const FOREIGN_MESSAGE_MAX: usize = 1024 * 1024;

/// Returns true if users other than this one and root may connect. The manager has chosen the mode of an activated
/// server.
fn is_open(args: &Serve) -> bool {
    args.activated || args.mode.is_some_and(|mode| mode & 0o077 != 0)
}

/// Returns the maximum length of a message, in bytes. `None` is the default of the library.
pub(super) fn message_max(args: &Serve) -> Option<usize> {
    args.message_max.or_else(|| is_open(args).then_some(FOREIGN_MESSAGE_MAX))
}

/// The limit on descriptors of this process.
pub(super) struct Descriptors {
    /// The limit with which this process was started, which its programs get back; `None` if it was not changed.
    pub(super) original: Option<Rlimit>,
    /// The soft limit now; `None` if there is none.
    available: Option<u64>,
}

impl Descriptors {
    /// Raises the soft limit to the hard limit. The soft limit protects programs that use select(2), such as those that
    /// this server may run, and not this one.
    pub(super) fn raise_limit() -> Descriptors {
        let original = getrlimit(Resource::Nofile);
        let raised = Rlimit { current: original.maximum, maximum: original.maximum };
        if original.current == original.maximum || setrlimit(Resource::Nofile, raised).is_err() {
            return Descriptors { available: original.current, original: None };
        }
        Descriptors { available: original.maximum, original: Some(original) }
    }

    /// Returns the default limits on clients, in total and of each user, of a server that runs programs. `None` is the
    /// default of the library.
    ///
    /// A process costs far more than a connection. Each user of a private server is this user or root, and may take
    /// all places.
    pub(super) fn programs(&self, args: &Serve) -> (Option<usize>, Option<usize>) {
        if args.echo {
            return (None, None);
        }
        let by_descriptors = self.available.map_or(u64::MAX, |available| available / DESCRIPTORS_PER_PROGRAM);
        let all = usize::try_from(by_descriptors).unwrap_or(usize::MAX).clamp(1, PROGRAMS_MAX);
        let of_a_user = if is_open(args) { all.div_ceil(4).min(PROGRAMS_PER_USER_MAX) } else { all };
        (Some(all), Some(of_a_user))
    }
}

/// Returns the time after which a client is disconnected if no message has passed, or `None` if there is no limit.
pub(super) fn idle_limit(option: Option<Idle>, uid: Option<u32>) -> Option<Duration> {
    let own = rustix::process::geteuid().as_raw();
    match option {
        Some(Idle(limit)) => limit,
        None if uid.is_some_and(|uid| uid == 0 || uid == own) => None,
        None => Some(FOREIGN_IDLE),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use clap::Parser as _;

    use super::*;
    use crate::args::{Args, Command};

    fn programs(available: Option<u64>, args: &str) -> (Option<usize>, Option<usize>) {
        let args = format!("parlour serve {args}");
        let Command::Serve(args) = Args::try_parse_from(args.split(' ')).unwrap().command else { panic!() };
        Descriptors { available, original: None }.programs(&args)
    }

    #[test]
    fn another_user_gets_few_programs_and_none_can_take_all_descriptors() {
        assert_eq!(programs(Some(1 << 20), "name -- cat"), (Some(1024), Some(1024)));
        assert_eq!(programs(None, "name --mode 0660 -- cat"), (Some(1024), Some(32)));
        assert_eq!(programs(None, "name --mode 0666 -- cat"), (Some(1024), Some(32)));
        assert_eq!(programs(None, "--activated -- cat"), (Some(1024), Some(32)));
        assert_eq!(programs(Some(1024), "name -- cat"), (Some(170), Some(170)));
        assert_eq!(programs(Some(60), "name --mode 0666 -- cat"), (Some(10), Some(3)));
        assert_eq!(programs(Some(3), "name --mode 0666 -- cat"), (Some(1), Some(1)));
        assert_eq!(programs(Some(1024), "name --mode 0666 --echo"), (None, None));
    }

    #[test]
    fn an_idle_client_of_another_user_is_disconnected_and_one_of_this_user_is_not() {
        let own = rustix::process::geteuid().as_raw();
        assert_eq!(idle_limit(None, Some(own)), None);
        assert_eq!(idle_limit(None, Some(0)), None);
        assert_eq!(idle_limit(None, Some(own + 1)), Some(FOREIGN_IDLE));
        assert_eq!(idle_limit(None, None), Some(FOREIGN_IDLE), "an unknown user is another user");
        let minute = Some(Duration::from_secs(60));
        assert_eq!(idle_limit(Some(Idle(minute)), Some(own)), minute);
        assert_eq!(idle_limit(Some(Idle(None)), Some(own + 1)), None);
    }
}
