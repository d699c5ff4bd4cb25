//! aehost-formats
