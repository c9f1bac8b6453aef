//! The processor that everything in this instance computes on, with the page's workers as its threads.

use std::cell::RefCell;

use huatuo_compute::{Cpu, Worker};
use wasm_bindgen::prelude::wasm_bindgen;

thread_local! {
    static CPU: RefCell<Option<Cpu>> = const { RefCell::new(None) };
}

/// The processor; one thread unless [`add_threads`] came first.
pub fn cpu() -> Cpu {
    CPU.with_borrow_mut(|cpu| cpu.get_or_insert_with(Cpu::new).clone())
}

/// A thread of this instance's memory that waits to be run by a worker.
#[wasm_bindgen]
pub struct Thread {
    worker: Worker,
}

#[wasm_bindgen]
impl Thread {
    /// Passes the thread on to another worker as a number; that worker takes it up with [`Thread::run`].
    #[wasm_bindgen(js_name = intoHandle)]
    pub fn into_handle(self) -> usize {
        Box::into_raw(Box::new(self.worker)) as usize
    }

    /// Works for the instance whose memory this one shares; does not return while that one lives.
    ///
    /// # Safety
    ///
    /// `handle` was given by [`Thread::into_handle`] on the same memory and is used once.
    pub unsafe fn run(handle: usize) {
        // SAFETY: the caller's.
        unsafe { Box::from_raw(handle as *mut Worker) }.run();
    }
}

/// Prepares `count` threads beside the calling one; call before anything is loaded, in the build with shared memory.
#[wasm_bindgen(js_name = addThreads)]
pub fn add_threads(count: usize) -> Vec<Thread> {
    let count = if cfg!(target_feature = "atomics") { count } else { 0 };
    let (cpu, workers) = Cpu::with_workers(count);
    CPU.set(Some(cpu));
    workers.into_iter().map(|worker| Thread { worker }).collect()
}

/// The instruction set in use, for people.
#[wasm_bindgen(js_name = instructionSet)]
pub fn instruction_set() -> String {
    cpu().instruction_set().to_owned()
}
