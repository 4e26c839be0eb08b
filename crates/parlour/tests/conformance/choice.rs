use std::thread;

use parlour::{ErrorKind, ServerOptions, Transport};

use super::SHUT;
use super::api::{Setting, echo, settings};
use super::link::{ShutDownAtEnd, connect_pair};
use crate::support::{Base, data, trials};

trials! {
    for setting in settings() =>
        a_server_of_every_transport_serves_this_one unless setting.is_a_hub(SHUT),
        a_client_without_a_transport_uses_the_one_that_the_server_offers;
}

fn a_server_of_every_transport_serves_this_one(setting: Setting) {
    let transport = setting.transport;
    let base = Base::new();
    let anywhere = base.name("room").display().to_string();
    let options = ServerOptions::new().transports(Transport::ALL.iter().copied());
    let server = setting.bind_with(&options, &anywhere).unwrap();
    assert_eq!(server.transports(), Transport::ALL);
    thread::scope(|scope| {
        let _end = ShutDownAtEnd(server.shutdown_handle());
        scope.spawn(|| {
            for connection in server.incoming() {
                let connection = connection.unwrap();
                scope.spawn(move || echo(connection));
            }
        });
        for (address, expected) in [(setting.address(&base, "room"), transport), (anywhere, Transport::ALL[0])] {
            let mut connection = setting.connect(&address).unwrap();
            assert_eq!(connection.transport(), expected);
            connection.send(data::message(1, 1000)).unwrap();
            data::check(&connection.recv().unwrap().expect("a reply"), 1, 1000);
        }
    });
}

fn a_client_without_a_transport_uses_the_one_that_the_server_offers(setting: Setting) {
    let transport = setting.transport;
    let base = Base::new();
    let server = setting.bind(setting.address(&base, "room")).unwrap();
    let (client, served) =
        connect_pair(setting, &server, &base.name("room").display().to_string(), &Default::default());
    assert_eq!((client.transport(), served.transport()), (transport, transport));
    for other in Transport::ALL.iter().copied().filter(|&other| other != transport) {
        let error = setting.connect(base.address(other, "room")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoServer);
        assert!(error.to_string().contains(&format!("offers {transport} and not {other}")), "{error}");
    }
}
