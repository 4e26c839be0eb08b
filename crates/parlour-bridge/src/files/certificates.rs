//! The certificates of a realm: its authority, and one for each host.
//!
//! A *realm* is a set of hosts whose certificates one authority has signed. [`init`] creates the authority, on one host
//! that keeps its key. [`host`] creates the certificate and the key of one host. The administrator copies them to the
//! host, with the certificate of the authority. Keys have the mode 0600 from their creation on.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use time::OffsetDateTime;

use super::check;
use super::finding::Finding;
use crate::identity::Host;

/// The file names of the authority's certificate and key.
pub const AUTHORITY_CERTIFICATE: &str = "ca.pem";
/// See [`AUTHORITY_CERTIFICATE`].
pub const AUTHORITY_KEY: &str = "ca.key";

const DAY: Duration = Duration::from_secs(24 * 3600);

/// The validity of an authority.
pub const AUTHORITY_VALID: Duration = Duration::from_secs(3653 * 24 * 3600);

/// The default validity of the certificate of a host.
pub const HOST_VALID_DEFAULT: Duration = Duration::from_secs(365 * 24 * 3600);

/// The subject of every authority that [`init`] creates. Two of them are told apart by their keys.
fn authority_subject() -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, "parlour bridge authority");
    subject
}

/// The files that were created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// The certificate.
    pub certificate: PathBuf,
    /// The key, which must stay secret.
    pub key: PathBuf,
}

/// Creates the authority of a realm in a directory: `ca.pem` and `ca.key`. Creates the directory with the mode 0700 if
/// it does not exist. Overwrites nothing.
///
/// # Errors
///
/// One of the files exists, or cannot be created. Nothing is left behind then.
pub fn init(directory: &Path) -> Result<Created, Finding> {
    if let Err(error) = DirBuilder::new().mode(0o700).create(directory)
        && error.kind() != std::io::ErrorKind::AlreadyExists
    {
        let remedy = "create the directory above it, or name another one";
        return Err(Finding::mistake(directory.display().to_string(), format!("cannot be created: {error}"), remedy));
    }
    let mut params = valid_for(AUTHORITY_VALID);
    params.distinguished_name = authority_subject();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let made = KeyPair::generate().and_then(|key| Ok((params.self_signed(&key)?.pem(), key.serialize_pem())));
    let (certificate, key) = made.map_err(|error| cannot_make(directory, &error))?;
    create(directory, AUTHORITY_CERTIFICATE, &certificate, AUTHORITY_KEY, &key)
}

/// Creates the certificate and the key of a host in the directory of the authority: `HOST.pem` and `HOST.key`.
/// Overwrites nothing.
///
/// # Errors
///
/// The authority is not there or was not created by [`init`], or a file exists or cannot be created. Nothing is left
/// behind then.
pub fn host(directory: &Path, host: &Host, valid: Duration) -> Result<Created, Finding> {
    let (ca_path, ca_key_path) = (directory.join(AUTHORITY_CERTIFICATE), directory.join(AUTHORITY_KEY));
    let read = |path: &Path| {
        fs::read_to_string(path).map_err(|error| {
            let remedy = "run `cert init` in this directory, or name the directory in which it was run";
            Finding::mistake(path.display().to_string(), format!("cannot be read: {error}"), remedy)
        })
    };
    let (ca, ca_key) = (read(&ca_path)?, read(&ca_key_path)?);
    let ca_key = KeyPair::from_pem(&ca_key).map_err(|error| {
        let remedy = "restore the key that `cert init` has created";
        Finding::mistake(ca_key_path.display().to_string(), format!("is not a private key: {error}"), remedy)
    })?;
    let mut authority = CertificateParams::default();
    authority.distinguished_name = authority_subject();
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let mut params = valid_for(valid);
    params.subject_alt_names = alt_names(host)?;
    params.distinguished_name = DistinguishedName::new();
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let issuer = Issuer::from_params(&authority, ca_key);
    let made = KeyPair::generate().and_then(|key| Ok((params.signed_by(&key, &issuer)?.pem(), key.serialize_pem())));
    let (certificate, key) = made.map_err(|error| cannot_make(directory, &error))?;
    // The key may be that of another authority, or the authority may have expired.
    let findings = check::verify(&ca_path, ca.as_bytes(), &ca_path, certificate.as_bytes(), host, SystemTime::now());
    if let Some(finding) = findings.into_iter().next() {
        let remedy = "use a directory that `cert init` has created, with the certificate and the key of one authority";
        return Err(Finding { remedy: remedy.to_owned(), ..finding });
    }
    create(directory, &format!("{host}.pem"), &certificate, &format!("{host}.key"), &key)
}

fn alt_names(host: &Host) -> Result<Vec<rcgen::SanType>, Finding> {
    let name = host.as_str().try_into();
    let name = name.map_err(|error| Finding::mistake(host.to_string(), format!("{error}"), "write a DNS name"))?;
    Ok(vec![rcgen::SanType::DnsName(name)])
}

/// Returns parameters that are valid from a day ago, because the clocks of hosts differ.
fn valid_for(valid: Duration) -> CertificateParams {
    let now = OffsetDateTime::now_utc();
    let mut params = CertificateParams::default();
    params.not_before = now.saturating_sub(to_time(DAY));
    params.not_after = now.saturating_add(to_time(valid));
    params
}

fn to_time(duration: Duration) -> time::Duration {
    time::Duration::try_from(duration).unwrap_or(time::Duration::MAX)
}

fn cannot_make(directory: &Path, error: &rcgen::Error) -> Finding {
    Finding::mistake(directory.display().to_string(), format!("no certificate can be made: {error}"), "try again")
}

/// Creates both files, or none.
fn create(directory: &Path, pem: &str, certificate: &str, key_name: &str, key: &str) -> Result<Created, Finding> {
    let created = Created { certificate: directory.join(pem), key: directory.join(key_name) };
    create_file(&created.key, 0o600, key)?;
    if let Err(finding) = create_file(&created.certificate, 0o644, certificate) {
        let _ = fs::remove_file(&created.key);
        return Err(finding);
    }
    Ok(created)
}

fn create_file(path: &Path, mode: u32, text: &str) -> Result<(), Finding> {
    let cannot = |error: std::io::Error| {
        let (problem, remedy) = match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                ("exists".to_owned(), "move it away, if it is not needed any more".to_owned())
            }
            _ => (format!("cannot be written: {error}"), "name a directory that you may write to".to_owned()),
        };
        Finding::mistake(path.display().to_string(), problem, remedy)
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(cannot)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| File::sync_all(&file));
    written.map_err(|error| {
        let _ = fs::remove_file(path);
        cannot(error)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn host_a() -> Host {
        Host::parse("a.example").unwrap()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn keys_are_for_their_owner_alone_and_nothing_is_overwritten() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("realm");
        let authority = init(&directory).unwrap();
        let created = host(&directory, &host_a(), HOST_VALID_DEFAULT).unwrap();
        assert_eq!(created.key, directory.join("a.example.key"));
        assert_eq!([&directory, &authority.key, &created.key].map(|path| mode(path)), [0o700, 0o600, 0o600]);
        let before = fs::read(&created.key).unwrap();
        for finding in [init(&directory), host(&directory, &host_a(), HOST_VALID_DEFAULT)] {
            assert!(finding.unwrap_err().to_string().contains("exists; move it away"));
        }
        assert_eq!(fs::read(&created.key).unwrap(), before);
    }

    #[test]
    fn a_certificate_that_exists_leaves_no_key_behind() {
        let directory = tempfile::tempdir().unwrap();
        init(directory.path()).unwrap();
        fs::write(directory.path().join("a.example.pem"), "mine").unwrap();
        host(directory.path(), &host_a(), HOST_VALID_DEFAULT).unwrap_err();
        assert!(!directory.path().join("a.example.key").exists());
    }

    #[test]
    fn without_an_authority_the_next_step_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let finding = host(directory.path(), &host_a(), HOST_VALID_DEFAULT).unwrap_err();
        assert!(finding.to_string().contains("ca.pem: cannot be read") && finding.remedy.contains("cert init"));
    }

    #[test]
    fn the_key_of_another_authority_is_refused() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        init(one.path()).unwrap();
        init(other.path()).unwrap();
        fs::copy(other.path().join(AUTHORITY_KEY), one.path().join(AUTHORITY_KEY)).unwrap();
        let finding = host(one.path(), &host_a(), HOST_VALID_DEFAULT).unwrap_err();
        assert!(finding.remedy.contains("one authority"), "{finding}");
        assert!(!one.path().join("a.example.key").exists());
    }
}
