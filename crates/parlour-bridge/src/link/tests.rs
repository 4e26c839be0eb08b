//! Tests of a link.

use super::*;
use proptest::prelude::*;

const LEASE: Duration = Duration::from_secs(4);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn myself(host: &str) -> Myself {
    let mut instance = [0; 16];
    instance[..host.len()].copy_from_slice(host.as_bytes());
    let host = Host::parse(host).unwrap();
    Myself { host, instance: Instance(instance), endpoint: Endpoint::default(), lease: LEASE }
}

fn hello(host: &str) -> Hello {
    let Myself { host, instance, endpoint, lease } = myself(host);
    Hello { instance, host, endpoint, lease }
}

fn bytes(frame: Frame) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    bytes
}

fn link(role: Role, names: &[&str]) -> Link {
    let (link, actions) =
        Link::new(role, myself("a"), Host::parse("b").unwrap(), names.iter().map(|text| name(text)).collect(), ms(0));
    assert_eq!(actions, [Action::Send(Frame::Hello(hello("a")))]);
    link
}

fn link_up(role: Role) -> Link {
    let mut link = link(role, &[]);
    assert_eq!(link.receive(&bytes(Frame::Hello(hello("b"))), ms(0)), [Action::Up(hello("b"))]);
    link
}

#[test]
fn names_are_sent_after_the_hello_of_the_peer_and_then_at_once() {
    let mut link = link(Role::Exporter, &["x", "y"]);
    assert_eq!(link.withdraw(name("x"), ms(1)), []);
    assert_eq!(link.export(name("z"), ms(1)), []);
    let actions = link.receive(&bytes(Frame::Hello(hello("b"))), ms(2));
    let sent = |text| Action::Send(Frame::Export(name(text)));
    assert_eq!(actions, [Action::Up(hello("b")), sent("y"), sent("z")]);
    assert_eq!(link.export(name("y"), ms(3)), [], "it was sent");
    assert_eq!(link.withdraw(name("y"), ms(3)), [Action::Send(Frame::Withdraw(name("y")))]);
    assert_eq!(link.withdraw(name("y"), ms(3)), []);
    assert_eq!(link.export(name("y"), ms(3)), [sent("y")]);
}

#[test]
fn an_importer_learns_each_name_once() {
    let mut link = link_up(Role::Importer);
    let frames = [Frame::Export(name("x")), Frame::Export(name("x")), Frame::Withdraw(name("y"))].map(bytes).concat();
    assert_eq!(link.receive(&frames, ms(1)), [Action::Exported(name("x"))]);
    let frames = [Frame::Withdraw(name("x")), Frame::Export(name("x"))].map(bytes).concat();
    assert_eq!(link.receive(&frames, ms(1)), [Action::Withdrawn(name("x")), Action::Exported(name("x"))]);
}

#[test]
fn a_frame_that_is_not_due_ends_the_link() {
    let down = |link: &mut Link, frame: Frame| match link.receive(&bytes(frame), ms(1)).pop() {
        Some(Action::Down(down)) => down,
        other => panic!("{other:?}"),
    };
    let unexpected = |down: &Down| matches!(down, Down::Unexpected(_));
    assert!(unexpected(&down(&mut link(Role::Importer, &[]), Frame::Ping)));
    assert!(unexpected(&down(&mut link_up(Role::Importer), Frame::Hello(hello("b")))));
    assert!(unexpected(&down(&mut link_up(Role::Exporter), Frame::Export(name("x")))));
    let greeting = || link(Role::Importer, &[]);
    assert_eq!(down(&mut greeting(), Frame::Hello(hello("c"))), Down::WrongHost(Host::parse("c").unwrap()));
    let short = Hello { lease: ms(999), ..hello("b") };
    assert_eq!(down(&mut greeting(), Frame::Hello(short)), Down::Lease(ms(999)));
    let own = Hello { instance: myself("a").instance, ..hello("b") };
    assert_eq!(down(&mut greeting(), Frame::Hello(own)), Down::Myself);
}

#[test]
fn a_ping_is_sent_after_a_quarter_of_the_lease_without_anything_else() {
    let mut link = link_up(Role::Exporter);
    assert_eq!(link.deadline(), Some(ms(1000)));
    assert_eq!(link.tick(ms(999)), []);
    assert_eq!(link.export(name("x"), ms(999)).len(), 1);
    assert_eq!((link.tick(ms(1000)), link.deadline()), (vec![], Some(ms(1999))));
    assert_eq!(link.tick(ms(1999)), [Action::Send(Frame::Ping)]);
    assert_eq!(link.tick(ms(1999)), []);
}

#[test]
fn silence_ends_the_link_after_the_shorter_lease() {
    let mut link = link(Role::Exporter, &[]);
    link.receive(&bytes(Frame::Hello(Hello { lease: ms(2000), ..hello("b") })), ms(100));
    link.receive(&bytes(Frame::Ping), ms(500));
    assert!(!link.tick(ms(2499)).iter().any(|action| matches!(action, Action::Down(_))));
    assert_eq!(link.tick(ms(2500)), [Action::Down(Down::Silence(ms(2000)))]);
    assert_eq!((link.tick(ms(9000)), link.deadline()), (vec![], None));
    assert_eq!((link.end(), link.receive(b"p\0\0", ms(9000)), link.quit(ms(9000))), (vec![], vec![], vec![]));
}

#[test]
fn a_process_that_was_stopped_for_longer_than_the_lease_does_not_go_on() {
    let mut link = link_up(Role::Importer);
    assert_eq!(link.receive(&bytes(Frame::Export(name("x"))), ms(30_000)), [Action::Down(Down::Silence(ms(30_000)))]);
}

#[test]
fn the_time_in_which_this_host_did_not_read_is_no_silence() {
    let mut link = link_up(Role::Importer);
    link.was_held_up(ms(3500));
    assert!(!link.tick(ms(7499)).iter().any(|action| matches!(action, Action::Down(_))));
    link.was_held_up(ms(3000));
    assert_eq!(link.tick(ms(7500)), [Action::Down(Down::Silence(ms(4000)))]);
}

#[test]
fn a_peer_that_says_nothing_is_given_up() {
    let mut link = link(Role::Exporter, &[]);
    assert_eq!(link.deadline(), Some(HELLO_TIMEOUT));
    assert_eq!(link.tick(ms(4999)), []);
    assert_eq!(link.tick(ms(5000)), [Action::Down(Down::Silence(ms(5000)))]);
}

#[test]
fn an_announced_end_differs_from_a_loss() {
    let mut link = link_up(Role::Importer);
    assert_eq!(link.receive(&bytes(Frame::Quit), ms(1)), [Action::Quits]);
    assert_eq!(link.receive(&bytes(Frame::Quit), ms(1)), []);
    assert_eq!(link.end(), [Action::Down(Down::Quit)]);
    assert_eq!(link_up(Role::Importer).end(), [Action::Down(Down::End)]);
    assert_eq!(link_up(Role::Importer).quit(ms(1)), [Action::Send(Frame::Quit)]);
    let mut early = self::link(Role::Exporter, &[]);
    assert_eq!(early.quit(ms(1)), []);
    let actions = early.receive(&bytes(Frame::Hello(hello("b"))), ms(2));
    assert_eq!(actions, [Action::Up(hello("b")), Action::Send(Frame::Quit)]);
}

proptest! {
    /// Anything that a peer sends, in any pieces: the names are a set, and nothing follows the end.
    #[test]
    fn no_peer_confuses_a_link(
        parts in prop::collection::vec(prop_oneof![
            Just(bytes(Frame::Hello(hello("b")))),
            Just(bytes(Frame::Export(name("x")))),
            Just(bytes(Frame::Withdraw(name("x")))),
            Just(bytes(Frame::Ping)),
            Just(bytes(Frame::Quit)),
            prop::collection::vec(any::<u8>(), 0..8),
        ], 0..30),
        waits in prop::collection::vec(0..3000u64, 30),
    ) {
        let mut link = link(Role::Importer, &[]);
        let (mut now, mut has_name, mut downs, mut ups) = (0, false, 0, 0);
        for (part, wait) in parts.iter().zip(waits) {
            now += wait;
            let ticked = link.tick(ms(now));
            for action in ticked.into_iter().chain(link.receive(part, ms(now))) {
                prop_assert!(downs == 0, "{action:?} after the end");
                match action {
                    Action::Exported(_) => prop_assert!(!std::mem::replace(&mut has_name, true)),
                    Action::Withdrawn(_) => prop_assert!(std::mem::replace(&mut has_name, false)),
                    Action::Up(_) => ups += 1,
                    Action::Down(_) => downs += 1,
                    Action::Send(_) | Action::Quits => prop_assert!(ups == 1),
                }
            }
        }
        prop_assert!(ups <= 1);
    }
}
