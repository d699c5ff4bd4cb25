//! Prints the profile of this machine: `cargo run --release -p aehost-meter --example profile`.

fn main() -> Result<(), serde_json::Error> {
    let profile = aehost_meter::HardwareProfile::probe();
    println!("{}", serde_json::to_string_pretty(&profile)?);
    println!("{}", serde_json::to_string_pretty(&profile.facts())?);
    Ok(())
}
