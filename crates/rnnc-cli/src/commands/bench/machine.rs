//! The speeds that bounds are made of: measured, or read from a file; for people and as JSON.

use super::args::Bench;
use super::spread::round;
use crate::executors::{ExecutorArgs, ExecutorKind, Precision};
use crate::failure::{BadInput, bad_input};
use clap::ValueEnum;
use rnnc_cpu::Bandwidth;
use rnnc_cpu::kernels::isa::Isa;
use rnnc_cuda::{Copying, Speeds};
use serde_json::{Value, json};

/// What runs the network.
#[derive(Clone, Debug, PartialEq)]
pub enum Machine {
    /// Some cores.
    Cpu(rnnc_cpu::Machine),
    /// A GPU.
    Gpu(Speeds),
}

impl Bench {
    /// This machine's speeds, if a bound is wanted.
    pub(super) fn machine(&self) -> anyhow::Result<Option<Machine>> {
        let ExecutorArgs { executor, threads, .. } = self.executor;
        if executor == ExecutorKind::Reference {
            return match self.machine {
                Some(_) => {
                    bad_input("`--machine` goes with `--executor cpu` and `cuda`: the reference has no bound")
                }
                None => Ok(None),
            };
        }
        if self.no_bound {
            return Ok(None);
        }
        if self.machine.is_some() {
            return self.machine_of_file();
        }
        if executor == ExecutorKind::Cuda {
            return Ok(Some(Machine::Gpu(self.executor.speeds()?)));
        }
        executor.check_threads(threads)?;
        let isa = Isa::choose().map_err(BadInput)?;
        Ok(Some(Machine::Cpu(rnnc_cpu::Machine::measure(isa, executor.workers(threads))?)))
    }

    /// The speeds in the file that `--machine` names, if they are of what runs the network.
    fn machine_of_file(&self) -> anyhow::Result<Option<Machine>> {
        let Some(path) = &self.machine else { return Ok(None) };
        let ExecutorArgs { executor, threads, precision } = self.executor;
        let text = rnnc_io::read_text(path)?;
        let machine = serde_json::from_str(&text).ok().and_then(|value| Machine::of_json(&value));
        let problem = match (&machine, executor) {
            (Some(Machine::Cpu(machine)), ExecutorKind::Cpu) => {
                let (found, threads) = (machine.threads, executor.workers(threads));
                (found != threads).then(|| format!("is of {found} threads, not {threads}"))
            }
            (Some(Machine::Gpu(speeds)), ExecutorKind::Cuda) => {
                let (found, wanted) = (Precision::of(speeds.precision), precision.unwrap_or_default());
                (found != wanted)
                    .then(|| format!("is of products in {}, not {}", found.name(), wanted.name()))
            }
            (_, ExecutorKind::Cuda) => Some("does not hold the speeds of a GPU".into()),
            _ => Some("does not hold the speeds of a machine".into()),
        };
        match problem {
            Some(problem) => bad_input(format!("{} {problem}", path.display())),
            None => Ok(machine),
        }
    }

    /// Refuses a file's speeds of another GPU than the network runs on.
    pub(super) fn check_device(&self, speeds: &Speeds, name: &str) -> Result<(), BadInput> {
        match &self.machine {
            Some(path) if speeds.device != name => {
                Err(BadInput(format!("{} is of {}, not of {name}", path.display(), speeds.device)))
            }
            _ => Ok(()),
        }
    }
}

fn giga(x: f64) -> f64 {
    round(x / 1e9)
}

impl Machine {
    /// Some of the speeds, for people.
    pub fn text(&self) -> String {
        let giga = |x: f64| format!("{:.0}", x / 1e9);
        match self {
            Machine::Cpu(rnnc_cpu::Machine { product, packed_product, read, copy, .. }) => {
                let curve = |points: &[Bandwidth]| {
                    // 32 KiB, 512 KiB, 4 MiB, 32 MiB
                    let texts: Vec<String> = points
                        .iter()
                        .filter(|point| [15, 19, 22, 25].contains(&point.bytes.trailing_zeros()))
                        .map(|point| giga(point.bytes_per_second))
                        .collect();
                    texts.join(", ")
                };
                format!(
                    "this machine: products {} GFLOP/s, packed {}; GB/s of 32 KiB, 512 KiB, 4 MiB, 32 MiB a thread: \
                     reading {}, copying {}",
                    giga(*product),
                    giga(*packed_product),
                    curve(read),
                    curve(copy),
                )
            }
            Machine::Gpu(Speeds { device, product, tf32_product, copy, .. }) => {
                let join = |texts: Vec<String>| texts.join(", ");
                format!(
                    "this machine: {device}; products {} GFLOP/s, in TF32 {}; copying GB/s of {} MiB: {}",
                    giga(*product),
                    giga(*tf32_product),
                    join(copy.iter().map(|copy| (copy.bytes >> 20).to_string()).collect()),
                    join(copy.iter().map(|copy| giga(copy.bytes_per_second)).collect()),
                )
            }
        }
    }

    /// All of the speeds; curves are pairs of bytes (of a CPU, of a thread) and GB/s.
    pub fn json(&self) -> Value {
        let point = |bytes: usize, speed: f64| json!([bytes, giga(speed)]);
        match self {
            Machine::Cpu(machine) => {
                let curve = |points: &[Bandwidth]| -> Value {
                    points.iter().map(|p| point(p.bytes, p.bytes_per_second)).collect()
                };
                json!({
                    "threads": machine.threads,
                    "product_gflops": giga(machine.product),
                    "packed_product_gflops": giga(machine.packed_product),
                    "read_gb_s": curve(&machine.read),
                    "copy_gb_s": curve(&machine.copy),
                })
            }
            Machine::Gpu(speeds) => json!({
                "device": speeds.device,
                "precision": Precision::of(speeds.precision).name(),
                "product_gflops": giga(speeds.product),
                "tf32_product_gflops": giga(speeds.tf32_product),
                "copy_gb_s": speeds.copy.iter().map(|c| point(c.bytes, c.bytes_per_second)).collect::<Value>(),
            }),
        }
    }

    /// What [`Machine::json`] made.
    pub fn of_json(value: &Value) -> Option<Machine> {
        let speed = |value: &Value| value.as_f64().filter(|&x| x > 0.0).map(|x| x * 1e9);
        let curve = |name: &str| -> Option<Vec<(usize, f64)>> {
            let points = value[name].as_array()?.iter();
            points.map(|p| Some((usize::try_from(p[0].as_u64()?).ok()?, speed(&p[1])?))).collect()
        };
        let product = speed(&value["product_gflops"])?;
        if let Some(device) = value["device"].as_str() {
            let copy = curve("copy_gb_s")?.into_iter();
            return Some(Machine::Gpu(Speeds {
                device: device.into(),
                precision: Precision::from_str(value["precision"].as_str()?, false).ok()?.of_config(),
                product,
                tf32_product: speed(&value["tf32_product_gflops"])?,
                copy: copy.map(|(bytes, bytes_per_second)| Copying { bytes, bytes_per_second }).collect(),
            }));
        }
        let bandwidths = |name: &str| -> Option<Vec<Bandwidth>> {
            let points = curve(name)?.into_iter();
            Some(points.map(|(bytes, bytes_per_second)| Bandwidth { bytes, bytes_per_second }).collect())
        };
        Some(Machine::Cpu(rnnc_cpu::Machine {
            threads: usize::try_from(value["threads"].as_u64()?).ok().filter(|&threads| threads > 0)?,
            product,
            packed_product: speed(&value["packed_product_gflops"])?,
            read: bandwidths("read_gb_s")?,
            copy: bandwidths("copy_gb_s")?,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_read_as_it_was_written() {
        let curve = vec![Bandwidth { bytes: 1024, bytes_per_second: 4e9 }];
        let cpu = rnnc_cpu::Machine {
            threads: 2,
            product: 1e9,
            packed_product: 2e9,
            read: curve.clone(),
            copy: curve,
        };
        let gpu = Speeds {
            device: "a GPU".into(),
            precision: rnnc_plan::Precision::Bf16,
            product: 3e14,
            tf32_product: 4e14,
            copy: vec![Copying { bytes: 1 << 24, bytes_per_second: 4e12 }],
        };
        for (machine, keys) in [
            (Machine::Cpu(cpu), ["threads", "product_gflops", "copy_gb_s"]),
            (Machine::Gpu(gpu), ["precision", "tf32_product_gflops", "copy_gb_s"]),
        ] {
            let written = machine.json();
            assert_eq!(Machine::of_json(&written), Some(machine.clone()));
            for key in keys {
                let mut wrong = written.clone();
                wrong[key] = "fast".into();
                assert_eq!(Machine::of_json(&wrong), None, "{key}");
            }
            assert!(machine.text().starts_with("this machine: "), "{}", machine.text());
        }
        assert_eq!(Machine::of_json(&json!({})), None);
    }
}
