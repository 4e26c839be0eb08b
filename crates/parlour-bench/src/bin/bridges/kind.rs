//! The ways to reach a server of another host that are compared.

use std::process::Command;

/// A way to reach a server of another host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `parlour-bridge` on both hosts.
    Bridge,
    /// A relay between a UNIX socket and TCP on both hosts, without encryption, identity or names.
    Relay,
    /// The same with TLS 1.3 and certificates on both sides: the loop of the bridge, with nothing else.
    TlsRelay,
    /// socat on both hosts, with TLS and certificates on both sides.
    Socat,
    /// ssh on the client's host forwards a UNIX socket to sshd on the other one.
    Ssh,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] = [Self::Bridge, Self::Relay, Self::TlsRelay, Self::Socat, Self::Ssh];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bridge => "parlour-bridge",
            Self::Relay => "tcp-relay",
            Self::TlsRelay => "tls-relay",
            Self::Socat => "socat-openssl",
            Self::Ssh => "ssh-l",
        }
    }

    pub(crate) fn advice(self) -> &'static str {
        match self {
            Self::Bridge => {
                "defaults, with limits for all connections of a turn; a TLS 1.3 connection with certificates on both \
                 sides for each client (docs/bridge.md)"
            }
            Self::Relay => {
                "tokio on two threads, TCP_NODELAY, copy_bidirectional with buffers of 64 KiB; no encryption (docs of \
                 tokio::io::copy_bidirectional_with_sizes)"
            }
            Self::TlsRelay => {
                "as tcp-relay, with tokio-rustls, ring and certificates on both sides (docs of tokio_rustls)"
            }
            Self::Socat => {
                "UNIX-LISTEN to OPENSSL, OPENSSL-LISTEN to UNIX-CONNECT, certificates on both sides, fork, nodelay, \
                 -b 65536 (socat(1))"
            }
            Self::Ssh => {
                "ssh -N -L from a UNIX socket to the server's, sshd with its own keys and configuration, one TCP \
                 connection for all clients (ssh(1))"
            }
        }
    }

    pub(crate) fn version(self) -> String {
        let of = |program: &str, argument: &str| {
            let output = Command::new(program).arg(argument).output().ok()?;
            let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            // The line that has a digit: socat prints its authors first.
            text.lines().find(|line| line.contains("ersion") || line.starts_with("OpenSSH")).map(str::to_owned)
        };
        match self {
            Self::Bridge | Self::Relay | Self::TlsRelay => Some(env!("CARGO_PKG_VERSION").to_owned()),
            Self::Socat => of("socat", "-V").map(|line| line.chars().take(24).collect()),
            Self::Ssh => of("ssh", "-V"),
        }
        .unwrap_or_else(|| "not installed".to_owned())
    }
}
