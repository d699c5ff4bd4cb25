//! The memory limit that a container sets, in both versions of control groups.

use std::path::{Path, PathBuf};

use crate::procfs;

/// The tightest limit on the way from this process's group to the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limit {
    pub(super) limit_bytes: u64,
    /// What the group may still take; file cache that can be dropped counts as free.
    pub(super) available_bytes: u64,
}

/// Names of the files of one version.
struct Version {
    limit: &'static str,
    usage: &'static str,
    droppable: &'static str,
}

const V1: Version =
    Version { limit: "memory.limit_in_bytes", usage: "memory.usage_in_bytes", droppable: "total_inactive_file" };
const V2: Version = Version { limit: "memory.max", usage: "memory.current", droppable: "inactive_file" };

/// The limit, if there is one. A limit above the machine's memory is none: the caller compares.
pub(super) fn memory(root: &Path) -> Option<Limit> {
    let groups = procfs::text(&root.join("proc/self/cgroup"))?;
    let mount = root.join("sys/fs/cgroup");
    let limits = groups.lines().filter_map(|line| {
        let (controllers, group) = line.split_once(':')?.1.split_once(':')?;
        match controllers {
            "" => tightest(&mount, group, &V2),
            _ if controllers.split(',').any(|name| name == "memory") => tightest(&mount.join("memory"), group, &V1),
            _ => None,
        }
    });
    limits.min_by_key(|limit| limit.limit_bytes)
}

/// Inside a container the group's path may be that of the host and not be mounted: the mount itself is looked at too.
fn tightest(mount: &Path, group: &str, version: &Version) -> Option<Limit> {
    let group = PathBuf::from(group.trim_start_matches('/'));
    let folders = group.ancestors().map(|ancestor| mount.join(ancestor));
    folders.filter_map(|folder| read(&folder, version)).min_by_key(|limit| limit.limit_bytes)
}

fn read(folder: &Path, version: &Version) -> Option<Limit> {
    let limit_bytes = procfs::number(&folder.join(version.limit))?;
    let usage = procfs::number(&folder.join(version.usage))?;
    let statistics = procfs::text(&folder.join("memory.stat")).unwrap_or_default();
    let droppable = statistics.lines().find_map(|line| {
        let (name, bytes) = line.split_once(' ')?;
        (name == version.droppable).then(|| bytes.parse().ok())?
    });
    let held = usage.saturating_sub(droppable.unwrap_or(0));
    Some(Limit { limit_bytes, available_bytes: limit_bytes.saturating_sub(held) })
}
