//! From generated text to code of this machine: the host's C++ compiler, and a directory of what it made.

use super::stacks::STACK_BYTES;
use libloading::Library;
use rnnc_cuda::driver::{DriverError, Source};
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

const HEADER: &str = include_str!("emulated.hpp");
const _: () = assert!(STACK_BYTES == 4 * 32768);
const CONTEXT: &str = include_str!("context.cpp");

/// Numbers are computed as they are written. A function's frame takes a quarter of a stack at most.
const FLAGS: [&str; 10] = [
    "-std=c++17",
    "-Werror=frame-larger-than=32768",
    "-fPIC",
    "-shared",
    "-fno-exceptions",
    "-fno-asynchronous-unwind-tables",
    "-fno-strict-aliasing",
    "-fno-math-errno",
    "-ffp-contract=off",
    "-nodefaultlibs",
];

/// Where what was compiled is kept: it serves later runs too.
fn directory() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("emulation")
}

/// Compiles sources as one, and loads them. They must not define a kernel twice.
pub fn load(sources: &[Source]) -> Result<Library, DriverError> {
    let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
    let names = names.join("`, `");
    let mut text = [rnnc_cuda::source::TYPES, HEADER, rnnc_cuda::source::functions()].concat();
    let prelude = rnnc_cuda::source::prelude();
    let first_line = prelude.lines().count() + 1;
    for (number, source) in sources.iter().enumerate() {
        let kernels = source.text.strip_prefix(&prelude).ok_or_else(|| DriverError::Compile {
            name: source.name.clone(),
            target: "the emulation".into(),
            log: "the text does not begin with the prelude".into(),
        })?;
        // Lines are counted as in the source's text.
        text +=
            &format!("namespace source{number} {{\n#line {first_line} {:?}\n{kernels}\n}}\n", source.name);
    }
    // Most sources run for less time than an optimizer would take.
    compile(&names, &text, &["-O0", &format!("-DSTACK_BYTES={STACK_BYTES}ull")])
}

/// The library that goes from stack to stack; by the way of other processors if `portable`.
pub fn context(portable: bool) -> Result<Library, DriverError> {
    compile("context.cpp", CONTEXT, if portable { &["-O1", "-DUCONTEXT"] } else { &["-O1"] })
}

fn compile(name: &str, text: &str, options: &[&str]) -> Result<Library, DriverError> {
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
    let mut hasher = DefaultHasher::new();
    (text, &compiler, FLAGS, options).hash(&mut hasher);
    let directory = directory();
    let made = directory.join(format!("{:016x}.so", hasher.finish()));
    if !made.exists() {
        let failed = |what: String| DriverError::Call { call: "the host's compiler", what };
        std::fs::create_dir_all(&directory).map_err(|e| failed(e.to_string()))?;
        // Others may make the same at the same time: each writes a file of its own.
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let own = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let (source, object) = (directory.join(own.clone() + ".cpp"), directory.join(own + ".so"));
        std::fs::write(&source, text).map_err(|e| failed(e.to_string()))?;
        let output = Command::new(&compiler)
            .args(FLAGS)
            .args(options)
            .arg("-o")
            .args([&object, &source])
            .args(["-lm", "-lc"])
            .output()
            .map_err(|error| {
                DriverError::Missing(format!("these tests need a C++ compiler; `{compiler}`: {error}"))
            })?;
        if !output.status.success() {
            return Err(DriverError::Compile {
                name: name.into(),
                target: format!("the emulation (the text is kept in {})", source.display()),
                log: String::from_utf8_lossy(&output.stderr).into_owned(),
            });
        }
        let kept = std::fs::rename(&object, &made).and_then(|()| std::fs::remove_file(&source));
        kept.map_err(|e| failed(e.to_string()))?;
    }
    // SAFETY: it was made from our own text, and has no code that runs when it is loaded.
    unsafe { Library::new(&made) }
        .map_err(|error| DriverError::Call { call: "dlopen", what: format!("{}: {error}", made.display()) })
}
