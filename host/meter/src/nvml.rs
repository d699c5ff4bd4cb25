//! NVIDIA's management library, opened once, and the way from a CUDA index to the GPU that it names.

use std::sync::OnceLock;

use nvml_wrapper::Nvml;
use nvml_wrapper::enums::device::UsedGpuMemory;

/// The library, or why it cannot be used here.
pub(crate) fn library() -> Result<&'static Nvml, String> {
    static LIBRARY: OnceLock<Result<Nvml, String>> = OnceLock::new();
    let opened =
        LIBRARY.get_or_init(|| Nvml::init().map_err(|e| format!("NVIDIA's driver library (NVML) is not usable: {e}")));
    opened.as_ref().map_err(Clone::clone)
}

/// The GPU that CUDA calls `index` in this process.
pub(crate) fn gpu(index: u32) -> Result<nvml_wrapper::Device<'static>, String> {
    let nvml = library()?;
    let count = nvml.device_count().map_err(|e| format!("NVML cannot count the GPUs: {e}"))?;
    let visible = std::env::var("CUDA_VISIBLE_DEVICES").ok();
    let opened = match visible_name(visible.as_deref(), index)? {
        Name::Uuid(uuid) => nvml.device_by_uuid(uuid),
        Name::Index(number) => {
            let ordered = std::env::var("CUDA_DEVICE_ORDER").is_ok_and(|order| order == "PCI_BUS_ID");
            if !ordered && !all_alike(nvml, count) {
                return Err("the GPUs of this machine differ, and CUDA orders them by speed but NVML by slot: set \
                            CUDA_DEVICE_ORDER=PCI_BUS_ID"
                    .to_owned());
            }
            nvml.device_by_index(number)
        }
    };
    opened.map_err(|e| format!("NVML has no GPU cuda:{index} (it sees {count}): {e}"))
}

fn all_alike(nvml: &Nvml, count: u32) -> bool {
    let name = |i| nvml.device_by_index(i).and_then(|gpu| gpu.name()).ok();
    (1..count).all(|i| name(i) == name(0))
}

#[derive(Debug, PartialEq)]
enum Name {
    Index(u32),
    Uuid(String),
}

/// What NVML calls the GPU with a CUDA index, given the value of `CUDA_VISIBLE_DEVICES`.
fn visible_name(visible: Option<&str>, index: u32) -> Result<Name, String> {
    let Some(visible) = visible else {
        return Ok(Name::Index(index));
    };
    let entry = visible.split(',').map(str::trim).filter(|entry| !entry.is_empty()).nth(index as usize);
    let entry = entry.ok_or_else(|| format!("CUDA_VISIBLE_DEVICES=`{visible}` hides cuda:{index}"))?;
    Ok(entry.parse().map(Name::Index).unwrap_or_else(|_| Name::Uuid(entry.to_owned())))
}

/// Bytes that a process holds on a GPU.
pub(crate) fn memory_of(gpu: &nvml_wrapper::Device<'_>, pid: u32) -> Result<u64, String> {
    let processes =
        gpu.running_compute_processes().map_err(|e| format!("NVML cannot list the GPU's processes: {e}"))?;
    let Some(process) = processes.iter().find(|process| process.pid == pid) else {
        return Err(format!(
            "NVML lists no process {pid} on this GPU: it has allocated nothing there, or runs in a container with process \
             numbers of its own"
        ));
    };
    match process.used_gpu_memory {
        UsedGpuMemory::Used(bytes) => Ok(bytes),
        UsedGpuMemory::Unavailable => Err("the GPU's driver does not tell how much a process holds".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuda_indices_follow_the_visible_devices() {
        assert_eq!(visible_name(None, 2), Ok(Name::Index(2)));
        assert_eq!(visible_name(Some("3, 1"), 1), Ok(Name::Index(1)));
        assert_eq!(visible_name(Some("GPU-8932f937"), 0), Ok(Name::Uuid("GPU-8932f937".to_owned())));
        assert_eq!(visible_name(Some("0"), 1), Err("CUDA_VISIBLE_DEVICES=`0` hides cuda:1".to_owned()));
    }
}
