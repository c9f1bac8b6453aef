//! Unquantized numbers in panels: `PANEL_VECTORS · ROWS` rows side by side, a column after the other.
//!
//! Weights, cached keys (a row a token) and cached values (a row a dimension, a column a token) are all read this way.

use super::lanes::Lanes;

/// Vectors side by side: two, so that with four tokens eight sums are under way at once.
pub(super) const PANEL_VECTORS: usize = 2;

/// A number as it is stored.
pub(super) trait Element: Copy + Default + Send + Sync + 'static {
    /// Rounds a number to the stored precision.
    fn from_f32(x: f32) -> Self;
    /// The number in single precision.
    fn to_f32(self) -> f32;
    /// Reads one vector.
    ///
    /// # Safety
    ///
    /// That of [`Lanes`].
    unsafe fn load<L: Lanes>(at: *const Self) -> L::Floats;
}

impl Element for f32 {
    fn from_f32(x: f32) -> f32 {
        x
    }
    fn to_f32(self) -> f32 {
        self
    }
    #[inline(always)]
    unsafe fn load<L: Lanes>(at: *const f32) -> L::Floats {
        // SAFETY: the caller's.
        unsafe { L::load_f32(at) }
    }
}

/// Half precision.
impl Element for u16 {
    fn from_f32(x: f32) -> u16 {
        half::f16::from_f32(x).to_bits()
    }
    fn to_f32(self) -> f32 {
        half::f16::from_bits(self).to_f32()
    }
    #[inline(always)]
    unsafe fn load<L: Lanes>(at: *const u16) -> L::Floats {
        // SAFETY: the caller's.
        unsafe { L::load_f16(at) }
    }
}

/// Columns of a panel, `stride` numbers from one to the next.
#[derive(Clone, Copy)]
pub(super) struct Panel<E> {
    pub weights: *const E,
    pub columns: usize,
    pub stride: usize,
}

/// `out[t][row] = Σ x[t][column · step] · panel[column][row]` for the first `kept` rows.
///
/// # Safety
///
/// That of [`Lanes`]; the panel is readable for whole vectors in every column, `x` for `columns` numbers `step` apart,
/// `out` writable for `kept`.
#[inline(always)]
pub(super) unsafe fn multiply<L: Lanes, E: Element, const T: usize>(
    panel: Panel<E>,
    x: [*const f32; T],
    step: usize,
    out: [*mut f32; T],
    kept: usize,
) {
    // SAFETY: the caller's.
    unsafe {
        let mut sums = no_sums::<L, T>();
        accumulate::<L, E, T>(panel, x, step, &mut sums);
        for (sums, out) in sums.into_iter().zip(out) {
            store::<L>(sums, out, kept);
        }
    }
}

/// Sums of a panel's rows for so many tokens.
pub(super) type Sums<L, const T: usize> = [[<L as Lanes>::Floats; PANEL_VECTORS]; T];

/// Sums of nothing.
///
/// # Safety
///
/// That of [`Lanes`].
#[inline(always)]
pub(super) unsafe fn no_sums<L: Lanes, const T: usize>() -> Sums<L, T> {
    // SAFETY: the caller's.
    [[unsafe { L::splat(0.0) }; PANEL_VECTORS]; T]
}

/// Adds the products of a panel's columns to sums.
///
/// # Safety
///
/// That of [`multiply`].
#[inline(always)]
pub(super) unsafe fn accumulate<L: Lanes, E: Element, const T: usize>(
    panel: Panel<E>,
    x: [*const f32; T],
    step: usize,
    sums: &mut Sums<L, T>,
) {
    // SAFETY: the caller's.
    unsafe {
        for column in 0..panel.columns {
            add_column::<L, E, T>(panel, column, x.map(|x| x.add(column * step)), sums);
        }
    }
}

/// Adds the products of one column.
///
/// # Safety
///
/// That of [`multiply`].
#[inline(always)]
pub(super) unsafe fn add_column<L: Lanes, E: Element, const T: usize>(
    panel: Panel<E>,
    column: usize,
    x: [*const f32; T],
    sums: &mut Sums<L, T>,
) {
    // SAFETY: the caller's.
    unsafe {
        let at = panel.weights.add(column * panel.stride);
        let w: [L::Floats; PANEL_VECTORS] = std::array::from_fn(|v| E::load::<L>(at.add(v * L::ROWS)));
        for (x, sums) in x.into_iter().zip(sums) {
            let x = L::splat(*x);
            for (w, sum) in w.into_iter().zip(sums) {
                *sum = L::mul_add(w, x, *sum);
            }
        }
    }
}

/// Writes the first `kept` of the vectors' numbers.
///
/// # Safety
///
/// That of [`Lanes`]; `out` is writable for `kept` numbers.
#[inline(always)]
pub(super) unsafe fn store<L: Lanes>(sums: [L::Floats; PANEL_VECTORS], out: *mut f32, kept: usize) {
    // SAFETY: the caller's; the array holds the widest panel.
    unsafe {
        if kept == PANEL_VECTORS * L::ROWS {
            for (v, sum) in sums.into_iter().enumerate() {
                L::store(sum, out.add(v * L::ROWS));
            }
        } else {
            let mut all = [0.0f32; PANEL_VECTORS * 16];
            for (v, sum) in sums.into_iter().enumerate() {
                L::store(sum, all.as_mut_ptr().add(v * L::ROWS));
            }
            std::ptr::copy_nonoverlapping(all.as_ptr(), out, kept);
        }
    }
}
