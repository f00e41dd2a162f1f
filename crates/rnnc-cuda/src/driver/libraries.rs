//! Finding NVIDIA's libraries when they are first needed: nothing of CUDA is linked.

#![allow(unsafe_code)] // opens shared libraries

use super::DriverError;
use libloading::Library;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// A library that may be on this machine, in one of several versions.
pub(super) struct Wanted {
    /// What it is.
    pub what: &'static str,
    /// Its file's name without the version.
    pub file: &'static str,
}

/// The compiler.
pub(super) const NVRTC: Wanted = Wanted { what: "NVRTC, NVIDIA's run-time compiler,", file: "libnvrtc.so" };

/// Products of matrices.
pub(super) const CUBLAS_LT: Wanted =
    Wanted { what: "cublasLt, NVIDIA's library of matrix products,", file: "libcublasLt.so" };

/// The versions of CUDA whose libraries are known to have what is used here.
const MAJORS: [u32; 2] = [13, 12];

/// Further directories, first to be searched.
const DIRECTORIES: &str = "RNNC_CUDA_LIBRARIES";

/// Directories that the process told of; see [`search_cuda_libraries_in`].
static TOLD: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// From here on, NVIDIA's libraries are sought in these directories too: behind those of `RNNC_CUDA_LIBRARIES`, before the system's.
/// For programs that have some of their own, as PyTorch has. What the process has loaded already comes before all.
pub fn search_cuda_libraries_in(directories: Vec<PathBuf>) {
    *TOLD.lock().unwrap_or_else(PoisonError::into_inner) = directories;
}

impl Wanted {
    /// Opens it: what the process has loaded already, so that there are no two of a kind; else the newest, but versions up to the
    /// driver's before newer ones, which the driver may not understand.
    pub fn open(&self, driver: Option<u32>) -> Result<&'static Library, DriverError> {
        if let Some(library) = self.names(driver).iter().find_map(|name| loaded(name)) {
            return Ok(Box::leak(Box::new(library)));
        }
        let told = TOLD.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.open_among(driver, &directories(&|name| std::env::var_os(name), told))
    }

    fn open_among(&self, driver: Option<u32>, all: &Directories) -> Result<&'static Library, DriverError> {
        let mut complaints = Vec::new();
        for name in self.names(driver) {
            let paths = |directories: &[PathBuf]| -> Vec<PathBuf> {
                directories.iter().map(|d| d.join(&name)).filter(|path| path.is_file()).collect()
            };
            // The name alone is looked up where the system looks for libraries.
            let places = [paths(&all.named), vec![PathBuf::from(&name)], paths(&all.usual)].concat();
            for path in places {
                // SAFETY: these libraries' own start-up code is made to be run at any time, by any thread.
                match unsafe { Library::new(&path) } {
                    // They start threads and handlers of their own, so they are never unloaded.
                    Ok(library) => return Ok(Box::leak(Box::new(library))),
                    Err(error) if path.is_file() => complaints.push(format!("{}: {error}", path.display())),
                    Err(_) => {}
                }
            }
        }
        Err(self.missing(&self.names(driver), all, &complaints))
    }

    fn names(&self, driver: Option<u32>) -> Vec<String> {
        let (old, new): (Vec<u32>, Vec<u32>) =
            MAJORS.iter().partition(|&&major| driver.is_none_or(|driver| major <= driver));
        let versions = old.into_iter().chain(new).map(|major| format!("{}.{major}", self.file));
        versions.chain([self.file.to_owned()]).collect()
    }

    fn missing(&self, names: &[String], all: &Directories, complaints: &[String]) -> DriverError {
        let searched: Vec<String> = (all.named.iter().chain(&all.usual))
            .map(|directory| format!("\n  {}", directory.display()))
            .collect();
        let unusable: Vec<String> =
            complaints.iter().map(|complaint| format!("\nfound, but not usable: {complaint}")).collect();
        DriverError::Missing(format!(
            "{} was not found ({}). A CUDA toolkit has it, or `pip install nvidia-cuda-nvrtc nvidia-cublas`; \
             {DIRECTORIES} names further directories (`one:another`). Searched: where the system looks for \
             libraries{}{}",
            self.what,
            names.join(" or "),
            searched.concat(),
            unusable.concat()
        ))
    }
}

/// The library of that name, if the process has loaded it.
#[cfg(target_os = "linux")]
fn loaded(name: &str) -> Option<Library> {
    use libloading::os::unix;
    /// Of Linux's `dlfcn.h`: what is not loaded is not opened.
    const RTLD_NOLOAD: std::ffi::c_int = 4;
    // SAFETY: its start-up code has run.
    unsafe { unix::Library::open(Some(name), unix::RTLD_LAZY | RTLD_NOLOAD) }.ok().map(Library::from)
}

#[cfg(not(target_os = "linux"))]
fn loaded(_name: &str) -> Option<Library> {
    None
}

/// Where libraries are searched for, besides the system's places.
#[derive(Debug, PartialEq)]
struct Directories {
    /// Those that the user named, and those that the process told of.
    named: Vec<PathBuf>,
    /// Those where toolkits and wheels usually are, as far as they exist.
    usual: Vec<PathBuf>,
}

fn directories(environment: &dyn Fn(&str) -> Option<OsString>, told: Vec<PathBuf>) -> Directories {
    let paths = |name: &str| -> Vec<PathBuf> {
        let value = environment(name).unwrap_or_default();
        std::env::split_paths(&value).filter(|path| !path.as_os_str().is_empty()).collect()
    };
    let mut usual = Vec::new();
    for toolkit in
        [paths("CUDA_HOME"), paths("CUDA_PATH"), children(Path::new("/usr/local"), "cuda")].concat()
    {
        usual.extend([toolkit.join("lib64"), toolkit.join("lib")]);
    }
    // Pythons: of the present environment, of the user, and each whose programs are on the path.
    let mut pythons = [paths("VIRTUAL_ENV"), paths("CONDA_PREFIX")].concat();
    pythons.extend(paths("HOME").iter().map(|home| home.join(".local")));
    pythons.extend(paths("PATH").iter().filter_map(|path| path.parent().map(Path::to_owned)));
    for python in pythons {
        for version in children(&python.join("lib"), "python3") {
            for packages in ["site-packages", "dist-packages"] {
                for part in children(&version.join(packages).join("nvidia"), "") {
                    usual.push(part.join("lib"));
                }
            }
        }
        usual.push(python.join("lib"));
    }
    let mut distinct = Vec::new();
    for directory in usual {
        if !distinct.contains(&directory) && directory.is_dir() {
            distinct.push(directory);
        }
    }
    Directories { named: [paths(DIRECTORIES), told].concat(), usual: distinct }
}

/// What a directory holds whose name begins so: the last name, often the newest version, first.
fn children(directory: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .collect();
    found.sort_by(|a, b| b.cmp(a));
    found
}

/// Declares a struct of a library's functions, and how they are found in it.
macro_rules! functions {
    ($(#[$doc:meta])* $name:ident { $(fn $function:ident($($argument:ty),* $(,)?) -> $result:ty;)* }) => {
        $(#[$doc])*
        #[allow(non_snake_case)] // named as the library names them
        #[derive(Clone, Copy)]
        struct $name { $($function: unsafe extern "C" fn($($argument),*) -> $result,)* }

        impl $name {
            fn of(library: &'static libloading::Library) -> Result<$name, $crate::driver::DriverError> {
                Ok($name {
                    $($function: {
                        // SAFETY: the type is that of the library's header, and the library is never unloaded.
                        let found = unsafe { library.get(stringify!($function).as_bytes()) };
                        *found.map_err(|error| $crate::driver::DriverError::Missing(format!(
                            "a library of NVIDIA's has no {}: {error}", stringify!($function)
                        )))?
                    },)*
                })
            }
        }
    };
}
pub(super) use functions;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn within(home: &Path) -> Directories {
        let home = home.as_os_str().to_owned();
        let environment = |name: &str| match name {
            "HOME" => Some(home.clone()),
            "RNNC_CUDA_LIBRARIES" => Some("/a:/b".into()),
            _ => None,
        };
        directories(&environment, vec!["/told".into()])
    }

    #[test]
    fn wheels_are_found_and_named_directories_come_first() {
        let home = tempfile::tempdir().unwrap();
        let wheel = home.path().join(".local/lib/python3.11/site-packages/nvidia/cu13/lib");
        fs::create_dir_all(&wheel).unwrap();
        let found = within(home.path());
        assert_eq!(found.named, ["/a", "/b", "/told"].map(PathBuf::from));
        assert!(found.usual.contains(&wheel), "{found:?}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_the_process_has_loaded_is_taken_before_all_else() {
        // Of any process of Rust's.
        assert!(loaded("libc.so.6").is_some());
        assert!(loaded("librnnc-nothing.so").is_none());
        let wanted = Wanted { what: "The C library,", file: "libc.so.6" };
        wanted.open(None).unwrap();
    }

    #[test]
    fn a_missing_library_is_an_error_that_says_where_it_was_sought_and_how_to_get_it() {
        let wanted = Wanted { what: "Nothing,", file: "librnnc-nothing.so" };
        let home = tempfile::tempdir().unwrap();
        fs::create_dir_all(home.path().join(".local/lib")).unwrap();
        let broken = home.path().join(".local/lib/librnnc-nothing.so.12");
        fs::write(&broken, "no library").unwrap();
        let Err(DriverError::Missing(text)) = wanted.open_among(None, &within(home.path())) else {
            panic!("opened")
        };
        for part in ["librnnc-nothing.so.13 or librnnc-nothing.so.12", "pip install", "\n  /a", "not usable"]
        {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
        assert!(text.contains(&broken.display().to_string()), "{text}");
    }

    #[test]
    fn versions_that_the_driver_knows_come_first() {
        assert_eq!(NVRTC.names(Some(12)), ["libnvrtc.so.12", "libnvrtc.so.13", "libnvrtc.so"]);
        assert_eq!(NVRTC.names(Some(13)), ["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"]);
        assert_eq!(NVRTC.names(None), NVRTC.names(Some(14)));
    }
}
