//! The terminal: raw mode, the alternate screen, and the drawing of cells.
//!
//! The terminal is opened anew, so that this program can read and write it without blocking, and other processes that
//! share its standard streams do not notice. A terminal that takes no output, such as a stopped one, then never keeps
//! the program from ending.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use anyhow::Context;
use ratatui_core::backend::{Backend, ClearType, WindowSize};
use ratatui_core::buffer::Cell;
use ratatui_core::layout::{Position, Size};
use ratatui_core::style::{Color, Modifier};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Signal, kill_current_process_group};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use crate::signals::Stop;

/// Begins the alternate screen and hides the cursor.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l\x1b[2J";

/// Ends styles, shows the cursor and the screen of before.
const LEAVE: &[u8] = b"\x1b[0m\x1b[?25h\x1b[?1049l";

/// The time that a terminal has to take the last bytes.
const LEAVING_MAX: Duration = Duration::from_secs(1);

/// The size of a terminal that does not state one.
const DEFAULT_SIZE: Size = Size { width: 80, height: 24 };

/// A terminal that shows the view. When this is dropped, it is as before.
pub(super) struct Screen<'a> {
    terminal: File,
    before: Termios,
    output: Vec<u8>,
    cursor: Position,
    has_colours: bool,
    stop: &'a Stop,
}

impl<'a> Screen<'a> {
    /// Opens the terminal of stdout, and begins the alternate screen. A request to stop ends every wait.
    pub(super) fn enter(stop: &'a Stop) -> anyhow::Result<Self> {
        let flags = rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::NONBLOCK;
        let open = |path| File::options().read(true).write(true).custom_flags(flags.bits() as i32).open(path);
        // Another user may own the terminal, as after su(1). Everyone may open the controlling terminal.
        let terminal = open("/proc/self/fd/1").or_else(|_| open("/dev/tty")).context("opening the terminal")?;
        let before = tcgetattr(&terminal).context("reading the mode of the terminal")?;
        let has_colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let screen = Self { terminal, before, output: Vec::new(), cursor: Position::ORIGIN, has_colours, stop };
        screen.begin()?;
        Ok(screen)
    }

    fn begin(&self) -> io::Result<()> {
        let mut raw = self.before.clone();
        raw.make_raw();
        tcsetattr(&self.terminal, OptionalActions::Now, &raw)?;
        self.write(ENTER, None)
    }

    fn end(&self) {
        // The terminal may be gone.
        let _ = self.write(LEAVE, Some(Instant::now() + LEAVING_MAX));
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }

    /// Stops this process and its group until the shell continues them.
    pub(super) fn suspend(&self) -> io::Result<()> {
        self.end();
        kill_current_process_group(Signal::TSTP)?;
        self.begin()
    }

    /// Reads what was typed. Returns `None` if the terminal has gone.
    pub(super) fn read(&self, buffer: &mut [u8]) -> Option<usize> {
        match rustix::io::read(&self.terminal, buffer) {
            Err(Errno::AGAIN | Errno::INTR) => Some(0),
            Ok(0) | Err(_) => None,
            Ok(count) => Some(count),
        }
    }

    /// Writes all bytes, until a deadline, or else until the request to stop.
    fn write(&self, mut bytes: &[u8], deadline: Option<Instant>) -> io::Result<()> {
        while !bytes.is_empty() {
            match rustix::io::write(&self.terminal, bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
                    if left == Some(Duration::ZERO) || (deadline.is_none() && self.stop.is_triggered()) {
                        return Ok(());
                    }
                    let timeout = left.and_then(|left| Timespec::try_from(left).ok());
                    let stop = if deadline.is_none() { PollFlags::IN } else { PollFlags::empty() };
                    let mut fds = [PollFd::new(&self.terminal, PollFlags::OUT), PollFd::new(self.stop, stop)];
                    match poll(&mut fds, timeout.as_ref()) {
                        Ok(_) | Err(Errno::INTR) => {}
                        Err(errno) => return Err(errno.into()),
                    }
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}

impl Drop for Screen<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

impl AsFd for Screen<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.terminal.as_fd()
    }
}

impl Backend for Screen<'_> {
    type Error = io::Error;

    fn draw<'a, I>(&mut self, content: I) -> io::Result<()>
    where
        I: Iterator<Item = (u16, u16, &'a Cell)>,
    {
        let mut next = None;
        let mut style = None;
        for (x, y, cell) in content {
            if next != Some((x, y)) {
                write!(self.output, "\x1b[{};{}H", y + 1, x + 1)?;
            }
            next = Some((x + 1, y));
            if style != Some((cell.fg, cell.modifier)) {
                style = Some((cell.fg, cell.modifier));
                self.output.extend(style_of(cell.fg, cell.modifier, self.has_colours).into_bytes());
            }
            self.output.extend(cell.symbol().as_bytes());
        }
        self.output.extend(b"\x1b[0m");
        Ok(())
    }

    fn hide_cursor(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn show_cursor(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn get_cursor_position(&mut self) -> io::Result<Position> {
        Ok(self.cursor)
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, position: P) -> io::Result<()> {
        self.cursor = position.into();
        Ok(())
    }

    fn clear(&mut self) -> io::Result<()> {
        self.output.extend(b"\x1b[2J");
        Ok(())
    }

    fn clear_region(&mut self, _: ClearType) -> io::Result<()> {
        // The view has the whole screen, and draws all of it afterwards.
        self.clear()
    }

    fn size(&self) -> io::Result<Size> {
        let size = tcgetwinsize(&self.terminal)?;
        let is_known = size.ws_col > 0 && size.ws_row > 0;
        Ok(if is_known { Size { width: size.ws_col, height: size.ws_row } } else { DEFAULT_SIZE })
    }

    fn window_size(&mut self) -> io::Result<WindowSize> {
        Ok(WindowSize { columns_rows: self.size()?, pixels: Size::ZERO })
    }

    fn flush(&mut self) -> io::Result<()> {
        let output = std::mem::take(&mut self.output);
        self.write(&output, None)
    }
}

/// Returns the escape sequence of a style.
fn style_of(colour: Color, modifier: Modifier, has_colours: bool) -> String {
    let mut codes = vec!["0"];
    for (flag, code) in
        [(Modifier::BOLD, "1"), (Modifier::DIM, "2"), (Modifier::UNDERLINED, "4"), (Modifier::REVERSED, "7")]
    {
        if modifier.contains(flag) {
            codes.push(code);
        }
    }
    match colour {
        Color::Red if has_colours => codes.push("31"),
        Color::Yellow if has_colours => codes.push("33"),
        _ => {}
    }
    format!("\x1b[{}m", codes.join(";"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_style_is_one_sequence_with_or_without_colours() {
        assert_eq!(style_of(Color::Reset, Modifier::empty(), true), "\x1b[0m");
        assert_eq!(style_of(Color::Red, Modifier::BOLD | Modifier::REVERSED, true), "\x1b[0;1;7;31m");
        assert_eq!(style_of(Color::Yellow, Modifier::BOLD, false), "\x1b[0;1m");
    }
}
