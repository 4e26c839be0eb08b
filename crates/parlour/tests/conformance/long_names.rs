use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::thread;

use parlour::{Address, NAME_LEN_MAX};

use super::api::{Setting, echo, settings};
use crate::support::{Base, data, trials};

trials! {
    for setting in settings() =>
        a_name_of_64_bytes_works_in_a_base_of_any_length;
}

/// The path in a socket address has at most 108 bytes.
fn a_name_of_64_bytes_works_in_a_base_of_any_length(setting: Setting) {
    let base = Base::new();
    let mut deep = base.path().to_owned();
    for level in 0..20 {
        deep.push(format!("a-directory-with-a-long-name-{level:02}"));
        DirBuilder::new().mode(0o700).create(&deep).unwrap();
    }
    let name = "N".repeat(NAME_LEN_MAX);
    let path = deep.join(&name);
    assert!(path.as_os_str().len() > 5 * 108);
    let address = Address::parse(&format!("{}:{}", setting.transport, path.display())).unwrap();
    let server = setting.bind(&address).unwrap();
    assert_eq!((server.name(), server.path()), (&*name, &*path));
    thread::scope(|scope| {
        scope.spawn(|| echo(server.accept().unwrap()));
        let mut connection = setting.connect(&address).unwrap();
        connection.send(data::message(0, 1000)).unwrap();
        data::check(&connection.recv().unwrap().expect("a reply"), 0, 1000);
    });
}
