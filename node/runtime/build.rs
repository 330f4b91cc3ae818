//! Builds the shim as a small static program and leaves it where `include_bytes!` finds it.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    let target = env::var_os("TARGET").unwrap_or_default().to_string_lossy().into_owned();
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let workspace = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("../..");
    println!("cargo::rerun-if-changed=../shim/src");
    println!("cargo::rerun-if-changed=../shim/Cargo.toml");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(&workspace).args([
        "build",
        "--release",
        "--quiet",
        "--locked",
        "-p",
        "corten-shim",
        "--bin",
        "corten-shim",
    ]);
    // Every page that it touches is paid for once a pod: the fewer the better.
    for setting in ["lto=\"fat\"", "codegen-units=1", "panic=\"abort\""] {
        cargo.arg("--config").arg(format!("profile.release.{setting}"));
    }
    cargo.args(["--target", &target]).arg("--target-dir").arg(out.join("shim"));
    // What the outer cargo (or clippy) says about itself must not reach the inner one.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if (text.starts_with("CARGO") && text != "CARGO_HOME") || text.starts_with("RUSTC") || text == "RUSTFLAGS" {
            cargo.env_remove(&name);
        }
    }
    let flags = ["-Ctarget-feature=+crt-static", "-Crelocation-model=static", "-Copt-level=s", "-Cpanic=abort"];
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    let built = cargo.status().is_ok_and(|status| status.success());
    assert!(built, "the shim does not build: see above");
    let program = out.join("shim").join(&target).join("release/corten-shim");
    let copied = std::fs::copy(&program, out.join("corten-shim"));
    assert!(copied.is_ok(), "cannot copy {}", program.display());
}
