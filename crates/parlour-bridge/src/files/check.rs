//! The check of a configuration and its files: every mistake that can be found without the other side.

use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, RootCertStore};

use super::config::Config;
use super::discovery::Discovery;
use super::finding::{Finding, unreadable};
use super::nats::{Login, Nats, NatsServer};
use super::tls;
use crate::identity::Host;

/// The time before the end of a certificate at which [`check`] begins to warn.
pub const EXPIRY_WARNING: Duration = Duration::from_secs(7 * 24 * 3600);

/// Checks the files of a configuration, their permissions, the certificates and the address. `path` is the file of the
/// configuration. Binds the address for a moment, and lets a bridge that has it already keep it.
#[must_use]
pub fn check(config: &Config, path: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    check_permissions(path, false, &mut findings);
    let tls = &config.tls;
    let authority = read(&tls.authority, false, &mut findings);
    let certificate = read(&tls.certificate, false, &mut findings);
    let key = read(&tls.key, true, &mut findings);
    if let Some(certificate) = &certificate {
        if let Some(authority) = &authority {
            let now = SystemTime::now();
            let of_now = verify(&tls.authority, authority, &tls.certificate, certificate, &config.host, now);
            let soon = now + EXPIRY_WARNING;
            let of_soon = verify(&tls.authority, authority, &tls.certificate, certificate, &config.host, soon);
            if of_now.is_empty() && !of_soon.is_empty() {
                let problem = "expires within 7 days";
                findings.push(Finding::warning(tls.certificate.display().to_string(), problem, RENEW));
            }
            findings.extend(of_now);
        }
        if let Some(key) = &key {
            check_key(&tls.certificate, certificate, &tls.key, key, &mut findings);
        }
    }
    if let Discovery::Nats(nats) = &config.discovery {
        check_nats(nats, &mut findings);
    }
    check_address(config, &mut findings);
    findings
}

const RENEW: &str = "create a new one with `cert host`";

/// Checks the files for NATS, and that no secret goes over the network without TLS.
fn check_nats(nats: &Nats, findings: &mut Vec<Finding>) {
    let remedy = "correct the path in [discovery.nats], or create the file";
    if let Some(path) = nats.login.file()
        && let Some(text) = read_for(path, true, remedy, findings)
    {
        let place = path.display().to_string();
        if text.trim_ascii().is_empty() {
            findings.push(Finding::mistake(place, "is empty", "write the secret into it"));
        } else if matches!(nats.login, Login::Credentials(_)) && !has_jwt_and_seed(&text) {
            let remedy = "name a file that `nsc generate creds` has written";
            findings.push(Finding::mistake(place, "has no JWT with a seed", remedy));
        }
    }
    if let Some(path) = &nats.authority
        && let Some(text) = read_for(path, false, remedy, findings)
    {
        certificates(path, &text, findings);
    }
    if let Some((path, key_path)) = &nats.certificate {
        let certificate = read_for(path, false, remedy, findings);
        let key = read_for(key_path, true, remedy, findings);
        if let (Some(certificate), Some(key)) = (certificate, key) {
            certificates(path, &certificate, findings);
            check_key(path, &certificate, key_path, &key, findings);
        }
    }
    let is_open = |server: &&NatsServer| !server.is_tls && !server.is_local();
    if let Some(server) = nats.servers.iter().find(is_open)
        && nats.login.file().is_some()
        && !matches!(nats.login, Login::Credentials(_))
    {
        let problem = format!("the secret for {} can be read on the network if that server has no TLS", server.url());
        findings.push(Finding::warning("[discovery.nats] servers", problem, "write tls:// instead of nats://"));
    }
}

/// Returns true if a text has the two parts of a file with credentials.
fn has_jwt_and_seed(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    text.contains("-----BEGIN NATS USER JWT-----") && text.contains("-----BEGIN USER NKEY SEED-----")
}

/// Reads a file for `[tls]`, after a check of its permissions.
fn read(path: &Path, is_secret: bool, findings: &mut Vec<Finding>) -> Option<Vec<u8>> {
    let remedy = "correct the path in [tls], or create the file with `cert init` and `cert host`";
    read_for(path, is_secret, remedy, findings)
}

/// Reads a file, after a check of its permissions. The remedy is for a file that cannot be read.
fn read_for(path: &Path, is_secret: bool, remedy: &str, findings: &mut Vec<Finding>) -> Option<Vec<u8>> {
    check_permissions(path, is_secret, findings);
    let text = fs::read(path);
    if let Err(error) = &text {
        let remedy = unreadable(error, remedy);
        findings.push(Finding::mistake(path.display().to_string(), format!("cannot be read: {error}"), remedy));
    }
    text.ok()
}

/// Checks that no other user but root may write to a file or to the directory that contains it, nor read a secret.
fn check_permissions(path: &Path, is_secret: bool, findings: &mut Vec<Finding>) {
    let own = rustix::process::geteuid().as_raw();
    // A file that is missing is reported where it is read.
    let Ok(file) = fs::metadata(path) else { return };
    let place = path.display().to_string();
    if !file.is_file() {
        findings.push(Finding::mistake(place, "is not a regular file", "name a file"));
        return;
    }
    if ![own, 0].contains(&file.uid()) {
        let remedy = format!("run `chown {own} {place}`");
        findings.push(Finding::mistake(&place, format!("belongs to another user ({})", file.uid()), remedy));
    }
    if file.mode() & 0o022 != 0 {
        let remedy = format!("run `chmod go-w {place}`");
        findings.push(Finding::mistake(&place, "can be written by other users", remedy));
    }
    if is_secret && file.mode() & 0o077 != 0 {
        let remedy = format!("run `chmod 600 {place}`, and make a new key if others may have read it");
        findings.push(Finding::mistake(&place, "can be read by other users", remedy));
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let Ok(directory) = fs::metadata(parent)
        && can_be_replaced_in(&directory, own)
    {
        let remedy = format!("run `chmod go-w {}`, or move the file", parent.display());
        findings.push(Finding::mistake(parent.display().to_string(), "other users can replace files in it", remedy));
    }
}

/// Returns true if another user can replace a file in this directory. With the sticky bit, only its owner can.
fn can_be_replaced_in(directory: &Metadata, own: u32) -> bool {
    let is_open = directory.mode() & 0o022 != 0 && directory.mode() & 0o1000 == 0;
    is_open || ![own, 0].contains(&directory.uid())
}

fn certificates(path: &Path, text: &[u8], findings: &mut Vec<Finding>) -> Vec<CertificateDer<'static>> {
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let problem = match parsed {
        Ok(list) if list.is_empty() => "contains no certificate".to_owned(),
        Ok(list) => return list,
        Err(error) => format!("is not PEM: {error}"),
    };
    findings.push(Finding::mistake(path.display().to_string(), problem, "restore the file that `cert` has created"));
    Vec::new()
}

/// Checks that the certificate is good for this host at this time, in both roles.
pub(crate) fn verify(
    ca_path: &Path,
    ca: &[u8],
    path: &Path,
    certificate: &[u8],
    host: &Host,
    now: SystemTime,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let authorities = certificates(ca_path, ca, &mut findings);
    let chain = certificates(path, certificate, &mut findings);
    let Some((own, between)) = chain.split_first().filter(|_| findings.is_empty()) else { return findings };
    if let Err((place, problem)) = verify_chain(&authorities, own, between, host, now) {
        let place = if place == Place::Authority { ca_path } else { path };
        let remedy = match &problem {
            rustls::Error::InvalidCertificate(error) => remedy(error, host),
            _ => RENEW.to_owned(),
        };
        findings.push(Finding::mistake(place.display().to_string(), describe(&problem), remedy));
    } else if let Err(problem) = tls::host_of(own) {
        let remedy = format!("create one for {host} alone with `cert host {host}`");
        findings.push(Finding::mistake(path.display().to_string(), problem, remedy));
    }
    findings
}

#[derive(PartialEq, Eq)]
enum Place {
    Authority,
    Host,
}

fn verify_chain(
    authorities: &[CertificateDer<'static>],
    own: &CertificateDer<'static>,
    between: &[CertificateDer<'static>],
    host: &Host,
    now: SystemTime,
) -> Result<(), (Place, rustls::Error)> {
    let of_authority = |error: rustls::Error| (Place::Authority, error);
    let general = |error: String| (Place::Authority, rustls::Error::General(error));
    let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.clone()).map_err(of_authority)?;
    }
    let roots = Arc::new(roots);
    let server = WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider)).build();
    let server = server.map_err(|error| general(error.to_string()))?;
    let client = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
    let client = client.map_err(|error| general(error.to_string()))?;
    let name = ServerName::try_from(host.as_str()).map_err(|error| general(error.to_string()))?;
    let now = UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).unwrap_or_default());
    let of_host = |error| (Place::Host, error);
    use rustls::client::danger::ServerCertVerifier;
    server.verify_server_cert(own, between, &name, &[], now).map_err(of_host)?;
    client.verify_client_cert(own, between, now).map_err(of_host)?;
    Ok(())
}

fn describe(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(error) => match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "has expired".to_owned(),
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "is not valid yet".to_owned()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "is for another host".to_owned()
            }
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "is not signed by the authority".to_owned()
            }
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                "may not be used for both sides of a connection".to_owned()
            }
            other => format!("is not a usable certificate: {other}"),
        },
        other => format!("is not a usable certificate: {other}"),
    }
}

fn remedy(error: &CertificateError, host: &Host) -> String {
    match error {
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "correct the clock of this host".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("correct host in the configuration, or create one with `cert host {host}`")
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "copy the certificate of the authority that has signed it".to_owned()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "add clientAuth and serverAuth to its extended key usage".to_owned()
        }
        _ => RENEW.to_owned(),
    }
}

/// Returns true if a file contains a word.
fn text_has(text: &[u8], word: &str) -> bool {
    text.windows(word.len()).any(|window| window == word.as_bytes())
}

fn check_key(path: &Path, certificate: &[u8], key_path: &Path, text: &[u8], findings: &mut Vec<Finding>) {
    let place = key_path.display().to_string();
    let key = match PrivateKeyDer::from_pem_slice(text) {
        Ok(key) => key,
        Err(error) => {
            let is_encrypted = text_has(text, "ENCRYPTED");
            let (problem, remedy) = if is_encrypted {
                ("is encrypted, and a bridge asks for no password".to_owned(), "decrypt it with `openssl pkey`")
            } else {
                let remedy = "restore the file that `cert host` has created";
                (format!("contains no private key: {error}"), remedy)
            };
            findings.push(Finding::mistake(place, problem, remedy));
            return;
        }
    };
    // A certificate that cannot be parsed was reported already.
    let Ok(chain) = CertificateDer::pem_slice_iter(certificate).collect::<Result<Vec<_>, _>>() else { return };
    if chain.is_empty() {
        return;
    }
    let problem = match CertifiedKey::from_der(chain, key, &ring::default_provider()) {
        Err(rustls::Error::InconsistentKeys(_)) => format!("is not the key of {}", path.display()),
        Err(rustls::Error::InvalidCertificate(_)) | Ok(_) => return,
        Err(error) => format!("is not a usable key: {error}"),
    };
    findings.push(Finding::mistake(place, problem, "use the certificate and the key that were created together"));
}

/// Checks that this host has the address. Another bridge that listens there already may be this one.
fn check_address(config: &Config, findings: &mut Vec<Finding>) {
    let Some(address) = config.listen else { return };
    let remedy = match TcpListener::bind(address).map_err(|error| (error.kind(), error)) {
        Ok(_) | Err((ErrorKind::AddrInUse, _)) => return,
        Err((ErrorKind::AddrNotAvailable, _)) => "write an address of this host, or 0.0.0.0 or [::] for all",
        Err((ErrorKind::PermissionDenied, _)) => "write a port above 1023, such as 7477",
        Err(_) => "write another address",
    };
    findings.push(Finding::mistake("listen", format!("{address} cannot be used"), remedy));
}

#[cfg(test)]
mod tests;
