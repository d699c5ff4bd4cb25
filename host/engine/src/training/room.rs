//! Memory that values and gradients stand in, kept from one to the next: the system gives fresh memory a page at a time, which
//! takes longer than most steps.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Buffers by length.
#[derive(Default)]
pub(super) struct Room(Mutex<HashMap<usize, Buffers>>);

#[derive(Default)]
struct Buffers {
    /// Those that nobody needs at the moment.
    free: Vec<Vec<f32>>,
    /// How many are out. No more are taken back: what comes from elsewhere would pile up.
    lent: usize,
}

impl Room {
    fn all(&self) -> MutexGuard<'_, HashMap<usize, Buffers>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A buffer that holds whatever it held.
    pub fn take(&self, len: usize) -> Vec<f32> {
        let mut all = self.all();
        let buffers = all.entry(len).or_default();
        buffers.lent += 1;
        buffers.free.pop().unwrap_or_else(|| vec![0f32; len])
    }

    /// Takes a buffer back, where nobody else has it.
    pub fn give(&self, buffer: Option<Arc<Vec<f32>>>) {
        let Some(buffer) = buffer.and_then(Arc::into_inner) else { return };
        if let Some(buffers) = self.all().get_mut(&buffer.len()).filter(|buffers| buffers.lent > 0) {
            buffers.lent -= 1;
            buffers.free.push(buffer);
        }
    }

    /// Lets go of all.
    pub fn clear(&self) {
        self.all().clear();
    }
}
