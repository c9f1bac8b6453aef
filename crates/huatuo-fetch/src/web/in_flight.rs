//! A request under way: it is aborted when nobody wants it any more, or when it is silent for too long.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use js_sys::Function;
use wasm_bindgen::prelude::*;
use web_sys::{AbortController, AbortSignal};

/// Parts that the longest silence is watched in. A page that was frozen, or a thread that computed, finds one tick and its
/// data both waiting, in any order; only this many ticks without data between them tell that none comes.
const TICKS: u32 = 4;

#[wasm_bindgen]
extern "C" {
    // Runtimes differ in what they give, a number or an object.
    #[wasm_bindgen(js_name = setInterval)]
    fn set_interval(callback: &Function, ms: f64) -> JsValue;

    #[wasm_bindgen(js_name = clearInterval)]
    fn clear_interval(interval: &JsValue);
}

/// Aborts its request when it is dropped, unless it was finished.
pub(super) struct InFlight {
    controller: AbortController,
    silent_ticks: Rc<Cell<u32>>,
    interval: JsValue,
    finished: bool,
    /// The interval calls it, so it lives as long.
    _tick: Closure<dyn FnMut()>,
}

impl InFlight {
    /// Starts to watch for silence.
    pub fn new(silence: Duration) -> Result<Self, JsValue> {
        let controller = AbortController::new()?;
        let silent_ticks = Rc::new(Cell::new(0));
        let tick = {
            let (controller, silent_ticks) = (controller.clone(), silent_ticks.clone());
            Closure::<dyn FnMut()>::new(move || {
                silent_ticks.set(silent_ticks.get() + 1);
                if silent_ticks.get() >= TICKS {
                    controller.abort();
                }
            })
        };
        let interval = set_interval(tick.as_ref().unchecked_ref(), silence.as_secs_f64() * 1000.0 / f64::from(TICKS));
        Ok(Self { controller, silent_ticks, interval, finished: false, _tick: tick })
    }

    /// What the request must listen to.
    pub fn signal(&self) -> AbortSignal {
        self.controller.signal()
    }

    /// To be called whenever something came.
    pub fn progress(&self) {
        self.silent_ticks.set(0);
    }

    /// Whether the request was aborted because it was silent.
    pub fn stalled(&self) -> bool {
        self.silent_ticks.get() >= TICKS
    }

    /// Nothing is left to abort.
    pub fn finish(mut self) {
        self.finished = true;
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        clear_interval(&self.interval);
        if !self.finished {
            self.controller.abort();
        }
    }
}
