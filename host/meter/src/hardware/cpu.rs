//! The processor: what it is called, how many cores this process may use, which instructions matter to inference, caches.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::known;
use crate::procfs;
use crate::reading::Reading;

/// Instruction sets that kernels of inference choose by, as Linux names them.
const FEATURES: [&str; 28] = [
    "sse4_2",
    "avx",
    "f16c",
    "fma",
    "avx2",
    "avx_vnni",
    "avx512f",
    "avx512bw",
    "avx512dq",
    "avx512vl",
    "avx512_vnni",
    "avx512_vbmi",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
    "amx_fp16",
    "asimd",
    "asimdhp",
    "asimddp",
    "i8mm",
    "bf16",
    "sve",
    "sve2",
    "svei8mm",
    "svebf16",
    "sme",
];

/// The processor as this process may use it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cpu {
    /// What the maker calls it.
    pub model: Reading<String>,
    /// `x86_64`, `aarch64`, ...
    pub architecture: String,
    /// Cores that this process may use.
    pub physical_cores: Reading<u32>,
    /// Hardware threads that this process may use at once; affinity and the quota of containers count.
    pub logical_cores: Reading<u32>,
    /// Instruction sets that matter to inference, as Linux names them (`avx2`, `avx512_vnni`, `i8mm`).
    pub features: Reading<Vec<String>>,
    /// Caches.
    pub caches: Caches,
}

/// Caches, each of one instance, but the last level of all that this process may use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Caches {
    /// Of one core, data.
    pub l1_data_bytes: Reading<u64>,
    /// Of one core or cluster.
    pub l2_bytes: Reading<u64>,
    /// All third-level caches that the usable cores share, added.
    pub l3_bytes: Reading<u64>,
}

impl Caches {
    /// The largest known level.
    pub fn last_level_bytes(&self) -> Option<u64> {
        [&self.l3_bytes, &self.l2_bytes, &self.l1_data_bytes].into_iter().find_map(|level| level.value().copied())
    }
}

impl Cpu {
    pub(super) fn read(root: &Path) -> Self {
        let info = procfs::text(&root.join("proc/cpuinfo")).unwrap_or_default();
        let status = procfs::text(&root.join("proc/self/status")).unwrap_or_default();
        let allowed = procfs::numbers(&procfs::field(&status, "Cpus_allowed_list").unwrap_or_default());
        let logical = std::thread::available_parallelism().ok().and_then(|n| u32::try_from(n.get()).ok());
        Self {
            model: known(procfs::field(&info, "model name"), "/proc/cpuinfo"),
            architecture: std::env::consts::ARCH.to_owned(),
            physical_cores: known(physical_cores(root, &allowed), "/sys/devices/system/cpu/*/topology"),
            logical_cores: known(logical, "the scheduler (affinity and quota)"),
            features: known(features(&info), "/proc/cpuinfo"),
            caches: Caches::read(root, &allowed),
        }
    }
}

fn features(info: &str) -> Option<Vec<String>> {
    let flags = procfs::field(info, "flags").or_else(|| procfs::field(info, "Features"))?;
    let flags: BTreeSet<&str> = flags.split(' ').collect();
    Some(FEATURES.iter().filter(|name| flags.contains(*name)).map(|name| (*name).to_owned()).collect())
}

/// Distinct cores among the hardware threads that this process may run on.
fn physical_cores(root: &Path, allowed: &[u32]) -> Option<u32> {
    let core = |cpu: &u32| {
        let topology = root.join(format!("sys/devices/system/cpu/cpu{cpu}/topology"));
        Some((procfs::text(&topology.join("physical_package_id"))?, procfs::text(&topology.join("core_id"))?))
    };
    let cores: BTreeSet<_> = allowed.iter().map(core).collect::<Option<_>>()?;
    u32::try_from(cores.len()).ok().filter(|count| *count > 0)
}

impl Caches {
    fn read(root: &Path, allowed: &[u32]) -> Self {
        // Level, the hardware threads that share it, bytes; the set keeps each instance once.
        let mut instances: BTreeSet<(u64, String, u64)> = BTreeSet::new();
        for cpu in allowed {
            for index in 0..8 {
                let folder = root.join(format!("sys/devices/system/cpu/cpu{cpu}/cache/index{index}"));
                let read = || {
                    let data = procfs::text(&folder.join("type"))? != "Instruction";
                    let shared = procfs::text(&folder.join("shared_cpu_list"))?;
                    let bytes = procfs::bytes(&procfs::text(&folder.join("size"))?)?;
                    data.then_some((procfs::number(&folder.join("level"))?, shared, bytes))
                };
                instances.extend(read());
            }
        }
        let sizes = |level| instances.iter().filter(move |cache| cache.0 == level).map(|cache| cache.2);
        let source = "/sys/devices/system/cpu/*/cache";
        Self {
            l1_data_bytes: known(sizes(1).max(), source),
            l2_bytes: known(sizes(2).max(), source),
            l3_bytes: known(sizes(3).reduce(|all, bytes| all + bytes), source),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rapl::tests::Tree;

    #[test]
    fn cores_caches_and_features_are_those_that_this_process_may_use() {
        let tree = Tree::new("cpu");
        tree.set("proc/cpuinfo", "model name\t: Example 9000\nflags\t\t: fpu avx2 hypervisor avx512_vnni\n");
        tree.set("proc/self/status", "Name:\tx\nCpus_allowed_list:\t0-1,4\n");
        for (cpu, core, shared) in [(0, 0, "0-3"), (1, 0, "0-3"), (2, 1, "0-3"), (4, 0, "4-7")] {
            let folder = format!("sys/devices/system/cpu/cpu{cpu}");
            tree.set(&format!("{folder}/topology/physical_package_id"), if cpu < 4 { "0" } else { "1" });
            tree.set(&format!("{folder}/topology/core_id"), &core.to_string());
            for (index, level, kind, size) in
                [(0, 1, "Data", "32K"), (1, 1, "Instruction", "64K"), (3, 3, "Unified", "16384K")]
            {
                let cache = format!("{folder}/cache/index{index}");
                tree.set(&format!("{cache}/level"), &level.to_string());
                tree.set(&format!("{cache}/type"), kind);
                tree.set(&format!("{cache}/size"), size);
                tree.set(&format!("{cache}/shared_cpu_list"), shared);
            }
        }
        let cpu = Cpu::read(&tree.0);
        assert_eq!(cpu.model.value().unwrap(), "Example 9000");
        assert_eq!(cpu.physical_cores.value(), Some(&2));
        assert_eq!(cpu.features.value().unwrap(), &["avx2", "avx512_vnni"]);
        assert_eq!(cpu.caches.l1_data_bytes.value(), Some(&(32 << 10)));
        assert_eq!(cpu.caches.l2_bytes.value(), None);
        assert_eq!(cpu.caches.last_level_bytes(), Some(32 << 20));
    }
}
