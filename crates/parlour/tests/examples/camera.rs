//! The camera of the example `camera`, which lends its pictures.

use std::process::{Command, Stdio};

use parlour::frames::{FrameLimits, FrameReader};

use crate::built::example;
use crate::clients::connect;
use crate::support::base::leaves_files;
use crate::support::{Base, Child, DEADLINE, trials};

trials! {
    a_worker_reads_pictures_beside_a_client_that_sends_something_else,
}

fn a_worker_reads_pictures_beside_a_client_that_sends_something_else() {
    let base = Base::new();
    leaves_files();
    let mut command = Command::new(example("camera"));
    let mut server = Child::start(command.env("PARLOUR_DIR", base.path()).stderr(Stdio::null()));
    let path = base.name("camera");
    for _ in 0..2 {
        let mut stranger = connect(&path);
        stranger.send_timeout(b"hello", DEADLINE).unwrap();
        stranger.recv_timeout(DEADLINE).unwrap_err();

        let mut camera = connect(&path);
        let mut reader = FrameReader::attach(&FrameLimits::new(), |payload| camera.send(payload)).unwrap();
        let mut pixels = Vec::new();
        for _ in 0..5 {
            let message = camera.recv_timeout(DEADLINE).unwrap().unwrap();
            let frame = reader.open(message).unwrap();
            frame.copy_to(&mut pixels).unwrap();
            assert_eq!(pixels.len(), 1920 * 1080 * 4);
        }
    }
    assert!(server.is_running());
    server.kill();
}
