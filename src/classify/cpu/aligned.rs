//! A fixed-length buffer that starts on a cache line, so that no vector load of a packed panel straddles two.

use std::ops::{Deref, DerefMut};

/// A cache line of every processor with a kernel here, in bytes.
const LINE: usize = 64;

/// Zeroed on creation, never grown; derefs to its slice.
pub(crate) struct Aligned<T> {
    storage: Vec<T>,
    start: usize,
    len: usize,
}

impl<T: Copy + Default> Aligned<T> {
    pub(crate) fn zeroed(len: usize) -> Self {
        let spare = LINE / size_of::<T>();
        let storage = vec![T::default(); len + spare];
        // `align_offset` may decline (it does under Miri); an unaligned start is slower, never wrong.
        let start = Some(storage.as_ptr().align_offset(LINE))
            .filter(|&offset| offset <= spare)
            .unwrap_or(0);
        Self { storage, start, len }
    }
}

impl<T> Deref for Aligned<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.storage[self.start..self.start + self.len]
    }
}

impl<T> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.storage[self.start..self.start + self.len]
    }
}
