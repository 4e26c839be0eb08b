//! The hand-over of a server's name while no task accepts: a task of the runtime works on it.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::waiting::Waiting;
use crate::admission::Admission;
use crate::standby::{Served, Standby};
use crate::sys::fork::Process;
use crate::sys::readiness::Readiness;
use crate::sys::shared_fd::SharedFd;
use crate::wait::Deadline;

/// The time after which the task looks again if a thread was at work.
const PAUSE: Duration = Duration::from_millis(5);

/// The task of a server. Dropping this ends it.
pub(super) struct StandbyTask {
    task: JoinHandle<()>,
    process: Process,
}

impl StandbyTask {
    /// Starts the task in the current runtime, unless the server hands nothing over.
    pub(super) fn start(admission: Arc<Admission>) -> std::io::Result<Option<Self>> {
        let Some(standby) = admission.standby.standby() else { return Ok(None) };
        let poller = Arc::new(SharedFd::new(standby.poller().as_fd().try_clone_to_owned()?, 1));
        let readiness = Readiness::register(poller, Interest::READABLE)?;
        let runtime = Handle::try_current().map_err(std::io::Error::other)?;
        let task = runtime.spawn(async move {
            if let Some(standby) = admission.standby.standby() {
                stand_by(standby, &readiness).await;
            }
        });
        Ok(Some(Self { task, process: Process::current() }))
    }

    /// Ends the task. Dropping this leaves the end to the runtime, which frees the task when it runs the next time.
    pub(super) async fn end(mut self) {
        if !self.process.is_before_fork() {
            self.task.abort();
            // The error tells that the task was aborted.
            let _ = (&mut self.task).await;
        }
    }
}

/// Works on the hand-over until it is over, or the runtime ends.
async fn stand_by(standby: &Standby, readiness: &Readiness) {
    while let Ok(mut ready) = readiness.readable().await {
        match standby.serve() {
            Served::Over => return,
            Served::Elsewhere => {
                let Ok(pause) = Waiting::until(Deadline::after(PAUSE)) else { return };
                // An error means that the runtime is ending.
                if pause.wait().await.is_err() {
                    return;
                }
            }
            Served::Done => {}
        }
        // The runtime reports what becomes ready after this.
        if !standby.has_work() {
            ready.clear_ready();
        }
    }
}

impl Drop for StandbyTask {
    fn drop(&mut self) {
        // In a forked child a thread of the parent may have held a lock of the runtime.
        if !self.process.is_before_fork() {
            self.task.abort();
        }
    }
}
