//! Handing control back to the browser between tokens, so that a stop gets through.

use std::cell::{Cell, RefCell};
use std::ops::ControlFlow;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use huatuo_generate::Pace;
use js_sys::{Function, Promise, Reflect};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

/// Yields to the event loop and asks whether the answer was stopped.
#[derive(Clone, Default)]
pub struct EventLoop {
    stopped: Rc<Cell<bool>>,
    /// Who waits for a stop.
    waiting: Rc<RefCell<Option<Waker>>>,
}

impl EventLoop {
    /// Stops the running answer, or allows a new one.
    pub fn set_stopped(&self, stopped: bool) {
        self.stopped.set(stopped);
        if let Some(waker) = self.waiting.take().filter(|_| stopped) {
            waker.wake();
        }
    }

    /// Ready once the answer was stopped.
    pub fn poll_stopped(&self, context: &Context<'_>) -> Poll<()> {
        if self.stopped.get() {
            return Poll::Ready(());
        }
        *self.waiting.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    }

    /// Whether the answer was stopped.
    pub fn is_stopped(&self) -> bool {
        self.stopped.get()
    }
}

impl Pace for EventLoop {
    async fn pause(&mut self) -> ControlFlow<()> {
        // A zero timeout is clamped to 4 ms after a few rounds; `scheduler.yield` and a message channel are not.
        // The SDK's worker provides the fastest there is under this name.
        let yielded = Reflect::get(&js_sys::global(), &JsValue::from_str("huatuoYield"))
            .ok()
            .and_then(|function| function.dyn_into::<Function>().ok())
            .and_then(|function| function.call0(&JsValue::UNDEFINED).ok())
            .and_then(|value| value.dyn_into::<Promise>().ok());
        if let Some(promise) = yielded {
            let _ = JsFuture::from(promise).await; // a rejected pause is a pause all the same
        }
        if self.stopped.get() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}
