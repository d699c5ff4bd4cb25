//! aehost-sdk
