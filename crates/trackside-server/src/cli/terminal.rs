//! What is printed, and how: answers to stdout, everything else to stderr, colour for people only.
//!
//! A reader that went away (`trackside tap … | head`) ends the command without a word. Colour needs a terminal and no
//! `NO_COLOR`.

use std::io::{self, IsTerminal, Write};
use tracing_subscriber::EnvFilter;

/// Variable that chooses what is logged to stderr, as in `trackside=debug`.
const LOG: &str = "TRACKSIDE_LOG";

/// Warnings of the pipeline go to stderr.
pub(crate) fn start_log() {
    let filter = EnvFilter::try_from_env(LOG).unwrap_or_else(|_| EnvFilter::new("warn"));
    let colour = colour(&io::stderr());
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(colour);
    // Inside another program's process there may be one already; then that one has the word.
    _ = subscriber.with_target(false).try_init();
}

/// Whether this end may be coloured.
pub(crate) fn colour(end: &impl IsTerminal) -> bool {
    end.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Prints a line of the answer; false when nobody reads any more.
pub(crate) fn say(line: impl AsRef<str>) -> bool {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", line.as_ref()).and_then(|()| out.flush()).is_ok()
}

/// Prints a value as one line of JSON; false when nobody reads any more.
pub(crate) fn say_json(value: &impl serde::Serialize) -> bool {
    // What is printed are our own types, all of which have a form in JSON.
    say(serde_json::to_string(value).unwrap_or_default())
}

/// Prints a remark to stderr.
pub(crate) fn note(line: impl AsRef<str>) {
    _ = writeln!(io::stderr().lock(), "{}", line.as_ref());
}

/// Prints what went wrong to stderr.
pub(crate) fn error(message: &str) {
    let mark = if colour(&io::stderr()) { "\x1b[31merror:\x1b[0m" } else { "error:" };
    note(format!("{mark} {message}"));
}

/// A line on the terminal that is written again and again; on no terminal it says nothing.
#[derive(Debug, Default)]
pub(crate) struct StatusLine {
    shown: bool,
}

/// Columns that a status line may take.
const WIDTH: usize = 80;

impl StatusLine {
    /// Shows it in place of the last one.
    pub(crate) fn show(&mut self, text: &str) {
        let mut end = io::stderr().lock();
        if end.is_terminal() {
            let text: String = text.chars().take(WIDTH - 1).collect();
            self.shown = write!(end, "\r\x1b[2K{text}").and_then(|()| end.flush()).is_ok();
        }
    }

    /// Takes it away, before something else is printed.
    pub(crate) fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            let mut end = io::stderr().lock();
            _ = write!(end, "\r\x1b[2K").and_then(|()| end.flush());
        }
    }
}

/// A count with a comma every three digits.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = {
        let first = digits.len() % 3;
        let (head, rest) = digits.split_at(first);
        let rest = rest.as_bytes().chunks(3).map(|group| std::str::from_utf8(group).unwrap_or_default());
        (!head.is_empty()).then_some(head).into_iter().chain(rest).collect()
    };
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_grouped() {
        assert_eq!(
            [0, 12, 999, 1000, 22_695, 1_234_567].map(count),
            ["0", "12", "999", "1,000", "22,695", "1,234,567"]
        );
    }
}
