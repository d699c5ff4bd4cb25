//! aehost-hub
