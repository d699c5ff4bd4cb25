//! What machine this is: processor, memory, GPUs, system. It is stored with every study, because its figures hold for this
//! machine only, and handed to techniques as facts.

mod arithmetic;
mod bandwidth;
mod cgroup;
mod cpu;
mod gpu;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::procfs;
use crate::reading::Reading;

pub use arithmetic::Arithmetic;
pub use bandwidth::Bandwidth;
pub use cpu::{Caches, Cpu};
pub use gpu::Gpu;

/// The machine as this process may use it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HardwareProfile {
    /// Processor.
    pub cpu: Cpu,
    /// Memory.
    pub memory: Memory,
    /// Memory bandwidth, from a short probe.
    pub bandwidth: Reading<Bandwidth>,
    /// GPUs, in NVML's order; empty where the driver is there and lists none.
    pub gpus: Reading<Vec<Gpu>>,
    /// System.
    pub system: System,
}

/// Memory; limits of containers (control groups) count.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// What this process may use at most.
    pub total_bytes: Reading<u64>,
    /// What was free to use when the profile was made.
    pub available_bytes: Reading<u64>,
}

/// Operating system.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct System {
    /// Name and version of the system.
    pub os: String,
    /// Version of the kernel.
    pub kernel: Reading<String>,
    /// Whether it is a virtual machine, as far as the processor tells.
    pub virtual_machine: Reading<bool>,
    /// Tasks that ran or waited to run, over the last minute.
    pub load_average: Reading<f64>,
}

/// One flat fact of the machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fact {
    /// Dotted name, with the unit: `hardware.memory_bytes`.
    pub name: String,
    /// Its value.
    pub value: FactValue,
}

/// A number or a text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FactValue {
    /// A number; what is on or off is 1 or 0.
    Number(f64),
    /// A text; several words are parted by spaces.
    Text(String),
}

impl HardwareProfile {
    /// Looks at the machine, and probes its memory bandwidth: some 200 ms, in which nothing else should run.
    pub fn probe() -> Self {
        let mut profile = Self::read();
        let cores = profile.cpu.logical_cores.value().copied().unwrap_or(1);
        let available = profile.memory.available_bytes.value().copied();
        profile.bandwidth = bandwidth::probe(cores as usize, profile.cpu.caches.last_level_bytes(), available);
        profile
    }

    /// Looks at the machine, without probing anything.
    pub fn read() -> Self {
        let root = Path::new("/");
        Self {
            cpu: Cpu::read(root),
            memory: Memory::read(root),
            bandwidth: Reading::unavailable("it was not probed"),
            gpus: gpu::list(),
            system: System::read(root),
        }
    }

    /// What is known of the machine, flat; what is not known is left out.
    pub fn facts(&self) -> Vec<Fact> {
        let mut facts = Facts(Vec::new());
        let cpu = &self.cpu;
        facts.text("cpu_model", cpu.model.value().cloned());
        facts.text("cpu_architecture", Some(cpu.architecture.clone()));
        facts.number("cpu_physical_cores", cpu.physical_cores.value().map(|n| f64::from(*n)));
        facts.number("cpu_logical_cores", cpu.logical_cores.value().map(|n| f64::from(*n)));
        facts.text("cpu_features", cpu.features.value().map(|features| features.join(" ")));
        let caches = &cpu.caches;
        for (name, bytes) in [
            ("cache_l1_data_bytes", &caches.l1_data_bytes),
            ("cache_l2_bytes", &caches.l2_bytes),
            ("cache_l3_bytes", &caches.l3_bytes),
            ("memory_bytes", &self.memory.total_bytes),
            ("memory_available_bytes", &self.memory.available_bytes),
        ] {
            facts.number(name, bytes.value().map(|n| *n as f64));
        }
        if let Some(bandwidth) = self.bandwidth.value() {
            facts.number("memory_read_one_thread_bytes_per_s", Some(bandwidth.read_one_thread_bytes_per_s));
            facts.number("memory_read_bytes_per_s", Some(bandwidth.read_bytes_per_s));
            facts.number("memory_triad_bytes_per_s", Some(bandwidth.triad_bytes_per_s));
        }
        facts.number("gpus", self.gpus.value().map(|gpus| gpus.len() as f64));
        for (i, gpu) in self.gpus.value().into_iter().flatten().enumerate() {
            facts.text(&format!("gpu.{i}.name"), gpu.name.value().cloned());
            facts.number(&format!("gpu.{i}.memory_bytes"), gpu.memory_bytes.value().map(|n| *n as f64));
            facts.text(&format!("gpu.{i}.compute_capability"), gpu.compute_capability.value().cloned());
            facts.text(&format!("gpu.{i}.driver"), gpu.driver.value().cloned());
        }
        facts.text("os", Some(self.system.os.clone()));
        facts.text("kernel", self.system.kernel.value().cloned());
        facts.number("virtual_machine", self.system.virtual_machine.value().map(|v| f64::from(u8::from(*v))));
        facts.number("load_average", self.system.load_average.value().copied());
        facts.0
    }
}

struct Facts(Vec<Fact>);

impl Facts {
    fn push(&mut self, name: &str, value: Option<FactValue>) {
        self.0.extend(value.map(|value| Fact { name: format!("hardware.{name}"), value }));
    }

    fn number(&mut self, name: &str, value: Option<f64>) {
        self.push(name, value.map(FactValue::Number));
    }

    fn text(&mut self, name: &str, value: Option<String>) {
        self.push(name, value.map(FactValue::Text));
    }
}

impl Memory {
    fn read(root: &Path) -> Self {
        let content = procfs::text(&root.join("proc/meminfo")).unwrap_or_default();
        let machine = |key| procfs::bytes(&procfs::field(&content, key)?);
        let limit = cgroup::memory(root);
        let reading = |machine: Option<u64>, key: &str, group: Option<u64>| match (machine, group) {
            (Some(machine), Some(group)) if group < machine => {
                Reading::measured(group, "the memory limit of this process's control group")
            }
            (Some(machine), _) => Reading::measured(machine, format!("{key} of /proc/meminfo")),
            (None, _) => {
                Reading::unavailable(format!("/proc/meminfo has no {key}: this system does not tell its memory"))
            }
        };
        Self {
            total_bytes: reading(machine("MemTotal"), "MemTotal", limit.map(|limit| limit.limit_bytes)),
            available_bytes: reading(machine("MemAvailable"), "MemAvailable", limit.map(|limit| limit.available_bytes)),
        }
    }
}

impl System {
    fn read(root: &Path) -> Self {
        let release = procfs::text(&root.join("etc/os-release")).unwrap_or_default();
        let pretty = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
        let cpuinfo = procfs::text(&root.join("proc/cpuinfo"));
        let load = procfs::text(&root.join("proc/loadavg"));
        let load = load.and_then(|load| load.split(' ').next()?.parse().ok());
        Self {
            os: pretty.map_or_else(|| std::env::consts::OS.to_owned(), |name| name.trim_matches('"').to_owned()),
            kernel: known(procfs::text(&root.join("proc/sys/kernel/osrelease")), "/proc/sys/kernel/osrelease"),
            virtual_machine: match cpuinfo.as_deref().and_then(|content| procfs::field(content, "flags")) {
                Some(flags) => Reading::measured(flags.split(' ').any(|flag| flag == "hypervisor"), "/proc/cpuinfo"),
                None => Reading::unavailable("this processor does not tell whether it is a virtual one"),
            },
            load_average: known(load, "/proc/loadavg"),
        }
    }
}

/// What a file gave, or that it gave nothing.
fn known<T>(value: Option<T>, source: &str) -> Reading<T> {
    match value {
        Some(value) => Reading::measured(value, source),
        None => Reading::unavailable(format!("{source} does not tell on this system")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rapl::tests::Tree;

    #[test]
    fn a_memory_limit_of_the_control_group_counts_and_file_cache_is_available() {
        let tree = Tree::new("memory-v2");
        tree.set("proc/meminfo", "MemTotal: 8192 kB\nMemAvailable: 4096 kB\n");
        let unlimited = Memory::read(&tree.0);
        assert_eq!(unlimited.total_bytes, Reading::measured(8192 << 10, "MemTotal of /proc/meminfo"));
        tree.set("proc/self/cgroup", "0::/user/job\n");
        tree.set("sys/fs/cgroup/user/memory.max", "1048576\n");
        tree.set("sys/fs/cgroup/user/memory.current", "800000\n");
        tree.set("sys/fs/cgroup/user/memory.stat", "anon 1\ninactive_file 300000\n");
        tree.set("sys/fs/cgroup/user/job/memory.max", "max\n");
        let limited = Memory::read(&tree.0);
        assert_eq!(limited.total_bytes.value(), Some(&1_048_576));
        assert_eq!(limited.available_bytes.value(), Some(&(1_048_576 - 500_000)));
    }

    #[test]
    fn the_older_control_groups_limit_memory_too() {
        let tree = Tree::new("memory-v1");
        tree.set("proc/meminfo", "MemTotal: 8192 kB\nMemAvailable: 4096 kB\n");
        tree.set("proc/self/cgroup", "4:cpu,memory:/job\n0::/\n");
        tree.set("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
        tree.set("sys/fs/cgroup/memory/memory.usage_in_bytes", "5\n");
        assert_eq!(Memory::read(&tree.0).total_bytes.value(), Some(&(8192 << 10)));
        tree.set("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "2097152\n");
        tree.set("sys/fs/cgroup/memory/job/memory.usage_in_bytes", "97152\n");
        tree.set("sys/fs/cgroup/memory/job/memory.stat", "total_inactive_file 0\n");
        let limited = Memory::read(&tree.0);
        assert_eq!(limited.total_bytes.value(), Some(&2_097_152));
        assert_eq!(limited.available_bytes.value(), Some(&2_000_000));
    }

    #[test]
    fn a_system_that_tells_nothing_has_reasons_instead_of_zeros() {
        let tree = Tree::new("nothing");
        let (memory, system) = (Memory::read(&tree.0), System::read(&tree.0));
        assert_eq!(
            memory.total_bytes.reason(),
            Some("/proc/meminfo has no MemTotal: this system does not tell its memory")
        );
        assert_eq!(system.load_average.reason(), Some("/proc/loadavg does not tell on this system"));
    }

    #[test]
    fn this_machine_has_a_profile_that_survives_json_and_gives_flat_facts() {
        let profile = HardwareProfile::probe();
        let json = serde_json::to_string(&profile).unwrap();
        assert_eq!(serde_json::from_str::<HardwareProfile>(&json).unwrap().cpu, profile.cpu);
        let facts = profile.facts();
        let number = |name: &str| match facts.iter().find(|fact| fact.name == name)?.value {
            FactValue::Number(number) => Some(number),
            FactValue::Text(_) => None,
        };
        if cfg!(target_os = "linux") {
            let (total, available) = (number("hardware.memory_bytes"), number("hardware.memory_available_bytes"));
            assert!(total.unwrap() >= available.unwrap() && available.unwrap() > 0.0);
            assert!(number("hardware.cpu_logical_cores").unwrap() >= 1.0);
        }
        let mut names: Vec<_> = facts.iter().map(|fact| &fact.name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), facts.len());
    }
}
