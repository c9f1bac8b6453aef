//! A few threads that wait for the network, so that reads awaited together overlap without an executor.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use futures_channel::oneshot;

/// Most jobs at once. A trip of a search reads some dozens of blocks; a static host serves as many to one client without
/// complaint, and their threads do nothing but wait.
pub(super) const THREADS: usize = 32;

type Job = Box<dyn FnOnce() + Send>;

/// Runs a job on one of the pool's threads; `None` if it panicked. A job whose future is dropped before it begins is never
/// run.
pub(super) async fn run<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (sender, receiver) = oneshot::channel();
    POOL.submit(Box::new(move || {
        if !sender.is_canceled() {
            // Nobody waits any more if this fails.
            let _ = sender.send(job());
        }
    }));
    receiver.await.ok()
}

static POOL: Pool =
    Pool { state: Mutex::new(State { jobs: VecDeque::new(), threads: 0, idle: 0 }), work: Condvar::new() };

struct Pool {
    state: Mutex<State>,
    work: Condvar,
}

struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

impl Pool {
    /// Starts a thread only if no idle one is left for the job.
    fn submit(&'static self, job: Job) {
        let mut state = self.lock();
        state.jobs.push_back(job);
        if state.jobs.len() <= state.idle || state.threads == THREADS {
            self.work.notify_one();
            return;
        }
        let builder = std::thread::Builder::new().name("huatuo-fetch".to_owned());
        match builder.spawn(|| self.serve()) {
            Ok(_) => state.threads += 1,
            // The threads there are will come to it; without any, the caller does it.
            Err(_) if state.threads > 0 => self.work.notify_one(),
            Err(_) => {
                let job = state.jobs.pop_back();
                drop(state);
                job.into_iter().for_each(|job| job());
            }
        }
    }

    fn serve(&self) {
        loop {
            let job = self.next();
            // The one who waits is told by its closed channel; this thread goes on.
            let _ = catch_unwind(AssertUnwindSafe(job));
        }
    }

    fn next(&self) -> Job {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return job;
            }
            state.idle += 1;
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use futures_util::future::join_all;
    use pollster::block_on;

    use super::*;

    #[test]
    fn jobs_overlap_but_never_more_than_allowed() {
        static NOW: AtomicUsize = AtomicUsize::new(0);
        static MOST: AtomicUsize = AtomicUsize::new(0);
        let job = || {
            MOST.fetch_max(NOW.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(20));
            NOW.fetch_sub(1, Ordering::SeqCst);
        };
        let done = block_on(join_all((0..3 * THREADS).map(|_| run(job))));
        assert!(done.iter().all(Option::is_some));
        assert!((2..=THREADS).contains(&MOST.load(Ordering::SeqCst)));
    }

    #[test]
    fn a_job_that_panics_harms_no_other() {
        assert_eq!(block_on(run(|| -> u8 { panic!("on purpose") })), None);
        assert_eq!(block_on(run(|| 7)), Some(7));
    }
}
