//! aehost-graph
