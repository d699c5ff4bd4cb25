//! One trial: apply a configuration, measure it, evaluate it. A [`Workbench`] applies configurations, which share what they
//! have in common. The [`Supervisor`] keeps one in a child process for the whole of a study, and measures each variant that
//! it makes in another process that did nothing else; it speaks to both in frames, and starts them again when they die, so
//! that nothing a configuration does can cost more than its own trial.

mod bench;
mod companions;
mod folder;
mod frame;
mod made;
mod measure;
mod process;
mod protocol;
mod rig;
mod serve;
mod setup;
mod supervisor;
mod training;
mod workbench;

pub use bench::{BenchPlan, BenchResult, ImageFigures};
pub use serve::serve;
pub use setup::{CalibrationSetup, Description, PowerModelSetup, Setup, TrainingSetup};
pub use supervisor::Supervisor;
pub use workbench::Workbench;
