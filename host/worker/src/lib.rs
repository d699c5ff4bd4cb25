//! One trial: apply a configuration, measure it, evaluate it. The [`Workbench`] does this in its own process; the
//! [`Supervisor`] keeps a workbench in a child process, speaks to it in frames, and restarts it when it dies, so that
//! nothing a configuration does can cost more than its own trial.

mod bench;
mod frame;
mod measure;
mod protocol;
mod serve;
mod setup;
mod supervisor;
mod workbench;

pub use bench::{BenchPlan, BenchResult};
pub use serve::serve;
pub use setup::{CalibrationSetup, Description, PowerModelSetup, Setup};
pub use supervisor::Supervisor;
pub use workbench::Workbench;
