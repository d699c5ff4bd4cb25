//! The model as data: functions made of nodes, over one set of named weights. This crate owns the graph, its validation
//! and its edits; it holds no numbers and does no I/O. Ids are never reused, so a plugin may keep them across edits.

mod edit;
mod graph;
mod ops;
mod order;

pub use edit::EditError;
pub use graph::{Filter, Function, Graph, Node, NodeId, Port, Slot, Spec, ValueId, ValueType};
pub use ops::{OpInfo, check_attributes, op_info, ops};
