//! aehost-plugins
