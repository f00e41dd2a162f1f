//! Writes the generated sources of a network into a directory, and prints its commands: to read, or to compile by hand.
//!
//! `cargo run -p rnnc-cuda --example dump_sources NET.rnn NETWORK STREAMS FRAMES DEVICE DIRECTORY [PRECISION]`

use rnnc_cuda::device::Device;
use rnnc_cuda::program::{Command, commands};
use rnnc_plan::{ExecutionConfig, Plan, PlanOptions, Precision};
use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, network, streams, frames, device, directory, precision @ ..] = &arguments[..] else {
        return Err("expected: NET.rnn NETWORK STREAMS FRAMES DEVICE DIRECTORY [PRECISION]".into());
    };
    let (streams, frames) = (streams.parse()?, frames.parse()?);
    let device = Device::named(device).ok_or_else(|| {
        let known: Vec<String> = Device::known().into_iter().map(|device| device.name).collect();
        format!("unknown device; known are: {}", known.join(", "))
    })?;
    let graph = rnnc_lang::compile(file, &std::fs::read_to_string(file)?, Some(network))
        .map_err(|errors| errors.to_string())?;
    let plan = Plan::new(&graph, PlanOptions::training(streams, frames))?;
    let precision = match precision.first().map(String::as_str) {
        None | Some("f32") => Precision::F32,
        Some("tf32") => Precision::Tf32,
        Some("bf16") => Precision::Bf16,
        Some(other) => return Err(format!("unknown precision {other}").into()),
    };
    let config = ExecutionConfig { training: true, precision, ..ExecutionConfig::new(streams, frames) };
    let program = rnnc_cuda::compile::compile(&plan, config, &device)?;
    std::fs::create_dir_all(directory)?;
    for (number, source) in program.sources.iter().enumerate() {
        std::fs::write(Path::new(directory).join(format!("{number}.cu")), &source.text)?;
        println!("{number}.cu: {}, {} kernels", source.name, source.kernels.len());
    }
    for (name, jobs) in
        [("forward", &program.forward), ("backward", &program.backward), ("update", &program.update)]
    {
        println!("\n{name}");
        for command in commands(jobs) {
            match command {
                Command::Kernel(launch) => {
                    let kernel = &program.sources[launch.source].kernels[launch.kernel];
                    println!("  {kernel}: {}, {:?}", launch.what, launch.work);
                }
                Command::Product(product) => println!("  {product:?}"),
                Command::Clear { region, offset, len } => {
                    println!("  clear {len} numbers of {region:?} at {offset}")
                }
            }
        }
    }
    println!("\n{:?}", program.regions);
    Ok(())
}
