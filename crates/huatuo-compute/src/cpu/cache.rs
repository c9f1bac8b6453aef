//! Keys and values of one layer, in pages that texts which begin alike share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::kernels::Kernels;
use super::panel::{Element, PANEL_VECTORS};
use crate::Precision;

/// Tokens of a page that may be shared: whole panels on every instruction set.
const PAGE: usize = 64;

/// Keys and values of one layer; room grows with the text, page by page.
pub struct CpuCache {
    pub(super) shape: CacheShape,
    pub(super) pages: Pages,
    /// Bytes of all pages that this device's caches hold, shared ones once.
    memory: Arc<AtomicUsize>,
}

/// How numbers lie in a page.
#[derive(Clone, Copy)]
pub(super) struct CacheShape {
    pub kv_heads: usize,
    pub head_dim: usize,
    /// Rows of a panel.
    pub width: usize,
    /// Tokens of a page, whole panels.
    pub page: usize,
}

/// Pages in either precision.
pub(super) enum Pages {
    F32(Vec<Arc<Page<f32>>>),
    F16(Vec<Arc<Page<u16>>>),
}

/// Some tokens: keys in panels of `width` tokens, `[panel, kv_heads, head_dim, width]`; values `[token, kv_heads, padded]`.
pub(super) struct Page<E> {
    pub keys: Box<[E]>,
    pub values: Box<[E]>,
    memory: Arc<AtomicUsize>,
}

impl CacheShape {
    /// Numbers of a value with its padding to whole panels.
    pub fn padded(self) -> usize {
        self.head_dim.next_multiple_of(self.width)
    }

    /// Numbers of a panel of keys.
    fn panel(self) -> usize {
        self.kv_heads * self.head_dim * self.width
    }

    /// Numbers of a token's values.
    pub fn value(self) -> usize {
        self.kv_heads * self.padded()
    }

    /// Keys and values of a page, in numbers.
    fn page_numbers(self) -> [usize; 2] {
        [self.page / self.width * self.panel(), self.page * self.value()]
    }
}

impl<E: Element> Page<E> {
    fn new(shape: CacheShape, memory: &Arc<AtomicUsize>) -> Self {
        Self::of(shape.page_numbers().map(|len| vec![E::default(); len].into_boxed_slice()), memory)
    }

    fn of([keys, values]: [Box<[E]>; 2], memory: &Arc<AtomicUsize>) -> Self {
        let page = Self { keys, values, memory: Arc::clone(memory) };
        memory.fetch_add(page.bytes(), Ordering::Relaxed);
        page
    }
}

impl<E> Page<E> {
    fn bytes(&self) -> usize {
        (self.keys.len() + self.values.len()) * size_of::<E>()
    }
}

impl<E: Element> Clone for Page<E> {
    fn clone(&self) -> Self {
        Self::of([self.keys.clone(), self.values.clone()], &self.memory)
    }
}

impl<E> Drop for Page<E> {
    fn drop(&mut self) {
        self.memory.fetch_sub(self.bytes(), Ordering::Relaxed);
    }
}

/// The same call on pages of either precision.
macro_rules! with_pages {
    ($pages:expr, $name:ident => $call:expr) => {
        match $pages {
            Pages::F32($name) => $call,
            Pages::F16($name) => $call,
        }
    };
}

impl CpuCache {
    pub(super) fn new(
        kernels: &Kernels,
        kv_heads: usize,
        head_dim: usize,
        precision: Precision,
        memory: &Arc<AtomicUsize>,
    ) -> Self {
        let pages = match precision {
            Precision::F32 => Pages::F32(Vec::new()),
            Precision::F16 => Pages::F16(Vec::new()),
        };
        let shape = CacheShape { kv_heads, head_dim, width: PANEL_VECTORS * kernels.rows, page: PAGE };
        Self { shape, pages, memory: Arc::clone(memory) }
    }

    /// One page of exactly these tokens, for a text that does not grow.
    pub(super) fn of_whole_text(mut self, rows: usize) -> Self {
        self.shape.page = rows.next_multiple_of(self.shape.width);
        self
    }

    /// Writes `rows` tokens behind the first `position`.
    pub(super) fn store(&mut self, keys: &[f32], values: &[f32], rows: usize, position: usize) {
        let (shape, memory) = (self.shape, &self.memory);
        with_pages!(&mut self.pages, pages => store(shape, pages, memory, (keys, values), rows, position));
    }

    /// Reads the first `rows` tokens back.
    pub(super) fn recall(&self, rows: usize, keys: &mut [f32], values: &mut [f32]) {
        with_pages!(&self.pages, pages => recall(self.shape, pages, rows, (keys, values)));
    }

    /// A cache that shares the first `rows` tokens with this one.
    pub(super) fn fork(&self, rows: usize) -> Self {
        let count = rows.div_ceil(self.shape.page);
        let pages = match &self.pages {
            Pages::F32(pages) => Pages::F32(pages[..count].to_vec()),
            Pages::F16(pages) => Pages::F16(pages[..count].to_vec()),
        };
        Self { shape: self.shape, pages, memory: Arc::clone(&self.memory) }
    }

    /// Bytes of its pages, shared ones included.
    pub(super) fn bytes(&self) -> usize {
        // All pages are alike, and a scheduler asks at every step.
        with_pages!(&self.pages, pages => pages.first().map_or(0, |page| pages.len() * page.bytes()))
    }

    /// Bytes that [`Self::store`] would add: of pages that are missing, and of shared ones that it must not write to.
    pub(super) fn growth(&self, rows: usize, position: usize) -> usize {
        let of = |is_shared: &dyn Fn(usize) -> Option<bool>, number_bytes: usize| {
            let touched = position / self.shape.page..(position + rows).div_ceil(self.shape.page);
            let added = touched.filter(|page| is_shared(*page).unwrap_or(true)).count();
            added * self.shape.page_numbers().iter().sum::<usize>() * number_bytes
        };
        match &self.pages {
            Pages::F32(pages) => of(&|at| pages.get(at).map(|page| Arc::strong_count(page) > 1), 4),
            Pages::F16(pages) => of(&|at| pages.get(at).map(|page| Arc::strong_count(page) > 1), 2),
        }
    }
}

fn store<E: Element>(
    shape: CacheShape,
    pages: &mut Vec<Arc<Page<E>>>,
    memory: &Arc<AtomicUsize>,
    (new_keys, new_values): (&[f32], &[f32]),
    rows: usize,
    position: usize,
) {
    let CacheShape { kv_heads, head_dim, width, page: size } = shape;
    let mut row = 0;
    while row < rows {
        let (at, first) = ((position + row) / size, (position + row) % size);
        if at == pages.len() {
            pages.push(Arc::new(Page::new(shape, memory)));
        }
        let page = Arc::make_mut(&mut pages[at]); // a copy, where another text shares it
        let count = (size - first).min(rows - row);
        for token in first..first + count {
            let panel = &mut page.keys[token / width * shape.panel()..][..shape.panel()];
            let value = &mut page.values[token * shape.value()..][..shape.value()];
            for head in 0..kv_heads {
                let from = (row * kv_heads + head) * head_dim;
                for d in 0..head_dim {
                    panel[(head * head_dim + d) * width + token % width] = E::from_f32(new_keys[from + d]);
                    value[head * shape.padded() + d] = E::from_f32(new_values[from + d]);
                }
            }
            row += 1;
        }
    }
}

fn recall<E: Element>(
    shape: CacheShape,
    pages: &[Arc<Page<E>>],
    rows: usize,
    (into_keys, into_values): (&mut [f32], &mut [f32]),
) {
    let CacheShape { kv_heads, head_dim, width, page: size } = shape;
    for row in 0..rows {
        let (page, token) = (&pages[row / size], row % size);
        let panel = &page.keys[token / width * shape.panel()..];
        let value = &page.values[token * shape.value()..];
        for head in 0..kv_heads {
            for d in 0..head_dim {
                let to = (row * kv_heads + head) * head_dim + d;
                into_keys[to] = panel[(head * head_dim + d) * width + token % width].to_f32();
                into_values[to] = value[head * shape.padded() + d].to_f32();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::kernels::available;

    fn noise(seed: usize, len: usize) -> Vec<f32> {
        (0..len).map(|i| ((i * 7919 + seed * 104_729) % 1009) as f32 / 504.5 - 1.0).collect()
    }

    fn recalled(cache: &CpuCache, rows: usize) -> [Vec<f32>; 2] {
        let len = rows * cache.shape.kv_heads * cache.shape.head_dim;
        let (mut keys, mut values) = (vec![0.0; len], vec![0.0; len]);
        cache.recall(rows, &mut keys, &mut values);
        [keys, values]
    }

    #[test]
    fn texts_that_begin_alike_share_pages_until_one_of_them_writes() {
        const ROWS: usize = 3 * PAGE / 2;
        for kernels in available() {
            let memory = Arc::new(AtomicUsize::new(0));
            let used = || memory.load(Ordering::Relaxed);
            let mut first = CpuCache::new(kernels, 2, 8, Precision::F32, &memory);
            let (keys, values) = (noise(1, ROWS * 16), noise(2, ROWS * 16));
            assert_eq!(first.growth(ROWS, 0), 2 * page_bytes(&first));
            first.store(&keys, &values, ROWS, 0);
            assert_eq!(used(), 2 * page_bytes(&first));
            let mut second = first.fork(PAGE + 1);
            assert_eq!((used(), second.growth(1, PAGE + 1)), (2 * page_bytes(&first), page_bytes(&first)));
            second.store(&[9.0; 16], &[8.0; 16], 1, PAGE + 1);
            assert_eq!((used(), second.growth(1, PAGE + 2)), (3 * page_bytes(&first), 0));
            assert_eq!(recalled(&first, ROWS), [keys.clone(), values.clone()]);
            let [own_keys, own_values] = recalled(&second, PAGE + 2);
            assert_eq!(own_keys[..(PAGE + 1) * 16], keys[..(PAGE + 1) * 16]);
            assert_eq!((own_keys[(PAGE + 1) * 16], own_values[(PAGE + 1) * 16]), (9.0, 8.0));
            drop((first, second));
            assert_eq!(used(), 0);
        }
    }

    fn page_bytes(cache: &CpuCache) -> usize {
        4 * cache.shape.page_numbers().iter().sum::<usize>()
    }
}
