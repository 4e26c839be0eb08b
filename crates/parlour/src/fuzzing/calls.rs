//! Calls with a hostile peer, as a fuzz target: both sides' states, without a connection.

use std::sync::Arc;

use crate::calls::exchange::{End, Exchange, Limits, Next, Outcome, Shape};
use crate::calls::served::{CallLimits, Served, Step, Ticket};
use crate::message::Message;
use crate::peer::{Peer, Provenance};
use crate::shm::hostile::Input;
use crate::wire::call::{Failure, HEADER_LEN, Header, Side};

const LIMITS: Limits = Limits { items: 500, pushes: 300 };

/// The number of calls that a client may have open, and of the bytes of their requests.
const CALLS_MAX: usize = 3;
const BYTES_MAX: usize = 100;

/// Executes a program on the state of a caller and on that of a server's client. An operation is one byte, and two of
/// them are messages of the peer: a byte of length, and as many bytes. A length of 0 stands for the greeting.
pub fn calls(data: &[u8]) {
    header(data);
    caller(Input(data));
    server(Input(data));
}

/// Parses a message in every way.
fn header(message: &[u8]) {
    if let Ok(header) = Header::parse(message) {
        assert_eq!(header.encode(), message[..HEADER_LEN], "a header has one spelling");
    }
    if let Ok(failure) = Failure::parse(message) {
        assert!(failure.text.len() <= 3 * message.len());
    }
}

/// Returns the next message of the peer.
fn message(input: &mut Input<'_>, greeting: Side) -> Message {
    let length = usize::from(input.byte());
    let (bytes, behind) = input.0.split_at(length.min(input.0.len()));
    input.0 = behind;
    let bytes = match length {
        0 => Header::Greeting { side: greeting, version: 1 }.encode().to_vec(),
        _ => bytes.to_vec(),
    };
    Message { bytes, ..Message::default() }
}

fn caller(mut input: Input<'_>) {
    let mut exchange = Exchange::new(LIMITS);
    let (mut open, mut woken): (Vec<(u32, Shape)>, _) = (Vec::new(), Vec::new());
    let mut received = 0;
    while !input.is_empty() {
        match input.byte() % 8 {
            0 => {
                let shape = if input.byte() % 2 == 0 { Shape::One } else { Shape::Many };
                let id = exchange.begin(shape);
                assert!(id != 0 && open.iter().all(|&(other, _)| other != id), "an id is not used twice");
                open.push((id, shape));
            }
            1 if !open.is_empty() => {
                let (id, _) = open.remove(usize::from(input.byte()) % open.len());
                exchange.abandon(id);
                assert!(!exchange.abandon(id));
            }
            2 => drop(exchange.take_push()),
            3 | 4 if !open.is_empty() => {
                let at = usize::from(input.byte()) % open.len();
                let (id, shape) = open[at];
                let is_over = match shape {
                    Shape::One => exchange.take(id).is_some(),
                    Shape::Many => match exchange.take_next(id) {
                        Some(Next::Over(outcome)) => {
                            assert!(!matches!(outcome, Outcome::Reply(_) | Outcome::NotOne));
                            true
                        }
                        Some(Next::Item(item)) => {
                            assert!(item.len() < 256);
                            false
                        }
                        None => false,
                    },
                };
                if is_over {
                    open.remove(at);
                }
            }
            _ => {
                received += 1;
                if exchange.receive(message(&mut input, Side::Server), &mut woken).is_err() {
                    exchange.finish(End::Closed, &mut woken);
                    return;
                }
                for id in exchange.take_to_cancel() {
                    assert!(open.iter().any(|&(other, _)| other == id));
                }
            }
        }
        assert_eq!(exchange.open(), open.len());
        // An empty queue accepts one message of less than 256 bytes.
        assert!(exchange.bytes() <= LIMITS.pushes.max(320) + open.len() * LIMITS.items.max(320));
        let counts = exchange.counts();
        assert!(counts.late + counts.pushes_dropped <= received);
    }
}

fn server(mut input: Input<'_>) {
    let mut served = Served::new(
        1,
        Peer::from_file(0, None, Provenance::Unknown),
        CallLimits { calls: CALLS_MAX, bytes: BYTES_MAX },
    );
    let mut held: Vec<Arc<Ticket>> = Vec::new();
    let mut lengths: Vec<usize> = Vec::new();
    while !input.is_empty() {
        match input.byte() % 4 {
            0 if !held.is_empty() => {
                let at = usize::from(input.byte()) % held.len();
                let ticket = held.remove(at);
                lengths.remove(at);
                served.end(&ticket);
            }
            _ => match served.receive(message(&mut input, Side::Caller)) {
                Ok(Step::Greet) => assert!(held.is_empty() && served.is_greeted()),
                Ok(Step::Begin(ticket, request)) => {
                    assert!(request.len() < 256 && ticket.id != 0);
                    held.push(ticket);
                    lengths.push(request.len());
                }
                Ok(Step::Refuse(_, text)) => assert_eq!(text.is_empty(), held.len() == CALLS_MAX),
                Ok(Step::Nothing) => assert!(served.is_greeted()),
                Err(_) => {
                    served.cancel_all();
                    assert!(held.iter().all(|ticket| ticket.is_cancelled()));
                    return;
                }
            },
        }
        assert_eq!(served.held(), held.len());
        assert!(held.len() <= CALLS_MAX);
        assert!(held.len() < 2 || lengths.iter().sum::<usize>() <= BYTES_MAX.max(255));
        let wanted = held.iter().filter(|ticket| !ticket.is_cancelled());
        let ids: std::collections::BTreeSet<u32> = wanted.clone().map(|ticket| ticket.id).collect();
        assert_eq!(ids.len(), wanted.count(), "no two calls that are open have one id");
    }
}
