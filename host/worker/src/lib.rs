//! aehost-worker
