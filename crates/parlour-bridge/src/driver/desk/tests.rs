//! Tests of the desk.

use parlour::Transport;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::unbounded_channel;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::super::buffered::Buffered;
use super::*;
use crate::files::{certificates, tls};
use crate::wire::conversation::Origin;

fn host(text: &str) -> Host {
    Host::parse(text).unwrap()
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub(in crate::driver) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Returns the TLS of the host `a.example`.
pub(in crate::driver) fn tls() -> Tls {
    desk(|_| {}).0.tls
}

/// Returns a desk of the host `a.example`, which imports `wc` from `b.example`, and its mailbox.
fn desk(log: fn(&str)) -> (Desk, UnboundedReceiver<Event>) {
    let directory = tempfile::tempdir().unwrap();
    let realm = directory.path().join("realm");
    certificates::init(&realm).unwrap();
    certificates::host(&realm, &host("a.example"), certificates::HOST_VALID_DEFAULT).unwrap();
    let files = "authority = \"ca.pem\"\ncertificate = \"a.example.pem\"\nkey = \"a.example.key\"\n";
    let import = "[[import]]\nname = \"wc\"\nfrom = [\"b.example\"]\n[peers]\n\"b.example\" = \"127.0.0.1:1\"\n";
    let config = Config::parse(&format!("host = \"a.example\"\n[tls]\n{files}{import}"), &realm).unwrap();
    let tls = Tls::read(&config.tls).unwrap();
    let (events, mailbox) = unbounded_channel();
    let (server, _) = watch::channel(tls.server());
    let directory = Directory::new(&config).unwrap();
    let desk = Desk::new(Arc::new(config), tls, directory, server, events, Arc::default(), log).unwrap();
    (desk, mailbox)
}

/// Returns both ends of a connection between two bridges. Their host is the same one.
pub(in crate::driver) async fn remote(tls: &Tls) -> (Remote, Remote) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dialled = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let accepted = listener.accept().await.unwrap().0;
    let connector = TlsConnector::from(tls.client());
    let acceptor = TlsAcceptor::from(tls.server());
    let dialling = connector.connect(tls::server_name(&host("a.example")).unwrap(), Buffered::new(dialled));
    let (dialled, accepted) = tokio::join!(dialling, acceptor.accept(Buffered::new(accepted)));
    (Remote::from(dialled.unwrap()), Remote::from(accepted.unwrap()))
}

async fn assert_aborted(mut peer: Connection) {
    let error = peer.recv().await.expect_err("a clean end");
    assert!(matches!(error.kind(), ErrorKind::Truncated | ErrorKind::Disconnected), "{error}");
}

#[test]
fn a_desk_that_ends_aborts_the_connections_that_nobody_has_heard_of() {
    runtime().block_on(async {
        let (mut desk, mut mailbox) = desk(|_| {});
        let events = desk.events.clone();
        let pair = || Connection::pair(Transport::Unix).unwrap();
        let [(waiting, of_waiting), (late, of_late), (client, of_client)] = [pair(), pair(), pair()];
        let id = ConversationId(7);
        let asking = Asking { remote: Box::new(remote(&desk.tls).await.0), host: host("b.example"), name: name("wc") };
        desk.connecting.insert(id, asking);
        let reporter = events.clone();
        // The connection to the server of this host is made while the desk ends.
        tokio::spawn(async move {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            event::report(&reporter, Event::Connected { id, connection: Ok(waiting) });
        });
        event::report(&events, Event::Client { name: name("wc"), connection: client, origin: Origin::default() });
        desk.stop(&mut mailbox).await;
        assert!(desk.connecting.is_empty());
        event::report(&events, Event::Client { name: name("wc"), connection: late, origin: Origin::default() });
        drop((desk, mailbox));
        for peer in [of_waiting, of_client, of_late] {
            assert_aborted(peer).await;
        }
    });
}

#[test]
fn a_desk_that_ends_without_conversations_aborts_the_connections_in_its_mailbox() {
    runtime().block_on(async {
        let (mut desk, mut mailbox) = desk(|_| {});
        let (client, of_client) = Connection::pair(Transport::Unix).unwrap();
        event::report(&desk.events, Event::Client { name: name("wc"), connection: client, origin: Origin::default() });
        desk.stop(&mut mailbox).await;
        drop((desk, mailbox));
        assert_aborted(of_client).await;
    });
}

thread_local! {
    static LINES: std::cell::RefCell<Vec<String>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// The desk of a test is on its thread.
fn keep(line: &str) {
    LINES.with_borrow_mut(|lines| lines.push(line.to_owned()));
}

#[test]
fn a_host_whose_links_never_last_and_a_name_that_cannot_be_taken_do_not_fill_the_log() {
    runtime().block_on(async {
        let (mut desk, _mailbox) = desk(keep);
        for number in 0..100 {
            let id = LinkId(number);
            let wishes = unbounded_channel().0;
            let (state, host) = (HostState::Connecting, host("b.example"));
            desk.links.insert(id, OpenLink { host, role: Role::Exporter, address: None, state, wishes });
            desk.hear_link(id, link::Action::Down(Down::Silence(Duration::from_millis(number))));
            desk.log_untaken("wc cannot be taken", &name("wc"), ErrorKind::Io);
        }
        desk.log_untaken("wc has a server", &name("wc"), ErrorKind::NameInUse);
        let lines = LINES.take();
        assert_eq!(lines.iter().filter(|line| line.starts_with("wc ")).count(), 2, "{lines:?}");
        let lost: Vec<_> = lines.iter().filter(|line| line.starts_with("b.example is lost: ")).collect();
        assert!((1..=16).contains(&lost.len()) && lost.last().unwrap().contains("not logged any more"), "{lines:?}");
    });
}
