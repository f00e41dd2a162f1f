//! Recordings to begin with: plucked strings, and what an amplifier with a drooping power supply makes of them.

use rnnc_io::{Audio, audio_bytes};
use std::f64::consts::TAU;

const RATE: u32 = 16_000;
const SECONDS: f64 = 20.0;
/// Between notes.
const NOTE: f64 = 0.3;

/// The files, by their names.
pub fn recordings() -> std::io::Result<[(&'static str, Vec<u8>); 2]> {
    let (input, target): (Vec<f32>, Vec<f32>) = samples().unzip();
    let bytes = |samples| audio_bytes(&Audio { rate: RATE, channels: 1, samples });
    Ok([("amplifier-input.wav", bytes(input)?), ("amplifier-target.wav", bytes(target)?)])
}

/// What goes in, and what comes out.
fn samples() -> impl Iterator<Item = (f32, f32)> {
    let (mut droop, mut smooth) = (0.0f64, 0.0f64);
    (0..(SECONDS * f64::from(RATE)) as u64).map(move |frame| {
        let time = frame as f64 / f64::from(RATE);
        let note = (time / NOTE).floor();
        let since = time - note * NOTE;
        // Two octaves, in an order that does not repeat soon.
        let step = (note * note * 7.0 + note * 5.0) % 24.0;
        let pitch = 110.0 * f64::powf(2.0, step / 12.0);
        let harmonic = |k: f64| f64::sin(TAU * pitch * k * since) * f64::exp(-since * (3.0 + 2.0 * k)) / k;
        let attack = (since * 400.0).min(1.0);
        let input = 0.5 * attack * (1..=5).map(|k| harmonic(f64::from(k))).sum::<f64>();
        droop += 0.0008 * (input.abs() - droop);
        let driven = f64::tanh(6.0 * input * (1.0 - 2.0 * droop.min(0.4)));
        smooth += 0.4 * (driven - smooth);
        (input as f32, (0.6 * smooth) as f32)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recordings_are_loud_enough_and_nowhere_too_loud() {
        let (input, target): (Vec<f32>, Vec<f32>) = samples().unzip();
        for samples in [input, target] {
            let loudest = samples.iter().fold(0f32, |most, x| most.max(x.abs()));
            assert!((0.3..0.99).contains(&loudest), "{loudest}");
        }
    }
}
