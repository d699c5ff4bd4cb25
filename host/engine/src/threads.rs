//! What threads share, and what each has to itself.

use std::cell::RefCell;

/// A pointer that threads may share; its users write disjoint elements.
#[derive(Clone, Copy)]
pub(crate) struct SendPointer(pub *mut f32);
// SAFETY: the pointer is only dereferenced in the blocks that state why their writes are disjoint.
unsafe impl Send for SendPointer {}
// SAFETY: as above.
unsafe impl Sync for SendPointer {}
impl SendPointer {
    pub fn get(self) -> *mut f32 {
        self.0
    }
}

thread_local! {
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Calls `f` with a scratch of this thread, at least `len` long.
pub(crate) fn with_scratch<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    SCRATCH.with(|cell| {
        // Taken out for the call, so that a nested call gets a scratch of its own.
        let mut scratch = cell.take();
        if scratch.len() < len {
            scratch.resize(len, 0.0);
        }
        let result = f(&mut scratch[..len]);
        cell.replace(scratch);
        result
    })
}
