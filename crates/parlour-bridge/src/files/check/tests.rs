//! Tests of the check.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::*;
use crate::files::certificates::{self, HOST_VALID_DEFAULT};
use crate::files::finding::Severity;

/// A directory with a realm, the host `a.example` in it, and its configuration.
struct Files {
    directory: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let files = Self { directory: tempfile::tempdir().unwrap() };
        certificates::init(files.directory.path()).unwrap();
        files.make("a.example", HOST_VALID_DEFAULT);
        let text = "host = \"a.example\"\nlisten = \"127.0.0.1:7477\"\n[tls]\nauthority = \"ca.pem\"\n\
                    certificate = \"a.example.pem\"\nkey = \"a.example.key\"\n\
                    [[export]]\nname = \"wc\"\nto = [\"b.example\"]\n";
        fs::write(files.path("bridge.toml"), text).unwrap();
        files.chmod("bridge.toml", 0o644);
        files
    }

    fn make(&self, host: &str, valid: Duration) {
        certificates::host(self.directory.path(), &Host::parse(host).unwrap(), valid).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn chmod(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn replace(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.path("bridge.toml")).unwrap();
        assert!(text.contains(from), "{from}");
        fs::write(self.path("bridge.toml"), text.replace(from, to)).unwrap();
    }

    fn findings(&self) -> Vec<Finding> {
        let path = self.path("bridge.toml");
        check(&Config::read(&path).unwrap(), &path)
    }

    /// Asserts that there is one finding, in this file, with this problem and this in its remedy.
    fn assert_one(&self, file: &str, problem: &str, remedy: &str) {
        let findings = self.findings();
        let [finding] = &findings[..] else { panic!("{problem}: {findings:#?}") };
        let place = if file == "listen" { file.to_owned() } else { self.path(file).display().to_string() };
        assert_eq!(finding.place.trim_end_matches('/'), place.trim_end_matches('/'), "{finding}");
        assert!(finding.problem.contains(problem) && finding.remedy.contains(remedy), "{finding}");
    }
}

#[test]
fn what_cert_creates_has_no_mistake() {
    assert_eq!(Files::new().findings(), []);
}

#[test]
fn permissions_that_let_others_in_are_found() {
    let files = Files::new();
    for (file, mode, problem, remedy, good) in [
        ("a.example.key", 0o640, "can be read by other users", "chmod 600", 0o600),
        ("a.example.pem", 0o664, "can be written by other users", "chmod go-w", 0o644),
        ("ca.pem", 0o646, "can be written by other users", "chmod go-w", 0o644),
        ("bridge.toml", 0o666, "can be written by other users", "chmod go-w", 0o644),
    ] {
        files.chmod(file, mode);
        files.assert_one(file, problem, remedy);
        files.chmod(file, good);
    }
    files.chmod("", 0o777);
    assert!(files.findings().iter().all(|finding| finding.problem.contains("replace files")));
    assert!(!files.findings().is_empty());
    files.chmod("", 0o1777);
    assert_eq!(files.findings(), []);
}

#[test]
fn files_that_are_missing_or_no_pem_are_found() {
    let files = Files::new();
    files.replace("\"ca.pem\"", "\"none.pem\"");
    files.assert_one("none.pem", "cannot be read", "[tls]");
    files.replace("\"none.pem\"", "\"bridge.toml\"");
    files.assert_one("bridge.toml", "contains no certificate", "restore");
    let files = Files::new();
    files.replace("\"a.example.key\"", "\"a.example.pem\"");
    files.chmod("a.example.pem", 0o600);
    files.assert_one("a.example.pem", "contains no private key", "restore");
}

#[test]
fn a_certificate_of_another_host_or_authority_and_a_foreign_key_are_found() {
    let files = Files::new();
    files.replace("host = \"a.example\"", "host = \"c.example\"");
    files.assert_one("a.example.pem", "is for another host", "cert host c.example");

    let (files, other) = (Files::new(), Files::new());
    fs::copy(other.path("ca.pem"), files.path("ca.pem")).unwrap();
    files.assert_one("a.example.pem", "is not signed by the authority", "copy the certificate of the authority");

    let files = Files::new();
    files.make("b.example", HOST_VALID_DEFAULT);
    files.replace("\"a.example.key\"", "\"b.example.key\"");
    files.assert_one("b.example.key", "is not the key of", "created together");
}

#[test]
fn a_certificate_that_ends_soon_is_a_warning_and_one_that_has_ended_a_mistake() {
    let files = Files::new();
    files.make("s.example", Duration::from_secs(3600));
    files.replace("a.example", "s.example");
    files.assert_one("s.example.pem", "expires within 7 days", "cert host");
    assert_eq!(files.findings()[0].severity, Severity::Warning);
    let read = |name| fs::read(files.path(name)).unwrap();
    let host = Host::parse("s.example").unwrap();
    let at = |now| verify(Path::new("ca"), &read("ca.pem"), Path::new("host"), &read("s.example.pem"), &host, now);
    let now = SystemTime::now();
    assert_eq!(at(now), []);
    assert_eq!(at(now + Duration::from_secs(7200))[0].problem, "has expired");
    let early = at(now - Duration::from_secs(48 * 3600));
    assert_eq!((&*early[0].problem, &*early[0].remedy), ("is not valid yet", "correct the clock of this host"));
}

#[test]
fn an_address_of_another_host_is_found_and_one_in_use_is_not_a_mistake() {
    let files = Files::new();
    files.replace("127.0.0.1:7477", "192.0.2.1:7477");
    files.assert_one("listen", "192.0.2.1:7477 cannot be used", "an address of this host");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    files.replace("192.0.2.1:7477", &taken.local_addr().unwrap().to_string());
    assert_eq!(files.findings(), []);
}
