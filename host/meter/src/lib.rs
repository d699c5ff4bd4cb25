//! The meter: latency, memory and energy of a running model on this machine, and a description of the machine.
//!
//! Nothing here knows an engine: work is handed in as a [`latency::Workload`] or a closure. Every figure comes from a
//! clock, a counter or the operating system; what a machine cannot measure is *unavailable* with a reason, or
//! *estimated* from what the user declared, with formula and inputs. No figure is ever silently 0.

pub mod clock;
pub mod device;
pub mod energy;
pub mod hardware;
pub mod latency;
pub mod lock;
pub mod memory;
pub mod noise;
mod nvml;
pub mod others;
mod procfs;
pub mod rapl;
pub mod reading;
pub mod statistics;

pub use device::Device;
pub use energy::{Energy, EnergyMeter, PowerModel};
pub use hardware::HardwareProfile;
pub use latency::{Latency, Plan, Workload};
pub use lock::DeviceLease;
pub use memory::PeakMemory;
pub use noise::Warning;
pub use others::OtherWork;
pub use reading::Reading;
pub use statistics::Summary;
