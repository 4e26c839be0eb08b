//! The queue of jobs of the example `jobs`.

use std::process::{Command, Stdio};

use parlour::Connection;

use crate::built::example;
use crate::clients::connect;
use crate::support::base::leaves_files;
use crate::support::{Base, Child, DEADLINE, trials};

trials! {
    each_worker_gets_the_next_job,
    the_job_of_a_worker_that_leaves_goes_to_another_one,
}

fn start(base: &Base) -> Child {
    leaves_files();
    Child::start(Command::new(example("jobs")).env("PARLOUR_DIR", base.path()).stderr(Stdio::null()))
}

fn hear(client: &mut Connection) -> String {
    let message = client.recv_timeout(DEADLINE).unwrap().unwrap();
    String::from_utf8(message.to_vec()).unwrap()
}

fn queue(client: &mut Connection, job: &str) {
    client.send(job).unwrap();
    assert_eq!(hear(client), "queued");
}

fn each_worker_gets_the_next_job() {
    let base = Base::new();
    let mut server = start(&base);
    let path = base.name("jobs");
    let (mut client, mut one, mut two) = (connect(&path), connect(&path), connect(&path));
    queue(&mut client, "a");
    queue(&mut client, "b");
    queue(&mut client, "c");
    one.send("take").unwrap();
    assert_eq!(hear(&mut one), "a");
    two.send("take").unwrap();
    assert_eq!(hear(&mut two), "b");
    one.send("take").unwrap();
    assert_eq!(hear(&mut one), "c");
    // This worker waits for a job.
    two.send("take").unwrap();
    queue(&mut client, "d");
    assert_eq!(hear(&mut two), "d");
    server.kill();
}

fn the_job_of_a_worker_that_leaves_goes_to_another_one() {
    let base = Base::new();
    let mut server = start(&base);
    let path = base.name("jobs");
    let (mut client, mut one, mut two) = (connect(&path), connect(&path), connect(&path));
    queue(&mut client, "a");
    queue(&mut client, "b");
    one.send("take").unwrap();
    assert_eq!(hear(&mut one), "a");
    one.send("take").unwrap();
    assert_eq!(hear(&mut one), "b");
    drop(one);
    two.send("take").unwrap();
    assert_eq!(hear(&mut two), "b");
    two.send("done").unwrap();
    drop(two);
    // Nothing is left over.
    let mut three = connect(&path);
    three.send("take").unwrap();
    queue(&mut client, "c");
    assert_eq!(hear(&mut three), "c");
    server.kill();
}
