//! NVIDIA GPUs, as the driver describes them.

use serde::{Deserialize, Serialize};

use crate::nvml;
use crate::reading::Reading;

/// One GPU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gpu {
    /// What the maker calls it.
    pub name: Reading<String>,
    /// All of its memory.
    pub memory_bytes: Reading<u64>,
    /// Memory that was free when the profile was made.
    pub memory_available_bytes: Reading<u64>,
    /// `9.0` for Hopper.
    pub compute_capability: Reading<String>,
    /// Version of the driver.
    pub driver: Reading<String>,
}

/// All GPUs that the driver shows.
pub(super) fn list() -> Reading<Vec<Gpu>> {
    let nvml = match nvml::library() {
        Ok(nvml) => nvml,
        Err(reason) => return Reading::Unavailable { reason },
    };
    let gpus = nvml.device_count().and_then(|count| {
        let describe = |index| {
            let gpu = nvml.device_by_index(index)?;
            let memory = gpu.memory_info();
            let free = gpu.memory_info().map(|memory| memory.free);
            Ok(Gpu {
                name: reading(gpu.name()),
                memory_bytes: reading(memory.map(|memory| memory.total)),
                memory_available_bytes: reading(free),
                compute_capability: reading(gpu.cuda_compute_capability().map(|c| format!("{}.{}", c.major, c.minor))),
                driver: reading(nvml.sys_driver_version()),
            })
        };
        (0..count).map(describe).collect()
    });
    reading(gpus)
}

fn reading<T>(value: Result<T, nvml_wrapper::error::NvmlError>) -> Reading<T> {
    match value {
        Ok(value) => Reading::measured(value, "NVML"),
        Err(error) => Reading::unavailable(format!("NVML does not tell: {error}")),
    }
}
