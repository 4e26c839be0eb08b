//! Arguments of roles as `key=value` words.

use std::time::Duration;

use parlour::{ConnectOptions, Origin, ServerOptions, Transport};

use super::user;

/// The arguments of a role.
#[derive(Debug)]
pub struct Words<'a>(pub &'a [String]);

impl Words<'_> {
    pub fn find(&self, key: &str) -> Option<&str> {
        self.0.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }

    pub fn number(&self, key: &str) -> Option<u32> {
        self.find(key).map(|value| value.parse().unwrap())
    }

    pub fn octal(&self, key: &str) -> Option<u32> {
        self.find(key).map(|value| u32::from_str_radix(value, 8).unwrap())
    }

    pub fn address(&self) -> &str {
        self.find("address").expect("address=")
    }

    /// Applies `uid=`, `namespace=` and `umask=`: changes the user of this process, moves it into a user namespace in
    /// which only that user is mapped, to this id, and changes the umask.
    pub fn become_whom_they_say(&self) {
        if let Some(uid) = self.number("uid") {
            user::become_user(uid);
        }
        if let Some(inside) = self.number("namespace") {
            user::enter_a_namespace(inside);
        }
        if let Some(umask) = self.octal("umask") {
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(umask));
        }
    }

    /// Returns server options from `on=unix,fifo`, `mode=666`, `group=GID`, `take_over_ms=`, `yields=1` and
    /// `handshake_ms=`.
    pub fn server_options(&self) -> ServerOptions {
        let mut options = ServerOptions::new();
        if let Some(on) = self.find("on") {
            options = options.transports(on.split(',').map(|word| word.parse::<Transport>().unwrap()));
        }
        if let Some(mode) = self.octal("mode") {
            options = options.mode(mode);
        }
        if let Some(group) = self.number("group") {
            options = options.group(group);
        }
        if let Some(milliseconds) = self.number("take_over_ms") {
            options = options.take_over(Duration::from_millis(milliseconds.into()));
        }
        if let Some(yields) = self.number("yields") {
            options = options.yields(yields == 1);
        }
        if let Some(milliseconds) = self.number("handshake_ms") {
            options = options.handshake_timeout(Duration::from_millis(milliseconds.into()));
        }
        options
    }

    /// Returns connect options from `server_uid=UID`, `origin=HOST`, `timeout_ms=` and `wait_ms=`.
    pub fn connect_options(&self) -> ConnectOptions {
        let mut options = ConnectOptions::new();
        if let Some(uid) = self.number("server_uid") {
            options = options.server_uid(uid);
        }
        if let Some(host) = self.find("origin") {
            options = options.origin(Origin::new(host));
        }
        let time = |key| self.number(key).map(|milliseconds| Duration::from_millis(milliseconds.into()));
        if let Some(timeout) = time("timeout_ms") {
            options = options.timeout(timeout);
        }
        if let Some(wait) = time("wait_ms") {
            options = options.wait_for_server(wait);
        }
        options
    }
}
