//! Keeps the shared library mapped once it is loaded: its threads may still run while a host calls dlclose().
//!
//! No SONAME here: cargo would not make a file of that name, and programs linked against cargo's own library would
//! not start. CMakeLists.txt gives the installed library its SONAME and its symbol versions.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_CFG_TARGET_OS").is_some_and(|os| os == "linux") {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}
