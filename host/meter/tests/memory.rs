//! Peak memory, in a process of its own: other tests would allocate beside it.

use aehost_meter::memory::{self, Peak, PeakMemory};

const MIB: u64 = 1 << 20;

/// Touches 64 MiB and frees them.
fn work() {
    let mut bytes = vec![0u8; 64 * MIB as usize];
    for page in bytes.chunks_mut(4096) {
        page[0] = 1;
    }
    std::hint::black_box(&bytes);
    // A sampling thread needs a moment to see it.
    std::thread::sleep(std::time::Duration::from_millis(60));
}

fn grown(peak: &Peak) -> u64 {
    peak.peak_bytes - peak.start_bytes
}

#[test]
#[cfg(target_os = "linux")]
fn a_section_sees_its_own_peak_and_not_an_earlier_one() {
    for start in [PeakMemory::start as fn() -> PeakMemory, PeakMemory::start_sampling] {
        let section = start();
        work();
        let reading = section.finish();
        let peak = *reading.value().expect("Linux tells resident memory");
        assert!((63 * MIB..72 * MIB).contains(&grown(&peak)), "{reading:?}");

        let section = start();
        let quiet = *section.finish().value().expect("Linux tells resident memory");
        assert!(grown(&quiet) < 4 * MIB, "{quiet:?} after {peak:?}");
    }
    let now = *memory::resident_bytes().value().expect("Linux tells resident memory");
    assert!(now > MIB / 2 && now < 64 * MIB, "{now}");
}
