//! Drawing of the live lines on a terminal. The library indicatif decides when to draw, and erases what it drew.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use console::Term;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle, TermLike};

/// Interval at which the live lines are redrawn, so that the times in them advance.
const TICK: Duration = Duration::from_millis(200);
const DRAWS_PER_SECOND_MAX: u8 = 10;

/// Live lines at the bottom of a terminal, drawn until the value is dropped.
#[derive(Debug)]
pub(super) struct Live {
    bar: ProgressBar,
}

impl Live {
    /// Starts to draw the lines that a function returns for a width in columns, until the returned value is dropped.
    pub fn start(lines: impl Fn(usize) -> Vec<String> + Send + Sync + 'static) -> Self {
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(Canvas::default()), DRAWS_PER_SECOND_MAX);
        let bar = ProgressBar::with_draw_target(None, target);
        let lines = Arc::new(lines);
        let draw = move |_: &ProgressState, text: &mut dyn fmt::Write| {
            // The last column stays free: a terminal that has it filled may begin a new line by itself.
            let columns = usize::from(Term::stderr().size().1).saturating_sub(1);
            let written = text.write_str(&lines(columns).join("\n"));
            debug_assert!(written.is_ok(), "it is written to memory");
        };
        let style = ProgressStyle::with_template("{lines}").unwrap_or_else(|_| ProgressStyle::default_spinner());
        bar.set_style(style.with_key("lines", draw));
        bar.enable_steady_tick(TICK);
        Self { bar }
    }

    /// Prints lines above the live lines; the printed lines stay on the terminal.
    pub fn print(&self, lines: &[String]) {
        self.bar.println(lines.join("\n"));
    }

    /// Runs a function that writes to the terminal itself; the live lines are erased until the function returns.
    pub fn beside(&self, write: impl FnOnce()) {
        self.bar.suspend(write);
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Terminal to which indicatif draws. indicatif fills lines with blanks up to the terminal's edge, and a resized terminal would wrap such
/// lines; the canvas ends a line with its text, and writes a frame at once. The cursor rests below the last line, so that echoed keys, or
/// output at the engine's death, have a line of their own.
#[derive(Debug, Default)]
struct Canvas {
    state: Mutex<CanvasState>,
}

#[derive(Debug, Default)]
struct CanvasState {
    buffer: String,
    /// Widths in columns of the lines of the frame that is being made.
    widths: Vec<usize>,
    /// True if the next text is the blanks with which indicatif fills the last line; they are not written.
    fills: bool,
    /// Widths in columns of the lines that are on the terminal.
    drawn: Vec<usize>,
    /// The terminal's width in columns when `drawn` was written.
    drawn_columns: usize,
}

impl CanvasState {
    /// Moves the cursor up to the first line of the drawn frame. If the terminal has become narrower and has wrapped lines of the frame,
    /// the additional lines are erased.
    fn back(&mut self, lines_up: usize, columns: usize) {
        let mut up = lines_up;
        if !self.drawn.is_empty() {
            self.buffer.push_str("\r\x1b[K");
            up += 1;
            if columns > 0 && columns < self.drawn_columns {
                let alive = self.drawn.iter().rev().take(lines_up + 1);
                let more: usize = alive.map(|width| width.saturating_sub(1) / columns).sum();
                if more > 0 {
                    self.buffer.push_str(&format!("\x1b[{more}A\r\x1b[J"));
                }
            }
            self.drawn.clear();
        }
        if up > 0 {
            self.buffer.push_str(&format!("\x1b[{up}A"));
        }
    }

    fn write(&mut self, text: &str) {
        let fills = self.fills;
        self.fills = !fills;
        if fills {
            return;
        }
        if !self.widths.is_empty() {
            self.buffer.push_str("\r\n");
        }
        self.buffer.push_str(text);
        self.widths.push(console::measure_text_width(text));
    }

    /// Ends a frame, and returns the text that draws it.
    fn flush(&mut self, columns: usize) -> String {
        self.fills = false;
        self.drawn = std::mem::take(&mut self.widths);
        self.drawn_columns = columns;
        if !self.drawn.is_empty() {
            self.buffer.push_str("\r\n");
        }
        std::mem::take(&mut self.buffer)
    }
}

impl Canvas {
    fn state(&self) -> MutexGuard<'_, CanvasState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TermLike for Canvas {
    fn width(&self) -> u16 {
        Term::stderr().size().1
    }

    fn height(&self) -> u16 {
        Term::stderr().size().0.saturating_sub(1)
    }

    fn move_cursor_up(&self, lines: usize) -> io::Result<()> {
        let columns = usize::from(self.width());
        self.state().back(lines, columns);
        Ok(())
    }

    fn move_cursor_down(&self, lines: usize) -> io::Result<()> {
        self.state().buffer.push_str(&format!("\x1b[{lines}B"));
        Ok(())
    }

    fn move_cursor_right(&self, columns: usize) -> io::Result<()> {
        self.state().buffer.push_str(&format!("\x1b[{columns}C"));
        Ok(())
    }

    fn move_cursor_left(&self, columns: usize) -> io::Result<()> {
        self.state().buffer.push_str(&format!("\x1b[{columns}D"));
        Ok(())
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        let mut state = self.state();
        state.write(text);
        state.write("");
        Ok(())
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.state().write(text);
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        self.state().buffer.push_str("\r\x1b[2K");
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        let columns = usize::from(self.width());
        let text = self.state().flush(columns);
        let term = Term::stderr();
        term.write_str(&text)?;
        term.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the text that the canvas writes when indicatif draws `lines` over `standing` earlier lines.
    fn draw(canvas: &mut CanvasState, standing: usize, lines: &[&str], columns: usize) -> String {
        canvas.back(standing.saturating_sub(1), columns);
        for line in lines {
            canvas.write(line);
            canvas.write("   ");
        }
        canvas.flush(columns).replace('\x1b', "ESC").replace("\r\n", "/").replace('\r', "<")
    }

    #[test]
    fn a_frame_has_no_blanks_at_its_edges_and_the_cursor_rests_below_it() {
        let mut canvas = CanvasState::default();
        assert_eq!(draw(&mut canvas, 0, &["ab", "c"], 80), "ab/c/");
        assert_eq!(draw(&mut canvas, 2, &["ab", "d"], 80), "<ESC[KESC[2Aab/d/");
        assert_eq!(draw(&mut canvas, 2, &[], 80), "<ESC[KESC[2A", "nothing stays, not even an empty line");
        assert_eq!(draw(&mut canvas, 0, &["a line of text", "x"], 80), "a line of text/x/");
    }

    #[test]
    fn lines_that_a_narrower_terminal_has_wrapped_are_erased() {
        let mut canvas = CanvasState::default();
        let wide = "x".repeat(100);
        draw(&mut canvas, 0, &["text that stays", &wide, "y"], 120);
        assert_eq!(draw(&mut canvas, 2, &["z"], 40), "<ESC[KESC[2A<ESC[JESC[2Az/");
        assert_eq!(draw(&mut canvas, 1, &["z"], 120), "<ESC[KESC[1Az/", "a wider one has wrapped nothing");
    }
}
