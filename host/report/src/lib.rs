//! aehost-report
