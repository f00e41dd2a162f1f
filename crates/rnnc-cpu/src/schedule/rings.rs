//! Rings: buffers that only the stages of one time block touch need no more frames than a time block has, and those that are read
//! behind it.

use rnnc_plan::{BufferId, Plan};

/// The rings of each time block, with the frames of each. `time_blocks` are in the order of their stages: the first and the last stage,
/// counted through both passes, and the frames of one.
pub(super) fn find(plan: &Plan, time_blocks: &[(usize, usize, usize)]) -> Vec<Vec<(BufferId, usize)>> {
    if time_blocks.is_empty() {
        return Vec::new();
    }
    // Of each buffer, the first and the last stage that touches it, and the most frames that one is read behind another.
    let mut touched: Vec<Option<(usize, usize, usize)>> = vec![None; plan.buffers.len()];
    for (number, stage) in plan.stages().enumerate() {
        stage.for_each_touch(&mut |view, delay| {
            let (first, _, furthest) = touched[view.buffer.0].unwrap_or((number, number, 0));
            let delay = usize::try_from(delay.unsigned_abs()).unwrap_or(usize::MAX);
            touched[view.buffer.0] = Some((first, number, furthest.max(delay)));
        });
    }
    let mut rings: Vec<Vec<(BufferId, usize)>> = vec![Vec::new(); time_blocks.len()];
    for (place, buffer) in plan.buffers.iter().enumerate() {
        let Some((first, last, furthest)) = touched[place] else { continue };
        let block = time_blocks.partition_point(|&(_, end, _)| end < first);
        let Some(&(begin, end, frames)) = time_blocks.get(block) else { continue };
        // Without a lifetime it must outlive the stages.
        let fits = buffer.lifetime.is_some() && buffer.history == 0 && begin <= first && last <= end;
        let length = frames.checked_add(furthest).and_then(usize::checked_next_power_of_two);
        if let Some(length) = length.filter(|_| fits) {
            rings[block].push((BufferId(place), length));
        }
    }
    rings
}
