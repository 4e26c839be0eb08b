//! Taking a connection of tasks apart into descriptors.

use std::io::ErrorKind;

use parlour::{RawFds, RawParts, Transport};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;

use crate::support::trials;
use crate::tasks::{Link, run};

trials! {
    for transport in [Transport::Unix, Transport::Fifo] =>
        the_descriptors_can_be_registered_again_and_carry_frames,
        a_connection_with_buffered_bytes_is_returned_and_loses_none;

    for transport in [Transport::Packet, Transport::Shm] =>
        a_connection_that_cannot_be_taken_apart_is_returned_unchanged;
}

fn the_descriptors_can_be_registered_again_and_carry_frames(transport: Transport) {
    run(async {
        let Link { mut client, served, _server, _base } = Link::new(transport).await;
        let RawParts { fds, peer, guard, .. } = served.into_raw_parts().unwrap();
        assert_eq!(peer.pid(), Some(std::process::id()));
        let mut frame = [0; 10];
        client.send("first").await.unwrap();
        // The second read would block.
        match fds {
            RawFds::Unix(socket) => {
                let socket = UnixStream::from_std(socket.into()).unwrap();
                socket.readable().await.unwrap();
                assert_eq!(socket.try_read(&mut frame).unwrap(), 9);
                assert_eq!(socket.try_read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
                assert_eq!(socket.try_write(b"\0\0\0\x02ok").unwrap(), 6);
            }
            RawFds::Fifo { recv, send } => {
                let recv = pipe::Receiver::from_owned_fd(recv).unwrap();
                recv.readable().await.unwrap();
                assert_eq!(recv.try_read(&mut frame).unwrap(), 9);
                assert_eq!(recv.try_read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
                let send = pipe::Sender::from_owned_fd(send).unwrap();
                send.writable().await.unwrap();
                assert_eq!(send.try_write(b"\0\0\0\x02ok").unwrap(), 6);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(&frame[..9], b"\0\0\0\x05first");
        assert_eq!(client.recv().await.unwrap().expect("a message"), b"ok");
        assert_eq!(client.recv().await.unwrap(), None, "no other copy of the descriptors is open");
        drop(guard);
    });
}

fn a_connection_with_buffered_bytes_is_returned_and_loses_none(transport: Transport) {
    run(async {
        let Link { mut client, mut served, _server, _base } = Link::new(transport).await;
        client.send("one").await.unwrap();
        client.send("two").await.unwrap();
        assert_eq!(served.recv().await.unwrap().expect("a message"), b"one");
        let back = served.into_raw_parts().unwrap_err();
        assert_eq!(back.error.kind(), parlour::ErrorKind::Unsupported);
        let mut served = *back.connection;
        assert_eq!(served.recv().await.unwrap().expect("a message"), b"two");
        served.into_raw_parts().expect("all buffers are empty");
    });
}

fn a_connection_that_cannot_be_taken_apart_is_returned_unchanged(transport: Transport) {
    run(async {
        let Link { mut client, served, _server, _base } = Link::new(transport).await;
        let mut served = *served.into_raw_parts().unwrap_err().connection;
        client.send("still here").await.unwrap();
        assert_eq!(served.recv().await.unwrap().expect("a message"), b"still here");
    });
}
