//! The processor's own energy counters (RAPL), as Linux shows them under `/sys/class/powercap`.
//!
//! A package counts its cores and caches; memory is a domain beside it. `psys` counts what packages count already, and the
//! other domains are parts of a package, so the energy of the machine's processors is packages plus memory.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::energy::{Counter, CounterError};
use crate::procfs;

/// Sum of the package and memory counters. Each is read often enough to see every wraparound: at 250 W the usual range of
/// 65 kJ lasts four minutes.
#[derive(Debug)]
pub struct Rapl {
    domains: Vec<Domain>,
    joules: f64,
}

#[derive(Debug)]
struct Domain {
    name: String,
    file: PathBuf,
    last_microjoules: u64,
    range_microjoules: u64,
}

impl Rapl {
    /// Opens the counters of this machine.
    pub fn open() -> Result<Self, CounterError> {
        Self::open_at(Path::new("/sys/class/powercap"))
    }

    /// Opens the counters below `root`.
    pub fn open_at(root: &Path) -> Result<Self, CounterError> {
        let absent = || {
            CounterError::new(format!(
                "{} has no intel-rapl counter: this processor or virtual machine shows no energy",
                root.display()
            ))
        };
        let mut folders: Vec<PathBuf> =
            std::fs::read_dir(root).map_err(|_| absent())?.flatten().map(|e| e.path()).collect();
        folders.sort();
        let mut domains = Vec::new();
        for folder in folders {
            let is_rapl = folder.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with("intel-rapl:"));
            let name = procfs::text(&folder.join("name")).unwrap_or_default();
            if !is_rapl || !(name.starts_with("package-") || name == "dram") {
                continue;
            }
            let file = folder.join("energy_uj");
            let range_microjoules = procfs::number(&folder.join("max_energy_range_uj")).ok_or_else(|| {
                CounterError::new(format!("{} has no readable max_energy_range_uj", folder.display()))
            })?;
            domains.push(Domain { name, last_microjoules: read(&file)?, file, range_microjoules });
        }
        if domains.is_empty() { Err(absent()) } else { Ok(Self { domains, joules: 0.0 }) }
    }
}

fn read(file: &Path) -> Result<u64, CounterError> {
    let content = std::fs::read_to_string(file).map_err(|e| match e.kind() {
        std::io::ErrorKind::PermissionDenied => {
            let pattern = file.parent().and_then(Path::parent).unwrap_or(Path::new("/sys/class/powercap"));
            CounterError::new(format!(
                "{} may be read by root only: run as root, or `sudo chmod a+r {}/intel-rapl:*/energy_uj`",
                file.display(),
                pattern.display()
            ))
        }
        _ => CounterError::new(format!("cannot read {}: {e}", file.display())),
    })?;
    content.trim().parse().map_err(|_| CounterError::new(format!("{} holds no number", file.display())))
}

impl Counter for Rapl {
    fn joules(&mut self) -> Result<f64, CounterError> {
        for domain in &mut self.domains {
            let now = read(&domain.file)?;
            let microjoules = if now >= domain.last_microjoules {
                now - domain.last_microjoules
            } else {
                domain.range_microjoules.saturating_sub(domain.last_microjoules) + now
            };
            domain.last_microjoules = now;
            self.joules += microjoules as f64 / 1e6;
        }
        Ok(self.joules)
    }

    /// About a millisecond (Intel SDM volume 3, 16.10.1).
    fn update_period(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn source(&self) -> String {
        let names: Vec<&str> = self.domains.iter().map(|d| d.name.as_str()).collect();
        format!("RAPL {}", names.join(" + "))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A powercap tree in a folder of its own, gone at the end.
    pub(crate) struct Tree(pub(crate) PathBuf);

    impl Tree {
        pub(crate) fn new(name: &str) -> Self {
            let root = std::env::temp_dir().join(format!("aehost-meter-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&root).unwrap();
            Tree(root)
        }

        pub(crate) fn set(&self, path: &str, content: &str) {
            let file = self.0.join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, content).unwrap();
        }

        fn domain(&self, folder: &str, name: &str, microjoules: u64) {
            self.set(&format!("{folder}/name"), &format!("{name}\n"));
            self.set(&format!("{folder}/energy_uj"), &format!("{microjoules}\n"));
            self.set(&format!("{folder}/max_energy_range_uj"), "1000000000\n");
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn packages_and_memory_are_added_and_nothing_is_counted_twice() {
        let tree = Tree::new("rapl-sum");
        tree.domain("intel-rapl:0", "package-0", 5_000_000);
        tree.domain("intel-rapl:0:0", "core", 1);
        tree.domain("intel-rapl:0:1", "dram", 7);
        tree.domain("intel-rapl:1", "psys", 1);
        tree.domain("intel-rapl-mmio:0", "package-0", 1);
        let mut rapl = Rapl::open_at(&tree.0).unwrap();
        assert_eq!(rapl.source(), "RAPL package-0 + dram");
        assert_eq!(rapl.joules().unwrap(), 0.0);
        tree.set("intel-rapl:0/energy_uj", "8500000\n");
        tree.set("intel-rapl:0:0/energy_uj", "900000000\n");
        tree.set("intel-rapl:0:1/energy_uj", "250007\n");
        tree.set("intel-rapl:1/energy_uj", "900000000\n");
        assert!((rapl.joules().unwrap() - 3.75).abs() < 1e-9);
    }

    #[test]
    fn a_counter_that_wraps_around_goes_on() {
        let tree = Tree::new("rapl-wrap");
        tree.domain("intel-rapl:0", "package-0", 999_000_000);
        let mut rapl = Rapl::open_at(&tree.0).unwrap();
        tree.set("intel-rapl:0/energy_uj", "2000000\n");
        assert!((rapl.joules().unwrap() - 3.0).abs() < 1e-9);
        tree.set("intel-rapl:0/energy_uj", "1000000\n");
        assert!((rapl.joules().unwrap() - 1002.0).abs() < 1e-9);
    }

    #[test]
    fn a_machine_without_counters_and_a_broken_counter_say_so() {
        let tree = Tree::new("rapl-bad");
        let root = tree.0.display().to_string();
        assert_eq!(
            Rapl::open_at(&tree.0).unwrap_err().to_string(),
            format!("{root} has no intel-rapl counter: this processor or virtual machine shows no energy")
        );
        tree.domain("intel-rapl:0", "package-0", 0);
        tree.set("intel-rapl:0/energy_uj", "broken");
        assert_eq!(
            Rapl::open_at(&tree.0).unwrap_err().to_string(),
            format!("{root}/intel-rapl:0/energy_uj holds no number")
        );
    }
}
