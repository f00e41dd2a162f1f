//! NVRTC: from CUDA C++ to an image that a driver loads.

#![allow(unsafe_code)] // calls into NVRTC

use super::libraries::{NVRTC, functions};
use super::{DriverError, Source};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;

functions! {
    Functions {
        fn nvrtcVersion(*mut c_int, *mut c_int) -> c_int;
        fn nvrtcGetNumSupportedArchs(*mut c_int) -> c_int;
        fn nvrtcGetSupportedArchs(*mut c_int) -> c_int;
        fn nvrtcGetErrorString(c_int) -> *const c_char;
        fn nvrtcCreateProgram(
            *mut *mut c_void, *const c_char, *const c_char, c_int, *const *const c_char, *const *const c_char,
        ) -> c_int;
        fn nvrtcDestroyProgram(*mut *mut c_void) -> c_int;
        fn nvrtcCompileProgram(*mut c_void, c_int, *const *const c_char) -> c_int;
        fn nvrtcGetProgramLogSize(*mut c_void, *mut usize) -> c_int;
        fn nvrtcGetProgramLog(*mut c_void, *mut c_char) -> c_int;
        fn nvrtcGetCUBINSize(*mut c_void, *mut usize) -> c_int;
        fn nvrtcGetCUBIN(*mut c_void, *mut c_char) -> c_int;
        fn nvrtcGetPTXSize(*mut c_void, *mut usize) -> c_int;
        fn nvrtcGetPTX(*mut c_void, *mut c_char) -> c_int;
    }
}

/// The compiler, loaded.
pub struct Nvrtc {
    functions: Functions,
    version: (u32, u32),
    /// The architectures it compiles for: 90 for 9.0, rising.
    architectures: Vec<u32>,
}

/// What the compiler made of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// Machine code, or PTX where the compiler is older than the device.
    pub image: Vec<u8>,
    /// What the compiler said: warnings, and what its kernels use.
    pub log: String,
}

/// What a kernel uses, of each thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// 32-bit registers.
    pub registers: usize,
    /// Bytes of local memory.
    pub stack: usize,
    /// Bytes of registers written to local memory.
    pub spill_stores: usize,
    /// Bytes of registers read back from it.
    pub spill_loads: usize,
}

/// How a target is compiled for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Straight to machine code.
    Machine,
    /// To PTX for that older architecture, from which the driver makes machine code.
    Ptx(u32),
}

impl Nvrtc {
    /// Finds and loads it. `driver` is the CUDA version of the driver that the images are for, if one is at hand.
    pub fn find(driver: Option<u32>) -> Result<Nvrtc, DriverError> {
        let functions = Functions::of(NVRTC.open(driver)?)?;
        let (mut major, mut minor, mut count) = (0, 0, 0);
        // SAFETY: each writes one number.
        let results = unsafe {
            [
                ("nvrtcVersion", (functions.nvrtcVersion)(&mut major, &mut minor)),
                ("nvrtcGetNumSupportedArchs", (functions.nvrtcGetNumSupportedArchs)(&mut count)),
            ]
        };
        let mut nvrtc = Nvrtc { functions, version: (major as u32, minor as u32), architectures: Vec::new() };
        results.into_iter().try_for_each(|(call, result)| nvrtc.check(call, result))?;
        let mut architectures = vec![0; usize::try_from(count).unwrap_or(0)];
        // SAFETY: it writes as many numbers as it said before.
        let result = unsafe { (functions.nvrtcGetSupportedArchs)(architectures.as_mut_ptr()) };
        nvrtc.check("nvrtcGetSupportedArchs", result)?;
        nvrtc.architectures = architectures.into_iter().map(|a| a as u32).collect();
        Ok(nvrtc)
    }

    /// Its version, (major, minor).
    pub fn version(&self) -> (u32, u32) {
        self.version
    }

    /// How it compiles for a target (see [`crate::device::Device::target`]); `None` if it cannot.
    pub fn output(&self, target: &str) -> Option<Output> {
        output(&self.architectures, target)
    }

    /// The options with which it compiles for a target.
    pub fn options(&self, target: &str) -> Vec<String> {
        let architecture = match self.output(target) {
            Some(Output::Ptx(older)) => format!("--gpu-architecture=compute_{older}"),
            _ => format!("--gpu-architecture={target}"),
        };
        // The last has the compiler report what kernels use.
        vec![architecture, "--std=c++17".into(), "--ptxas-options=-v".into()]
    }

    /// Compiles a source for a target.
    pub fn compile(&self, source: &Source, target: &str) -> Result<Compiled, DriverError> {
        let failed = |log: String| DriverError::Compile {
            name: source.name.clone(),
            target: target.to_owned(),
            log: log.trim_end().to_owned(),
        };
        let Some(output) = self.output(target) else {
            let (major, minor) = self.version;
            return Err(failed(format!("NVRTC {major}.{minor} compiles for {:?} only", self.architectures)));
        };
        let texts =
            CString::new(source.text.as_str()).and_then(|text| Ok((text, CString::new("kernels.cu")?)));
        let Ok((text, file)) = texts else { return Err(failed("the text has a zero byte".into())) };
        // Options are our own words, without zero bytes.
        let options: Vec<CString> =
            self.options(target).into_iter().filter_map(|option| CString::new(option).ok()).collect();
        let options: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();

        let mut program = Program { functions: self.functions, handle: ptr::null_mut() };
        let f = &self.functions;
        // SAFETY: both strings end with zero and are copied; there are no headers.
        let result = unsafe {
            (f.nvrtcCreateProgram)(
                &mut program.handle,
                text.as_ptr(),
                file.as_ptr(),
                0,
                ptr::null(),
                ptr::null(),
            )
        };
        self.check("nvrtcCreateProgram", result)?;
        // SAFETY: the program is alive, and so are the strings that the options point to.
        let result =
            unsafe { (f.nvrtcCompileProgram)(program.handle, options.len() as c_int, options.as_ptr()) };
        let log =
            self.bytes(&program, "nvrtcGetProgramLog", f.nvrtcGetProgramLogSize, f.nvrtcGetProgramLog)?;
        let log = String::from_utf8_lossy(&log).trim_end_matches('\0').to_owned();
        if result != 0 {
            return Err(failed(format!("{}\n{log}", self.error(result))));
        }
        let image = match output {
            Output::Machine => self.bytes(&program, "nvrtcGetCUBIN", f.nvrtcGetCUBINSize, f.nvrtcGetCUBIN),
            Output::Ptx(_) => self.bytes(&program, "nvrtcGetPTX", f.nvrtcGetPTXSize, f.nvrtcGetPTX),
        }?;
        Ok(Compiled { image, log })
    }

    /// Copies out something of a program: its size is asked for first.
    fn bytes(
        &self,
        program: &Program,
        call: &'static str,
        size: unsafe extern "C" fn(*mut c_void, *mut usize) -> c_int,
        get: unsafe extern "C" fn(*mut c_void, *mut c_char) -> c_int,
    ) -> Result<Vec<u8>, DriverError> {
        let mut len = 0;
        // SAFETY: the program is alive.
        self.check(call, unsafe { size(program.handle, &mut len) })?;
        let mut bytes = vec![0u8; len];
        // SAFETY: it writes as many bytes as it said.
        self.check(call, unsafe { get(program.handle, bytes.as_mut_ptr().cast()) })?;
        Ok(bytes)
    }

    fn check(&self, call: &'static str, result: c_int) -> Result<(), DriverError> {
        if result == 0 { Ok(()) } else { Err(DriverError::Call { call, what: self.error(result) }) }
    }

    fn error(&self, result: c_int) -> String {
        // SAFETY: for every number the answer is a string that stays.
        let text = unsafe { CStr::from_ptr((self.functions.nvrtcGetErrorString)(result)) };
        text.to_string_lossy().into_owned()
    }
}

/// A program of NVRTC's, destroyed when it goes.
struct Program {
    functions: Functions,
    handle: *mut c_void,
}

impl Drop for Program {
    fn drop(&mut self) {
        if !self.handle.is_null() {
            // SAFETY: created, and not destroyed before. Nothing can be done about a failure.
            let _ = unsafe { (self.functions.nvrtcDestroyProgram)(&mut self.handle) };
        }
    }
}

/// `sm_90a` is architecture 90.
fn output(architectures: &[u32], target: &str) -> Option<Output> {
    let number: u32 = target.strip_prefix("sm_")?.trim_end_matches(char::is_alphabetic).parse().ok()?;
    if architectures.contains(&number) {
        return Some(Output::Machine);
    }
    // PTX is for its architecture and all later ones.
    architectures.iter().rev().find(|&&older| older < number).map(|&older| Output::Ptx(older))
}

impl Compiled {
    /// What each kernel uses, as the compiler reported it; empty for PTX.
    pub fn usage(&self) -> Vec<(String, Usage)> {
        let mut kernels: Vec<(String, Usage)> = Vec::new();
        for line in self.log.lines() {
            if let Some((_, rest)) = line.split_once("Compiling entry function '") {
                let name = rest.split('\'').next().unwrap_or_default();
                kernels.push((name.to_owned(), Usage::default()));
            }
            // Functions that a kernel calls are reported after it, and counted in.
            let Some((_, usage)) = kernels.last_mut() else { continue };
            usage.stack = usage.stack.max(before(line, " bytes stack frame"));
            usage.stack = usage.stack.max(before(line, " bytes cumulative stack size"));
            usage.spill_stores += before(line, " bytes spill stores");
            usage.spill_loads += before(line, " bytes spill loads");
            usage.registers = usage.registers.max(before(line, " registers"));
        }
        kernels
    }
}

/// The number before some words, 0 if they are not there.
fn before(line: &str, words: &str) -> usize {
    let Some((start, _)) = line.split_once(words) else { return 0 };
    start.rsplit(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kernels_use_is_read_from_the_log() {
        let log = "\
kernels.cu(7): warning #177-D: variable \"x\" was declared but never referenced
ptxas info    : 1 bytes gmem
ptxas info    : Compiling entry function 'k2' for 'sm_90a'
ptxas info    : Function properties for k2
ptxas         .     704 bytes stack frame, 1436 bytes spill stores, 1456 bytes spill loads
ptxas info    : Used 64 registers, used 1 barriers, 704 bytes cumulative stack size
ptxas info    : Compile time = 129.351 ms
ptxas info    : Compiling entry function 'k' for 'sm_90a'
ptxas info    : Function properties for k
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 30 registers, used 0 barriers
";
        let compiled = Compiled { image: Vec::new(), log: log.into() };
        let k2 = Usage { registers: 64, stack: 704, spill_stores: 1436, spill_loads: 1456 };
        let k = Usage { registers: 30, ..Usage::default() };
        assert_eq!(compiled.usage(), [("k2".to_owned(), k2), ("k".to_owned(), k)]);
    }

    #[test]
    fn a_compiler_older_than_the_device_makes_ptx_of_its_newest_architecture() {
        assert_eq!(output(&[75, 80, 90], "sm_90a"), Some(Output::Machine));
        assert_eq!(output(&[75, 80, 90], "sm_100a"), Some(Output::Ptx(90)));
        assert_eq!(output(&[75, 80, 90, 100], "sm_86"), Some(Output::Ptx(80)));
        assert_eq!(output(&[75, 80, 90], "sm_60"), None);
        assert_eq!(output(&[75], "gfx942"), None);
    }
}
