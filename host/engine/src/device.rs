//! Devices by name.

use crate::EngineError;
use candle_core::Device;

/// The device named `cpu` or `cuda:N`.
pub fn device(name: &str) -> Result<Device, EngineError> {
    if name == "cpu" {
        return Ok(Device::Cpu);
    }
    let index = match name.strip_prefix("cuda") {
        Some("") => Some(0),
        Some(rest) => rest.strip_prefix(':').and_then(|n| n.parse::<usize>().ok()),
        None => None,
    }
    .ok_or_else(|| EngineError::Invalid(format!("device `{name}` is unknown: use cpu, or cuda:N with N from 0")))?;
    if !cfg!(feature = "cuda") {
        return Err(EngineError::Unsupported(format!(
            "device `{name}`: this aehost was built without CUDA; rebuild it with --features cuda"
        )));
    }
    Device::new_cuda(index).map_err(|e| EngineError::Unsupported(format!("device `{name}` cannot be opened: {e}")))
}
