//! aehost-engine
