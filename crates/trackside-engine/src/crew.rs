//! The threads of one part of the pipeline, and how a part that is replaced makes way for the next.
//!
//! A source, model or sink has a [`Crew`]: its threads and their stop signal. When a reload replaces it, the old crew is
//! asked to end and becomes [`Leaving`]; the new crew's threads first wait until it has gone. So never are two at work on
//! one port, one worker or one table, and whoever reloads need not wait for a slow one.

use crate::data_dir::StartError;
use crate::derived::lock;
use crate::stop::Stop;
use std::sync::{Arc, Mutex, TryLockError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often a wait for threads looks whether they have ended.
const LOOK: Duration = Duration::from_millis(1);

/// Threads that end together.
#[derive(Debug, Default)]
pub(crate) struct Crew {
    /// Their signal.
    pub(crate) stop: Stop,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Crew {
    /// Starts one more, which begins once those before it have gone.
    pub(crate) fn spawn(
        &self,
        name: &str,
        after: &Arc<Leaving>,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<(), StartError> {
        let after = after.clone();
        let run = move || {
            after.wait();
            run();
        };
        lock(&self.threads).push(spawn(name.to_owned(), run)?);
        Ok(())
    }

    /// Waits until all have ended, or until the deadline.
    pub(crate) fn join(&self, deadline: Instant) {
        join(std::mem::take(&mut *lock(&self.threads)), deadline);
    }

    /// Asks all to end by `deadline`; they leave.
    fn leave(&self, deadline: Instant) -> Vec<JoinHandle<()>> {
        self.stop.set(deadline);
        std::mem::take(&mut *lock(&self.threads))
    }
}

/// Crews that were asked to end.
#[derive(Debug, Default)]
pub(crate) struct Leaving(Mutex<Gone>);

/// Those that left earlier and may not have gone yet, and those that leave now.
#[derive(Debug, Default)]
struct Gone {
    before: Option<Arc<Leaving>>,
    threads: Vec<JoinHandle<()>>,
}

impl Leaving {
    /// Asks crews to end by `deadline`.
    pub(crate) fn new<'a>(
        before: &Arc<Leaving>,
        crews: impl IntoIterator<Item = &'a Crew>,
        deadline: Instant,
    ) -> Arc<Self> {
        let threads: Vec<_> = crews.into_iter().flat_map(|crew| crew.leave(deadline)).collect();
        if threads.is_empty() {
            return before.clone();
        }
        Arc::new(Self(Mutex::new(Gone { before: Some(before.clone()), threads })))
    }

    /// Waits until they have gone. A thread waits only for those that left before it came, so nobody waits in a circle.
    fn wait(&self) {
        let mut gone = lock(&self.0);
        if let Some(before) = gone.before.take() {
            before.wait();
        }
        gone.threads.drain(..).for_each(told);
    }

    /// Whether they have gone, by the deadline.
    pub(crate) fn gone_by(&self, deadline: Instant) -> bool {
        loop {
            if self.gone() {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(LOOK);
        }
    }

    fn gone(&self) -> bool {
        let gone = match self.0.try_lock() {
            Ok(gone) => gone,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return false, // somebody waits for them
        };
        gone.threads.iter().all(JoinHandle::is_finished) && gone.before.as_ref().is_none_or(|before| before.gone())
    }
}

/// Waits for threads to end, until the deadline. One that does not is left behind: the process is about to end.
pub(crate) fn join(threads: Vec<JoinHandle<()>>, deadline: Instant) {
    for thread in threads {
        while !thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(LOOK);
        }
        if thread.is_finished() {
            told(thread);
        }
    }
}

fn told(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("a thread of the pipeline panicked; please report this");
    }
}

pub(crate) fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StartError> {
    std::thread::Builder::new().name(name).spawn(run).map_err(|error| {
        StartError::Failed(format!("a thread could not be started: {error}; raise the limit of processes (ulimit -u)"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn a_new_crew_begins_when_the_old_one_has_gone() {
        let (crew, nobody) = (Crew::default(), Arc::<Leaving>::default());
        let (tell, told) = channel();
        let (stop, first) = (crew.stop.clone(), tell.clone());
        let run = move || {
            while !stop.wait(Duration::from_secs(60)) {}
            first.send("old").unwrap();
        };
        crew.spawn("old", &nobody, run).unwrap();
        let leaving = Leaving::new(&nobody, [&crew], Instant::now());
        let next = Crew::default();
        next.spawn("new", &leaving, move || tell.send("new").unwrap()).unwrap();
        next.join(Instant::now() + Duration::from_secs(60));
        assert_eq!(told.iter().collect::<Vec<_>>(), ["old", "new"]);
        assert!(leaving.gone_by(Instant::now()));
        assert!(Arc::ptr_eq(&leaving, &Leaving::new(&leaving, [&crew], Instant::now())), "nobody left");
    }
}
