//! aehost-common
