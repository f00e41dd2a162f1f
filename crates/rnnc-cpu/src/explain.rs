//! How workers run a plan, for people and tools: what a report says beside the plan.
//!
//! The fields of `schedule` in JSON. Times are microseconds of a frame; stages are named by their places in the pass.
//!
//! ```text
//! of the plan    executor: "cpu"; workers
//! of a pass      predicted_us: all: by all workers, as scheduled; one: by one
//! of a stage     partition: "batch", "units", "serial", or of a loop whole "heads", of a scan "time"
//!                predicted_us: by partition; null for frames stages
//!                pipeline: null, or of loops that run at the same time as others: stages: the first and the last of the
//!                pipeline; chunks; predicted_us: all its loops; loops[]: of each task, workers: the first and how many;
//!                partition
//!                time_block: null, or of stages that run some frames at a time: stages: the first and the last; frames
//! ```

use crate::foreseen::Foreseen;
use crate::schedule::{PassSchedule, Schedule, WorkerGroup};
use rnnc_plan::pipelines::{self, Pipeline};
use rnnc_plan::{Op, Partition, Pass, Placed, Stage, StageKind};
use rnnc_report::{Brief, Notes, PassNotes, StageNotes, count, trimmed};
use serde_json::{Map, Value, json};

impl Foreseen {
    /// What a report says of it.
    pub fn notes(&self) -> Notes {
        let Foreseen { plan, schedule, placement, working, optimizer } = self;
        let workers = schedule.options.workers.max(1);
        // Stages are numbered through both passes.
        let firsts = [1, 1 + plan.forward_pass.stages.len()];
        let passes = plan.passes().zip(schedule.passes()).zip(firsts);
        let passes = passes.map(|(((_, _, pass), own), first)| {
            let stage = |at| Explained { schedule, pass, own, at, first }.notes();
            let predicted =
                json!({ "all": a_frame(schedule, own.us), "one": a_frame(schedule, own.us_of_one) });
            PassNotes {
                stages: (0..pass.stages.len()).map(stage).collect(),
                json: json!({ "predicted_us": predicted }),
            }
        });
        Notes {
            runner: count(workers, "worker"),
            passes: passes.collect(),
            work: vec![("on a CPU, predicted".into(), predicted(schedule))],
            placement: placement.clone(),
            optimizer: *optimizer,
            working: (*working, "packed weights, and the workers' own".into()),
            json: json!({ "executor": "cpu", "workers": schedule.options.workers }),
        }
    }

    /// What a summary says of it.
    pub fn brief(&self) -> Brief {
        let schedule = &self.schedule;
        let a_frame = |pass: &PassSchedule| a_frame(schedule, pass.us);
        Brief {
            memory: self.memory(),
            on: format!("{} of a CPU", count(schedule.options.workers.max(1), "thread")),
            forward_us: a_frame(&schedule.forward),
            backward_us: schedule.backward.as_ref().map(a_frame),
            left_out: String::new(),
            more: Vec::new(),
        }
    }
}

/// Of the microseconds of a window, those of a frame.
fn a_frame(schedule: &Schedule, us: f64) -> f64 {
    us / schedule.options.frames.max(1) as f64
}

/// The same in words.
fn us_a_frame(schedule: &Schedule, us: f64) -> String {
    format!("{} us", trimmed(a_frame(schedule, us)))
}

/// The time of a frame in each pass, by all workers and by one.
fn predicted(schedule: &Schedule) -> String {
    let both = |us: fn(&PassSchedule) -> f64| {
        let passes = schedule.passes().map(|pass| us_a_frame(schedule, us(pass)));
        passes.collect::<Vec<_>>().join(" and ")
    };
    let alone = match schedule.options.workers {
        0 | 1 => String::new(),
        _ => format!("; by one worker {}", both(|pass| pass.us_of_one)),
    };
    let names = if schedule.backward.is_some() { "forward and backward" } else { "forward" };
    format!("{} a frame {names}{alone}", both(|pass| pass.us))
}

/// A stage, and where it stands.
#[derive(Clone, Copy)]
struct Explained<'a> {
    schedule: &'a Schedule,
    pass: &'a Pass,
    own: &'a PassSchedule,
    /// Its place in the pass.
    at: usize,
    /// The number of the pass's first stage.
    first: usize,
}

impl Explained<'_> {
    fn stage(&self) -> &Stage {
        &self.pass.stages[self.at]
    }

    fn partition(&self) -> Partition {
        self.own.partitions[self.at]
    }

    fn workers(&self) -> usize {
        self.schedule.options.workers.max(1)
    }

    /// The pipeline whose loops are the stage's.
    fn pipeline(&self) -> Option<&Pipeline<WorkerGroup>> {
        let pipeline = pipelines::of_stage(&self.own.pipelines, self.at);
        pipeline.filter(|_| self.stage().kind == StageKind::Loop)
    }

    fn notes(self) -> StageNotes {
        let choices = match self.stage().kind {
            StageKind::Frames => None,
            StageKind::Scan | StageKind::Loop => Some(self.schedule.choices(self.stage())),
        };
        let mut text = vec![self.shared_out(choices.as_deref())];
        if let Some(block) = self.own.time_block_of(self.at) {
            let (first, last) = (self.first + block.stages.0, self.first + block.stages.1);
            let frames = count(block.frames, "frame");
            text.push(format!(
                "stages {first} to {last} take turns, {frames} at a time: what they move stays in a cache"
            ));
        }
        let partitions = match self.pipeline() {
            Some(pipeline) => {
                pipeline.loops_of(self.pass, self.at).iter().map(|group| group.partition).collect()
            }
            None => vec![self.partition(); self.stage().tasks.len()],
        };
        StageNotes { text, partitions, json: self.json(choices.as_deref()) }
    }

    /// How the work is shared out, and why: of loops and scans, with the times that the choice goes by.
    fn shared_out(&self, choices: Option<&[(Partition, f64)]>) -> String {
        if self.workers() == 1 {
            return "one worker does all".into();
        }
        match choices {
            None => self.frames_shared_out(),
            Some(choices) => self.cycle_shared_out(choices),
        }
    }

    fn frames_shared_out(&self) -> String {
        let (stage, workers) = (self.stage(), self.workers());
        let is_gradient =
            |op: &Placed| matches!(op.op, Op::WeightGradient(_) | Op::TableGradient(_) | Op::Reduce(_));
        let mut ops = stage.tasks.iter().flat_map(|task| &task.phases).flat_map(|phase| &phase.ops);
        match self.partition() {
            Partition::Serial => "one worker does all: too little to share".into(),
            _ if ops.all(is_gradient) => format!("weights are shared out among {workers} workers"),
            Partition::Batch | Partition::Time => {
                format!("rows (frames of streams) are shared out: there are enough for {workers} workers")
            }
            Partition::Units | Partition::Heads => {
                let barriers = match stage.cost.barriers {
                    0 => "no barriers".to_string(),
                    n => count(n as usize, "barrier"),
                };
                format!("units are shared out ({barriers}): there are too few rows for {workers} workers")
            }
        }
    }

    fn cycle_shared_out(&self, choices: &[(Partition, f64)]) -> String {
        let workers = self.workers();
        let name = |partition: Partition| match partition {
            Partition::Serial => "one worker",
            Partition::Batch => "sharing out streams",
            Partition::Units => "sharing out units",
            Partition::Heads => "sharing out whole heads",
            Partition::Time => "chunks of frames",
        };
        let us_a_frame = |us: f64| us_a_frame(self.schedule, us);
        let others = |chosen: Option<Partition>| {
            let possible = |partition: Partition| {
                partition != Partition::Batch || self.schedule.options.streams >= workers
            };
            let others =
                choices.iter().filter(|&&(partition, _)| Some(partition) != chosen && possible(partition));
            others
                .map(|&(partition, us)| format!("{} {}", name(partition), us_a_frame(us)))
                .collect::<Vec<_>>()
                .join(", ")
        };
        if let Some(pipeline) = self.pipeline() {
            let groups =
                pipeline.loops_of(self.pass, self.at).iter().map(|group| match group.workers.len() {
                    1 => format!("worker {}", group.workers.start + 1),
                    _ => format!("workers {} to {}", group.workers.start + 1, group.workers.end),
                });
            let groups = groups.collect::<Vec<_>>().join(", ");
            let with = match pipeline.chunks {
                1 => "its loops run side by side".to_string(),
                chunks => {
                    let (first, last) = (self.first + pipeline.stages.0, self.first + pipeline.stages.1);
                    format!("runs in a pipeline of stages {first} to {last}, {chunks} chunks of frames")
                }
            };
            return format!(
                "{with}: {groups}; predicted {} a frame for all loops of the pipeline; by itself {}",
                us_a_frame(pipeline.us),
                others(None)
            );
        }
        let partition = self.partition();
        let us = choices.iter().find(|choice| choice.0 == partition).map_or(0.0, |(_, us)| *us);
        let how = match partition {
            Partition::Serial => "one worker does all".to_string(),
            Partition::Batch => "streams are shared out, without barriers".into(),
            Partition::Units | Partition::Heads => {
                let barriers = match self.stage().barriers_per_step(partition) {
                    0 => "no barriers".to_string(),
                    n => format!("{} a step", count(n, "barrier")),
                };
                let what = if partition == Partition::Heads { "whole heads" } else { "units" };
                format!("{what} are shared out ({barriers})")
            }
            Partition::Time => {
                format!("chunks of frames are shared out: there are too few lanes for {workers} workers")
            }
        };
        format!("{how}: predicted {} a frame; {}", us_a_frame(us), others(Some(partition)))
    }

    fn json(&self, choices: Option<&[(Partition, f64)]>) -> Value {
        let predicted = choices.map(|choices| {
            let name = |partition| json!(partition).as_str().unwrap_or_default().to_string();
            let choices = choices.iter().map(|&(p, us)| (name(p), json!(a_frame(self.schedule, us))));
            choices.collect::<Map<_, _>>()
        });
        let group = |group: &WorkerGroup| json!({ "workers": [group.workers.start, group.workers.len()], "partition": group.partition });
        let pipeline = self.pipeline().map(|pipeline| {
            let loops = pipeline.loops_of(self.pass, self.at).iter().map(group);
            json!({
                "stages": [pipeline.stages.0, pipeline.stages.1],
                "chunks": pipeline.chunks,
                "predicted_us": a_frame(self.schedule, pipeline.us),
                "loops": loops.collect::<Vec<_>>(),
            })
        });
        let block = self.own.time_block_of(self.at);
        let block =
            block.map(|block| json!({ "stages": [block.stages.0, block.stages.1], "frames": block.frames }));
        json!({
            "partition": self.partition(),
            "predicted_us": predicted,
            "pipeline": pipeline,
            "time_block": block,
        })
    }
}
