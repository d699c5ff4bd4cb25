//! aehost-study
