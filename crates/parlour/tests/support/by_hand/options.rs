//! Arguments of roles as `key=value` words.

use std::time::Duration;

use parlour::{ConnectOptions, ServerOptions, Transport};

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

    /// Applies `uid=` and `umask=`: changes the user and the umask of this process.
    pub fn become_whom_they_say(&self) {
        if let Some(uid) = self.number("uid") {
            user::become_user(uid);
        }
        if let Some(umask) = self.octal("umask") {
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(umask));
        }
    }

    /// Returns server options from `on=unix,fifo`, `mode=666`, `group=GID` and `handshake_ms=`.
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
        if let Some(milliseconds) = self.number("handshake_ms") {
            options = options.handshake_timeout(Duration::from_millis(milliseconds.into()));
        }
        options
    }

    /// Returns connect options from `server_uid=UID` and `timeout_ms=`.
    pub fn connect_options(&self) -> ConnectOptions {
        let mut options = ConnectOptions::new();
        if let Some(uid) = self.number("server_uid") {
            options = options.server_uid(uid);
        }
        if let Some(milliseconds) = self.number("timeout_ms") {
            options = options.timeout(Duration::from_millis(milliseconds.into()));
        }
        options
    }
}
