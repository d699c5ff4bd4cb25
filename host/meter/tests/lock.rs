//! The lease of a device between processes: this test program starts itself as the other process.

use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use aehost_meter::DeviceLease;

const FOLDER: &str = "AEHOST_TEST_LEASE_FOLDER";

/// The other process: takes the lease, says so, and keeps it until it is killed.
#[test]
fn holder() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let _lease = DeviceLease::acquire_in(Path::new(&folder), "cuda:0", |_| ControlFlow::Break(())).unwrap();
    println!("\nheld");
    std::thread::sleep(Duration::from_secs(60));
}

fn start_holder(folder: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().expect("the path of this test"))
        .args(["--exact", "holder", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .expect("this test starts again");
    let lines = BufReader::new(child.stdout.as_mut().expect("a piped output")).lines();
    assert!(lines.map_while(Result::ok).any(|line| line == "held"), "the other process takes the lease");
    child
}

#[test]
fn a_lease_excludes_other_processes_and_ends_with_its_holder() {
    let folder = std::env::temp_dir().join(format!("aehost-meter-lease-{}", std::process::id()));
    let mut child = start_holder(&folder);
    let pid = child.id();

    let refused = DeviceLease::acquire_in(&folder, "cuda:0", |waiting| {
        assert_eq!(waiting.to_string(), format!("waiting for another measurement on cuda:0, held by pid {pid}"));
        if waiting.waited > Duration::from_millis(100) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!(
        refused.unwrap_err().to_string(),
        format!("gave up waiting for another measurement on cuda:0, held by pid {pid}")
    );
    // Another device is free.
    drop(DeviceLease::acquire_in(&folder, "cpu", |waiting| panic!("{waiting}")).unwrap());

    // A holder that is killed holds nothing any more.
    let mut waits = 0;
    let lease = DeviceLease::acquire_in(&folder, "cuda:0", |_| {
        waits += 1;
        if waits == 3 {
            child.kill().unwrap();
        }
        ControlFlow::Continue(())
    });
    let lease = lease.unwrap();
    assert!(waits >= 3);
    child.wait().unwrap();

    // Within one process a second lease waits as well, and a dropped lease is free at once.
    assert!(DeviceLease::acquire_in(&folder, "cuda:0", |_| ControlFlow::Break(())).is_err());
    drop(lease);
    drop(DeviceLease::acquire_in(&folder, "cuda:0", |waiting| panic!("{waiting}")).unwrap());
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_folder_that_cannot_be_used_is_named() {
    let file = std::env::temp_dir().join(format!("aehost-meter-no-folder-{}", std::process::id()));
    std::fs::write(&file, "").unwrap();
    let error = DeviceLease::acquire_in(&file, "cpu", |_| ControlFlow::Break(())).unwrap_err().to_string();
    std::fs::remove_file(&file).unwrap();
    assert!(error.starts_with(&format!("cannot use the lock file {}/cpu.lock: ", file.display())), "{error}");
    assert!(error.ends_with("; set XDG_RUNTIME_DIR to a folder that you may write"), "{error}");
}
