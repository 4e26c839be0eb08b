use std::thread;

use parlour::{Connection, ErrorKind, Server, ServerOptions, Transport};

use super::link::{ShutDownAtEnd, meet};
use crate::support::{Base, data, roles};

pub fn a_server_of_every_transport_serves_this_one(transport: Transport) {
    let base = Base::new();
    let anywhere = base.name("room").display().to_string();
    let server = ServerOptions::new().transports(Transport::ALL.iter().copied()).bind(&anywhere).unwrap();
    assert_eq!(server.transports(), Transport::ALL);
    thread::scope(|scope| {
        let _end = ShutDownAtEnd(server.shutdown_handle());
        scope.spawn(|| {
            for connection in server.incoming() {
                let connection = connection.unwrap();
                scope.spawn(move || roles::echo(connection));
            }
        });
        for (address, expected) in [(base.address(transport, "room"), transport), (anywhere, Transport::ALL[0])] {
            let mut connection = Connection::connect(&address).unwrap();
            assert_eq!(connection.transport(), expected);
            connection.send(data::message(1, 1000)).unwrap();
            data::check(&connection.recv().unwrap().expect("a reply"), 1, 1000);
        }
    });
}

pub fn a_client_that_demands_no_transport_takes_what_is_on_offer(transport: Transport) {
    let base = Base::new();
    let server = Server::bind(base.address(transport, "room")).unwrap();
    let (client, served) = meet(&server, &base.name("room").display().to_string(), &Default::default());
    assert_eq!((client.transport(), served.transport()), (transport, transport));
    for other in Transport::ALL.iter().copied().filter(|&other| other != transport) {
        let error = Connection::connect(base.address(other, "room")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoServer);
        assert!(error.to_string().contains(&format!("offers {transport} and not {other}")), "{error}");
    }
}
