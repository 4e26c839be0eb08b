//! The loop of the live view: readings, keys, signals and the size of the terminal.

use std::time::{Duration, Instant};

use anyhow::Context;
use ratatui_core::terminal::Terminal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::draw::draw;
use super::keys;
use super::look::look;
use super::model::{Effect, Model};
use super::screen::Screen;
use crate::args::Top;
use crate::exit;
use crate::signals::{Resizes, Stop};

/// The number of processes, beside those on the screen, that one reading looks up. They are looked up once.
const PROCESSES_MAX: usize = 200;

/// The end of a wait.
enum Event {
    Time,
    Typed,
    Resized,
    /// By a signal, or because the terminal has gone.
    End,
}

pub(super) fn run(mut model: Model, args: &Top, began: Instant) -> anyhow::Result<()> {
    let stop = Stop::on_interrupt_or_hangup().context("catching signals")?;
    let resizes = Resizes::catch().context("catching signals")?;
    let mut terminal = Terminal::new(Screen::enter(&stop)?).context("drawing")?;
    let mut next = Instant::now() + args.interval;
    loop {
        if Instant::now() >= next {
            next = Instant::now() + args.interval;
            if !model.is_paused {
                read(&mut model, args, began);
            }
        }
        if terminal.draw(|frame| draw(&mut model, frame.area(), frame.buffer_mut())).is_err() {
            // The terminal has gone.
            return Ok(());
        }
        match wait(terminal.backend(), &stop, &resizes, next).context("waiting for a key")? {
            Event::Time => {}
            // Drawing asks for the size.
            Event::Resized => resizes.clear(),
            Event::End => return Ok(()),
            Event::Typed => {
                let mut bytes = [0; 256];
                let Some(count) = terminal.backend().read(&mut bytes) else { return Ok(()) };
                for key in keys::parse(&bytes[..count]) {
                    match model.press(key) {
                        Effect::None => {}
                        Effect::Read => read(&mut model, args, began),
                        Effect::Redraw => terminal.clear().context("drawing")?,
                        Effect::Suspend => {
                            terminal.backend().suspend().context("suspending")?;
                            terminal.clear().context("drawing")?;
                        }
                        Effect::Quit => return Ok(()),
                    }
                }
            }
        }
    }
}

/// Takes up a reading, or the reason why there is none: the server may come again.
fn read(model: &mut Model, args: &Top, began: Instant) {
    if let Err(error) = look(model, args, began, PROCESSES_MAX) {
        model.fail(exit::one_line(&error), began.elapsed().as_secs_f64());
    }
}

fn wait(screen: &Screen<'_>, stop: &Stop, resizes: &Resizes, until: Instant) -> Result<Event, Errno> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        // poll(2) rounds to milliseconds on some systems, and would return before the time.
        let left = if left.is_zero() { left } else { left + Duration::from_millis(1) };
        let timeout = Timespec::try_from(left).ok();
        let mut fds =
            [PollFd::new(stop, PollFlags::IN), PollFd::new(screen, PollFlags::IN), PollFd::new(resizes, PollFlags::IN)];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(0) => return Ok(Event::Time),
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno),
        }
        let has = |index: usize, flags| fds[index].revents().intersects(flags);
        if has(0, PollFlags::IN) || has(1, PollFlags::ERR | PollFlags::HUP) {
            return Ok(Event::End);
        }
        return Ok(if has(1, PollFlags::IN) { Event::Typed } else { Event::Resized });
    }
}
