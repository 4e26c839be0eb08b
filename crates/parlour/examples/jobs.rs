//! A queue of jobs. A client that sends `take` is a worker: it gets a job, and has done it when it sends `take` again
//! or `done`. The job of a worker that leaves goes to another one. Every other message is a job.
//!
//! Try it with `parlour connect jobs` for a worker, and `parlour call jobs "resize a.png"` for a job.

use std::collections::{HashMap, VecDeque};

use parlour::hub::{Client, Event, HubOptions};
use parlour::{Message, ServerOptions};

// The most jobs that wait, and the length of the longest, so that no client can fill the memory.
const JOBS_MAX: usize = 1000;
const JOB_LEN_MAX: usize = 64 << 10;

fn main() -> parlour::Result<()> {
    let mut hub = HubOptions::from(ServerOptions::new().message_max(JOB_LEN_MAX)).bind("jobs")?;
    let (mut jobs, mut idle) = (VecDeque::<Message>::new(), VecDeque::<Client>::new());
    let mut taken = HashMap::<Client, Message>::new();
    loop {
        match hub.next_event()? {
            Event::Message(worker, message) if message == b"take" || message == b"done" => {
                taken.remove(&worker);
                if message == b"take" && !idle.contains(&worker) {
                    idle.push_back(worker);
                }
            }
            Event::Message(client, _) if jobs.len() >= JOBS_MAX => hub.send(client, "try again later")?,
            Event::Message(client, job) => {
                jobs.push_back(job);
                hub.send(client, "queued")?; // does nothing if the client has left
            }
            Event::Finished(client) => hub.finish(client)?, // the client has ended sending
            Event::Left(client, _) => {
                idle.retain(|worker| *worker != client);
                taken.remove(&client).into_iter().for_each(|job| jobs.push_front(job));
            }
            _ => {}
        }
        while !jobs.is_empty() && !idle.is_empty() {
            let (Some(job), Some(worker)) = (jobs.pop_front(), idle.pop_front()) else { break };
            hub.send(worker, &job)?;
            taken.insert(worker, job);
        }
    }
}
