//! Things that any thread may take and put back, without a lock.
//!
//! A lock would have to be waited for, or, where nobody may wait, a thread that finds it held would go without; and in a process that
//! was forked while another thread held it, it would stay held.

#![allow(unsafe_code)] // things change hands by their addresses

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// Room for some things. Each has a tag, by which it may be asked for.
pub(crate) struct Slots<T: Send>(Box<[Slot<T>]>);

struct Slot<T> {
    /// From [`Box::into_raw`], or null.
    thing: AtomicPtr<T>,
    /// Perhaps that of the thing before: no more than a hint.
    tag: AtomicU64,
}

impl<T: Send> Slots<T> {
    /// Room for so many.
    pub fn new(count: usize) -> Slots<T> {
        let slot = |_| Slot { thing: AtomicPtr::new(ptr::null_mut()), tag: AtomicU64::new(0) };
        Slots((0..count).map(slot).collect())
    }

    /// One of those that are here, with that tag if there is one.
    pub fn take(&self, tag: u64) -> Option<Box<T>> {
        let tagged = self.0.iter().filter(|slot| slot.tag.load(Ordering::Relaxed) == tag);
        tagged.chain(&self.0).find_map(Slot::take)
    }

    /// Puts one here, if there is room; else it ends.
    pub fn put(&self, thing: Box<T>, tag: u64) {
        let thing = Box::into_raw(thing);
        let put = |slot: &Slot<T>| {
            let put =
                slot.thing.compare_exchange(ptr::null_mut(), thing, Ordering::Release, Ordering::Relaxed);
            if put.is_ok() {
                slot.tag.store(tag, Ordering::Relaxed);
            }
            put.is_ok()
        };
        if !self.0.iter().any(put) {
            // SAFETY: it is the box from above, which no slot has.
            drop(unsafe { Box::from_raw(thing) });
        }
    }
}

impl<T> Slot<T> {
    fn take(&self) -> Option<Box<T>> {
        if self.thing.load(Ordering::Relaxed).is_null() {
            return None;
        }
        let thing = self.thing.swap(ptr::null_mut(), Ordering::Acquire);
        // SAFETY: it came from a box, and who swapped it out is the only one to have it.
        (!thing.is_null()).then(|| unsafe { Box::from_raw(thing) })
    }
}

impl<T: Send> Drop for Slots<T> {
    fn drop(&mut self) {
        self.0.iter().for_each(|slot| drop(slot.take()));
    }
}

#[cfg(test)]
mod tests {
    use super::Slots;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn threads_that_take_and_put_back_make_no_more_things_than_there_are_threads() {
        let (slots, made) = (Slots::new(4), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (slots, made) = (&slots, &made);
                scope.spawn(move || {
                    for round in 0..20_000 {
                        let mut thing = slots.take(round % 3).unwrap_or_else(|| {
                            made.fetch_add(1, Ordering::Relaxed);
                            Box::new([usize::MAX; 2])
                        });
                        // Nobody else has it.
                        *thing = [thread; 2];
                        std::hint::black_box(&mut thing);
                        assert_eq!(*thing, [thread; 2]);
                        slots.put(thing, round % 3);
                    }
                });
            }
        });
        assert!(made.into_inner() <= 4);
    }

    #[test]
    fn what_is_asked_for_by_its_tag_is_taken_first() {
        let slots = Slots::new(3);
        for tag in [5, 6, 7] {
            slots.put(Box::new(tag), tag);
        }
        assert_eq!(
            [6, 6, 6, 6].map(|tag| slots.take(tag).map(|thing| *thing)),
            [Some(6), Some(5), Some(7), None]
        );
    }

    #[test]
    fn what_there_is_no_room_for_ends_and_so_does_the_rest_with_the_slots() {
        let thing = Arc::new(());
        let slots = Slots::new(1);
        slots.put(Box::new(Arc::clone(&thing)), 0);
        slots.put(Box::new(Arc::clone(&thing)), 0);
        assert_eq!(Arc::strong_count(&thing), 2);
        drop(slots);
        assert_eq!(Arc::strong_count(&thing), 1);
    }
}
