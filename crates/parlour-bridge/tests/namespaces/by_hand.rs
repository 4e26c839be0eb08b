//! Peers that are not bridges: strangers, and hosts of the realm that send anything.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use parlour_bridge::files::config::TlsFiles;
use parlour_bridge::files::tls::{self, Tls};
use parlour_bridge::identity::{Host, Instance, Name};
use parlour_bridge::wire::control::{Endpoint, Frame, FrameReader, Hello};
use parlour_bridge::wire::conversation::{Answer, Origin, Preamble, Refusal};
use parlour_bridge::wire::{CONTROL, CONVERSATION};
use rustls::{ClientConnection, StreamOwned};

use crate::hosts::Hosts;
use crate::talk::{Talk, assert_complete, assert_talk};
use crate::{LONG, PATIENCE, inside, start};

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// Dials host `a` with the certificate of host `d`.
fn dial(hosts: &Hosts) -> Stream {
    let realm = hosts.path("realm");
    let [authority, certificate, key] = ["ca.pem", "d.example.pem", "d.example.key"].map(|file| realm.join(file));
    let tls = Tls::read(&TlsFiles { authority, certificate, key }).unwrap();
    let name = tls::server_name(&Host::parse("a.example").unwrap()).unwrap();
    let socket = TcpStream::connect(hosts.address("a")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    StreamOwned::new(ClientConnection::new(tls.client(), name).unwrap(), socket)
}

/// Begins a link as host `d`. Returns it with the instance of host `a`, and the first name that `a` exports, if any.
fn link(hosts: &Hosts, instance: Instance) -> (Stream, Instance, FrameReader) {
    let hello = Hello {
        instance,
        host: Host::parse("d.example").unwrap(),
        endpoint: Endpoint::default(),
        lease: Duration::from_secs(60),
    };
    let mut bytes = vec![CONTROL];
    Frame::Hello(hello).encode(&mut bytes);
    let mut stream = dial(hosts);
    stream.write_all(&bytes).unwrap();
    let mut reader = FrameReader::default();
    match next(&mut stream, &mut reader) {
        Frame::Hello(hello) => (stream, hello.instance, reader),
        frame => panic!("{frame:?}"),
    }
}

fn next(stream: &mut Stream, reader: &mut FrameReader) -> Frame {
    loop {
        if let Some(frame) = reader.next().unwrap() {
            return frame;
        }
        let mut bytes = [0; 512];
        let count = stream.read(&mut bytes).unwrap();
        assert!(count > 0, "the link has ended");
        reader.push(&bytes[..count]);
    }
}

fn ask(hosts: &Hosts, name: &str, importer: Instance, exporter: Instance) -> Answer {
    let name = Name::parse(name).unwrap();
    let preamble = Preamble { name, importer, exporter, message_max: 1000, origin: Origin::default() };
    let mut stream = dial(hosts);
    stream.write_all(&preamble.encode()).unwrap();
    let mut answer = Vec::new();
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
        if let Some((answer, _)) = Answer::parse(&answer).unwrap() {
            return answer;
        }
    }
}

/// Makes a certificate for `d`, and exports `other` to it.
fn add_host(hosts: &Hosts) {
    let realm = hosts.path("realm");
    let host = Host::parse("d.example").unwrap();
    parlour_bridge::files::certificates::host(&realm, &host, Duration::from_secs(36_000)).unwrap();
    hosts.reconfigure("a", "[[export]]", "[[export]]\nname = \"other\"\nto = [\"d.example\"]\n[[export]]");
    hosts.wait_for_line("a", "the configuration and the certificates were read again");
}

#[test]
fn a_host_of_the_realm_reaches_the_names_that_are_exported_to_it_and_no_other_ones() {
    inside("by_hand::a_host_of_the_realm_reaches_the_names_that_are_exported_to_it_and_no_other_ones", || {
        let (_network, hosts) = start(&["a"], LONG);
        let talk = Talk::start(&hosts);
        add_host(&hosts);
        let own = Instance([9; 16]);
        // Without a link, nothing is served.
        let refused = |answer: Answer| match answer {
            Answer::Refused(refusal, _) => refusal,
            Answer::Accepted => panic!("the exporter has accepted it"),
        };
        assert_eq!(refused(ask(&hosts, "wc", own, Instance([1; 16]))), Refusal::WrongInstance);
        let (mut control, exporter, mut reader) = link(&hosts, own);
        for name in ["wc", "nothing", "parlour-bridge"] {
            assert_eq!(refused(ask(&hosts, name, own, exporter)), Refusal::NotExported, "{name}");
        }
        assert_eq!(refused(ask(&hosts, "other", own, exporter)), Refusal::NoServer);
        // An importer of another run, and an exporter of one.
        assert_eq!(refused(ask(&hosts, "other", Instance([8; 16]), exporter)), Refusal::WrongInstance);
        assert_eq!(refused(ask(&hosts, "other", own, Instance([8; 16]))), Refusal::WrongInstance);
        let status = hosts.wait_for_status("a", |_| true);
        let counted = ["not_exported", "no_server", "wrong_instance"].map(|reason| status.counts.refused[reason]);
        assert_eq!(counted, [3, 1, 3]);
        // The link names what is exported to this host, once it has a server.
        let server = parlour::Server::bind(hosts.path("a").join("other").to_str().unwrap()).unwrap();
        assert_eq!(next(&mut control, &mut reader), Frame::Export(Name::parse("other").unwrap()));
        drop(server);
        let (client, server) = talk.finish(&hosts);
        assert_complete(&client, &server);
    });
}

#[test]
fn a_peer_that_sends_anything_harms_nobody() {
    inside("by_hand::a_peer_that_sends_anything_harms_nobody", || {
        let (_network, hosts) = start(&["a"], LONG);
        let talk = Talk::start(&hosts);
        add_host(&hosts);
        let mut hello = vec![CONTROL];
        let own = Hello {
            instance: Instance([9; 16]),
            host: Host::parse("d.example").unwrap(),
            endpoint: Endpoint::default(),
            lease: Duration::from_secs(60),
        };
        Frame::Hello(own).encode(&mut hello);
        let behind_hello = |bytes: &[u8]| [&hello, bytes].concat();
        let preamble = [&[CONVERSATION, 0, 80][..], &[0xff; 80]].concat();
        let junk = [
            vec![CONTROL],
            vec![CONTROL, b'h', 0xff, 0xff],
            [&[CONTROL, b'h', 0, 100][..], &[0xff; 100]].concat(),
            behind_hello(&[b'+', 0, 2, b'w', b'c']),
            behind_hello(&[0xff; 70_000]),
            behind_hello(&hello[1..]),
            vec![CONVERSATION],
            vec![CONVERSATION, 0xff, 0xff],
            preamble,
            vec![0x02, 0, 0],
            vec![b'G'; 70_000],
        ];
        let mut seed = 1u32;
        let mut random = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 24) as u8
        };
        let random = (0..20).map(|_| (0..300).map(|_| random()).collect::<Vec<u8>>()).collect::<Vec<_>>();
        for bytes in junk.iter().chain(&random) {
            // The peer may be refused before it has sent everything.
            let mut stream = dial(&hosts);
            let _ = stream.write_all(bytes);
            stream.conn.send_close_notify();
            let _ = stream.flush();
            let _ = stream.sock.shutdown(std::net::Shutdown::Write);
            assert_ends(&mut stream);
            // The same without TLS.
            let mut stranger = TcpStream::connect(hosts.address("a")).unwrap();
            stranger.set_read_timeout(Some(PATIENCE)).unwrap();
            let _ = stranger.write_all(bytes);
            let _ = stranger.shutdown(std::net::Shutdown::Write);
            assert_ends(&mut stranger);
        }
        hosts.wait_for_line("a", "a connection from 10.77.0.1:");
        assert_talk(&hosts);
        let (client, server) = talk.finish(&hosts);
        assert_complete(&client, &server);
    });
}

/// Asserts that the other side ends the connection.
fn assert_ends(stream: &mut impl Read) {
    if let Err(error) = io::copy(stream, &mut io::sink()) {
        assert!(!matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut), "{error}");
    }
}
