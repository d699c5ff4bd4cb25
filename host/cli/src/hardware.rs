//! The machine in one line.

use aehost_meter::HardwareProfile;
use indicatif::BinaryBytes;

/// Processor, cores, memory, bandwidth and GPUs, as far as the machine tells.
pub fn line(profile: &HardwareProfile) -> String {
    let cpu = &profile.cpu;
    let mut parts = vec![cpu.model.value().cloned().unwrap_or_else(|| cpu.architecture.clone())];
    match (cpu.physical_cores.value(), cpu.logical_cores.value()) {
        (Some(physical), Some(logical)) if physical != logical => {
            parts.push(format!("{physical} cores, {logical} threads"))
        }
        (_, Some(cores)) | (Some(cores), None) => parts.push(format!("{cores} cores")),
        (None, None) => {}
    }
    parts.extend(profile.memory.total_bytes.value().map(|bytes| format!("{} of memory", BinaryBytes(*bytes))));
    parts.extend(profile.bandwidth.value().map(|b| format!("reads {:.1} GB/s", b.read_bytes_per_s / 1e9)));
    for gpu in profile.gpus.value().into_iter().flatten() {
        parts.push(gpu.name.value().cloned().unwrap_or_else(|| "a GPU".into()));
    }
    parts.join(" · ")
}

/// The same from the profile that is stored with a study; none where it has another form.
pub fn stored(hardware: &serde_json::Value) -> Option<String> {
    serde_json::from_value::<HardwareProfile>(hardware.clone()).ok().map(|profile| line(&profile))
}
