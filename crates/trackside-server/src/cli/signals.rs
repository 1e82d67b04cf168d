//! SIGINT and SIGTERM: the first asks for a drain, the second ends the process at once. SIGHUP asks for a reload; when
//! it comes because the terminal is gone, it asks for a drain as well.

use super::INTERRUPTED;
use std::io::{self, IsTerminal};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// To end.
    End,
    /// To read the pipeline file again.
    Reload,
}

/// Listens from now on.
pub(crate) struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    hangup: tokio::signal::unix::Signal,
    /// Whether it was started in a terminal.
    #[cfg(unix)]
    terminal: bool,
}

impl Signals {
    /// Takes the signals; needs a runtime.
    pub(crate) fn listen() -> io::Result<Self> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            Ok(Self {
                interrupt: signal(SignalKind::interrupt())?,
                terminate: signal(SignalKind::terminate())?,
                hangup: signal(SignalKind::hangup())?,
                terminal: io::stderr().is_terminal(),
            })
        }
        #[cfg(not(unix))]
        Ok(Self {})
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) -> Asked {
        #[cfg(unix)]
        tokio::select! {
            _ = self.interrupt.recv() => Asked::End,
            _ = self.terminate.recv() => Asked::End,
            // A terminal that was closed is none any more: nobody is left to end what ran in it.
            _ = self.hangup.recv() => if self.terminal && !io::stderr().is_terminal() { Asked::End } else { Asked::Reload },
        }
        #[cfg(not(unix))]
        {
            // Without a console there is no Ctrl-C to wait for.
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
            Asked::End
        }
    }

    /// From now on a signal ends the process: whoever asks twice means it. What was acknowledged is on the disk.
    pub(crate) fn end_at_next(mut self) {
        tokio::spawn(async move {
            while self.next().await != Asked::End {}
            std::process::exit(INTERRUPTED);
        });
    }
}
