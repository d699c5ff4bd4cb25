//! aehost-meter
