//! A process with a caller that forks.

use parlour::{CallSession, Caller, ErrorKind, Transport};

use super::forking::{fork, join};
use super::scene::{Serving, echo};
use crate::support::{Child, DEADLINE, Role, failure, trials};

trials! {
    for transport in Transport::ALL =>
        a_caller_is_dead_in_a_forked_child_and_goes_on_in_the_parent;
}

/// `caller ADDRESS`: calls, forks a child in which every call fails, and calls again.
pub const CALLER: Role = Role { name: "caller", play: caller };

fn caller(arguments: &[String]) {
    let caller = Caller::connect(&arguments[0]).unwrap();
    assert_eq!(caller.call_timeout("before", DEADLINE).unwrap(), b"before");
    let mut stream = Some(caller.call_stream("a stream").unwrap());
    let session = CallSession::new(&arguments[0]).unwrap();
    assert_eq!(session.call_timeout("before", DEADLINE).unwrap(), b"before");
    let mut kept = Some((caller, session));
    let child = fork(|| {
        let ((caller, session), mut stream) = (kept.take().unwrap(), stream.take().unwrap());
        let errors = [
            caller.call("in the child").map(drop).unwrap_err(),
            caller.call_timeout("in the child", DEADLINE).map(drop).unwrap_err(),
            caller.call_stream("in the child").map(drop).unwrap_err(),
            caller.next_push().map(drop).unwrap_err(),
            failure(caller.try_next_push()),
            stream.next_timeout(DEADLINE).map(drop).unwrap_err(),
            session.connect().unwrap_err(),
            session.call("in the child").map(drop).unwrap_err(),
            session.call_stream("in the child").map(drop).unwrap_err(),
            session.next_push().map(drop).unwrap_err(),
            failure(session.try_next_push()),
        ];
        assert!(errors.iter().all(|error| error.kind() == ErrorKind::NameLost), "{errors:?}");
        assert_eq!(caller.stats(), parlour::calls::CallerStats::default());
        assert_eq!(session.stats(), parlour::calls::CallerStats::default());
        assert!(session.peer().is_none());
    });
    join(child);
    // Neither the calls nor the drops of the child have reached the server.
    let mut stream = stream.unwrap();
    assert_eq!(stream.next_timeout(DEADLINE).unwrap().unwrap(), b"a stream");
    let (caller, session) = kept.unwrap();
    assert_eq!(caller.call_timeout("after", DEADLINE).unwrap(), b"after");
    assert_eq!(session.call_timeout("after", DEADLINE).unwrap(), b"after");
    println!("done");
}

fn a_caller_is_dead_in_a_forked_child_and_goes_on_in_the_parent(transport: Transport) {
    let serving = Serving::new(transport, echo);
    let mut child = Child::spawn("caller", std::slice::from_ref(&serving.address));
    child.expect("done");
    child.finish();
}
