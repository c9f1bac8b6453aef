//! Texts leave nothing behind in memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering};

/// Bytes that are allocated and not freed.
static LIVE: AtomicIsize = AtomicIsize::new(0);

struct Counting;

// SAFETY: the system's allocator does it all.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn nothing_is_kept_of_texts() {
    let sound = r#"{"model":{"type":"BPE","unk_token":"u","vocab":{"u":0,"a":1,"aa":2},"merges":[["a","a"]]}}"#;
    let tokenizer = huatuo_tokenizer::from_json(sound.as_bytes()).unwrap();
    let encode = |i: usize| drop(tokenizer.encode(format!("{}{i}", "a".repeat(i % 200)), true).unwrap());
    (0..10).for_each(encode);
    let before = LIVE.load(Ordering::Relaxed);
    (0..2000).for_each(encode);
    let kept = LIVE.load(Ordering::Relaxed) - before;
    assert!(kept < 1000, "{kept} bytes are kept");
}
