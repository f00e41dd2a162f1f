//! `include/rnnc.h` is what cbindgen makes of the library. `RNNC_WRITE_HEADER=1 cargo test -p rnnc-c --test header` writes it.

use std::path::Path;

#[test]
fn the_header_is_what_the_library_says() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(here.join("cbindgen.toml")).unwrap();
    let bindings =
        cbindgen::Builder::new().with_config(config).with_src(here.join("src/lib.rs")).generate().unwrap();
    let mut made = Vec::new();
    bindings.write(&mut made);
    let path = here.join("include/rnnc.h");
    if std::env::var_os("RNNC_WRITE_HEADER").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == String::from_utf8(made).unwrap(),
        "{} is old: RNNC_WRITE_HEADER=1 writes it",
        path.display()
    );
}
