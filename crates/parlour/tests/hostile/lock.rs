//! Tests of the lock that makes a server the owner of its name.

use std::fs::File;

use parlour::Server;

use crate::by_hand::lock;
use crate::support::{Base, Child, trials};

trials! {
    other_code_that_opens_and_closes_the_lock_file_does_not_free_the_name,
}

fn other_code_that_opens_and_closes_the_lock_file_does_not_free_the_name() {
    let base = Base::new();
    let address = base.name("kept").display().to_string();
    let server = Server::bind(&address).unwrap();
    for _ in 0..3 {
        let file = File::options().read(true).write(true).open(server.path().join("lock")).unwrap();
        assert!(!lock::take(&file), "the server holds it");
        drop(file);
        drop(File::open(server.path().join("lock")).unwrap());
    }
    // Another process sees the lock as well.
    let mut other = Child::spawn("serve", &[format!("address={address}")]);
    let said = other.line();
    assert!(said.starts_with("error name in use:"), "{said}");
    assert!(said.contains(&format!("pid {}", std::process::id())), "{said}");
}
