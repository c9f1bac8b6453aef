//! Threads that share the work of one operator, and wait a moment before they sleep.
//!
//! An operator of a decoder takes tens of microseconds, less than waking a sleeping thread, and the next one follows at
//! once: so a thread looks for work for a while before it sleeps. The host starts the threads, in the browser the page's
//! workers, each calling [`Worker::run`].

use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// How often a thread looks for work before it sleeps: about a tenth of a millisecond. Natively each look rests for
/// some forty nanoseconds; WebAssembly has no such instruction.
const LOOKS: u32 = if cfg!(target_arch = "wasm32") { 100_000 } else { 4_000 };

/// Numbers below which a loop over them is not worth sharing among threads: some microseconds.
const LEAST_STRETCH: usize = 2048;

/// Work on the stack of the thread that waits for it.
struct Job<'a> {
    task: &'a (dyn Fn(usize) + Sync),
}

#[derive(Default)]
struct Shared {
    /// Upper half: number of the job. Lower half: tasks nobody has taken yet.
    open: AtomicU64,
    /// Tasks finished of the present job.
    finished: AtomicU32,
    /// The present job; valid while one of its tasks is not finished.
    job: AtomicPtr<()>,
    /// A task panicked.
    panicked: AtomicBool,
    closed: AtomicBool,
    sleeping: AtomicU32,
    lock: Mutex<()>,
    wake: Condvar,
}

/// A handle to the threads; the last one that is dropped ends them.
#[derive(Clone)]
pub(crate) struct Pool {
    /// `None`: the calling thread works alone.
    threads: Option<Arc<Handle>>,
}

struct Handle {
    shared: Arc<Shared>,
    count: usize,
    /// One operator at a time: a second caller works alone.
    busy: AtomicBool,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        let _held = self.shared.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.shared.wake.notify_all();
    }
}

/// What a thread of the pool runs.
pub struct Worker {
    shared: Arc<Shared>,
}

impl Pool {
    /// The calling thread alone.
    pub fn alone() -> Self {
        Self { threads: None }
    }

    /// The calling thread and as many workers as are given back, each to be run on a thread of its own.
    pub fn with_workers(workers: usize) -> (Self, Vec<Worker>) {
        if workers == 0 {
            return (Self::alone(), Vec::new());
        }
        let shared = Arc::new(Shared::default());
        let handle = Handle { shared: Arc::clone(&shared), count: workers + 1, busy: AtomicBool::new(false) };
        let started = (0..workers).map(|_| Worker { shared: Arc::clone(&shared) }).collect();
        (Self { threads: Some(Arc::new(handle)) }, started)
    }

    /// Threads that work, the calling one among them.
    pub fn threads(&self) -> usize {
        self.threads.as_ref().map_or(1, |handle| handle.count)
    }

    /// Runs `task(0)` to `task(tasks - 1)`, shared among the threads; returns when all have ended.
    pub fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        match &self.threads {
            Some(handle) if tasks > 1 && !handle.busy.swap(true, Ordering::Acquire) => {
                let _free_again = Busy(&handle.busy);
                let panicked = share(&handle.shared, tasks, task);
                assert!(!panicked, "an operator panicked on another thread");
            }
            _ => (0..tasks).for_each(task),
        }
    }

    /// Runs `task` on stretches of whole rows of `x`, with the number of the first row, where there are enough for all
    /// threads.
    pub fn run_rows(&self, x: &mut [f32], columns: usize, task: &(dyn Fn(usize, &mut [f32]) + Sync)) {
        let tasks = (x.len() / LEAST_STRETCH).min(self.threads()).max(1);
        let rows = x.len() / columns.max(1);
        let stretches = Stretches(x.as_mut_ptr());
        let stretches = &stretches;
        self.run(tasks, &|i| {
            let (first, end) = (i * rows / tasks, (i + 1) * rows / tasks);
            // SAFETY: rows of a buffer that is borrowed for all of this call, those of a task by no other.
            let stretch =
                unsafe { std::slice::from_raw_parts_mut(stretches.0.add(first * columns), (end - first) * columns) };
            task(first, stretch);
        });
    }
}

/// A buffer of which each task has its own stretch.
struct Stretches(*mut f32);
// SAFETY: see `run_rows`.
unsafe impl Sync for Stretches {}

/// Frees the pool for the next caller, however this one is left.
struct Busy<'a>(&'a AtomicBool);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Whether a task panicked on a worker.
fn share(shared: &Shared, tasks: usize, task: &(dyn Fn(usize) + Sync)) -> bool {
    let tasks = u32::try_from(tasks).expect("an operator has fewer tasks");
    let job = Job { task };
    shared.finished.store(0, Ordering::Relaxed);
    shared.job.store(ptr::from_ref(&job).cast_mut().cast(), Ordering::Relaxed);
    let number = (shared.open.load(Ordering::Relaxed) >> 32).wrapping_add(1);
    shared.open.store(number << 32 | u64::from(tasks), Ordering::SeqCst);
    if shared.sleeping.load(Ordering::SeqCst) > 0 {
        let _held = shared.lock.lock().unwrap_or_else(PoisonError::into_inner);
        shared.wake.notify_all();
    }
    // However this function is left, no worker may still look at the job.
    let waiting = WaitForAll { shared, tasks };
    while take(shared) {}
    drop(waiting);
    shared.panicked.swap(false, Ordering::Relaxed)
}

struct WaitForAll<'a> {
    shared: &'a Shared,
    tasks: u32,
}

impl Drop for WaitForAll<'_> {
    fn drop(&mut self) {
        // After a panic of the calling thread's own task: nobody begins what is left.
        let left = self.shared.open.fetch_and(!u64::from(u32::MAX), Ordering::AcqRel) as u32;
        let missed = u32::from(std::thread::panicking());
        while self.shared.finished.load(Ordering::Acquire) + left + missed < self.tasks {
            std::hint::spin_loop();
        }
    }
}

/// Takes and runs one task, if one is open.
fn take(shared: &Shared) -> bool {
    let mut open = shared.open.load(Ordering::Acquire);
    loop {
        let left = open as u32;
        if left == 0 {
            return false;
        }
        let job = shared.job.load(Ordering::Acquire);
        match shared.open.compare_exchange_weak(open, open - 1, Ordering::AcqRel, Ordering::Acquire) {
            Err(now) => open = now,
            Ok(_) => {
                // SAFETY: the number in `open` shows that the task belongs to the job whose pointer was read between:
                // a job's pointer is only replaced when all its tasks are finished, and this one isn't. The job lives
                // on the stack of `share`, which waits for all tasks.
                let job = unsafe { &*job.cast_const().cast::<Job<'_>>() };
                (job.task)(left as usize - 1);
                shared.finished.fetch_add(1, Ordering::Release);
                return true;
            }
        }
    }
}

impl Worker {
    /// Works until the pool is dropped.
    pub fn run(self) {
        let shared = &*self.shared;
        loop {
            let worked = (0..LOOKS).any(|_| {
                let open = shared.open.load(Ordering::Relaxed) as u32 > 0;
                if !open {
                    std::hint::spin_loop();
                }
                open
            });
            if worked {
                let taken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| while take(shared) {}));
                if taken.is_err() {
                    shared.panicked.store(true, Ordering::Relaxed);
                    shared.finished.fetch_add(1, Ordering::Release);
                }
            } else if shared.closed.load(Ordering::SeqCst) {
                return;
            } else {
                sleep(shared);
            }
        }
    }
}

fn sleep(shared: &Shared) {
    let held = shared.lock.lock().unwrap_or_else(PoisonError::into_inner);
    shared.sleeping.fetch_add(1, Ordering::SeqCst);
    let idle = |_: &mut ()| shared.open.load(Ordering::SeqCst) as u32 == 0 && !shared.closed.load(Ordering::SeqCst);
    drop(shared.wake.wait_while(held, idle).unwrap_or_else(PoisonError::into_inner));
    shared.sleeping.fetch_sub(1, Ordering::SeqCst);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    fn with_threads(workers: usize, test: impl FnOnce(&Pool)) {
        let (pool, workers) = Pool::with_workers(workers);
        let threads: Vec<_> = workers.into_iter().map(|w| std::thread::spawn(move || w.run())).collect();
        test(&pool);
        drop(pool);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }

    #[test]
    fn every_task_runs_once() {
        with_threads(3, |pool| {
            for tasks in (0..40).chain([1000]).cycle().take(3000) {
                let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                pool.run(tasks, &|i| {
                    counts[i].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
            }
        });
    }

    #[test]
    fn work_after_a_sleep_is_done() {
        with_threads(2, |pool| {
            for _ in 0..5 {
                std::thread::sleep(std::time::Duration::from_millis(5));
                let sum = AtomicUsize::new(0);
                pool.run(100, &|i| {
                    sum.fetch_add(i, Ordering::Relaxed);
                });
                assert_eq!(sum.load(Ordering::Relaxed), 4950);
            }
        });
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_goes_on() {
        with_threads(2, |pool| {
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                pool.run(64, &|i| assert!(i != 17, "on purpose"));
            }));
            assert!(caught.is_err());
            let count = AtomicUsize::new(0);
            pool.run(64, &|_| {
                count.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(count.load(Ordering::Relaxed), 64);
        });
    }

    #[test]
    fn every_row_is_in_one_stretch() {
        with_threads(2, |pool| {
            for (rows, columns) in [(0, 3), (1, 9000), (7, 1000), (10_000, 1), (999, 33)] {
                let mut x = vec![0.0; rows * columns];
                pool.run_rows(&mut x, columns, &|first, rows| {
                    for (i, row) in rows.chunks_mut(columns).enumerate() {
                        row.iter_mut().for_each(|x| *x += (first + i + 1) as f32);
                    }
                });
                assert!(x.iter().enumerate().all(|(i, x)| *x == (i / columns + 1) as f32));
            }
        });
    }

    #[test]
    fn two_callers_do_not_disturb_each_other() {
        with_threads(2, |pool| {
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        for _ in 0..500 {
                            let count = AtomicUsize::new(0);
                            pool.run(16, &|_| {
                                count.fetch_add(1, Ordering::Relaxed);
                            });
                            assert_eq!(count.load(Ordering::Relaxed), 16);
                        }
                    });
                }
            });
        });
    }
}
