//! Sound, as WAV files.

use crate::error::FileError;
use crate::files::write_whole;
use crate::inputs::{open_regular, reserve};
use crate::kind::{Wanted, check_kind};
use hound::{SampleFormat, WavReader, WavSpec, WavWriter};
use std::io::{self, BufReader, BufWriter, Cursor, Read, Seek, Write};
use std::path::Path;

/// A sound of one channel or several.
#[derive(Clone, Debug, PartialEq)]
pub struct Audio {
    /// Frames a second.
    pub rate: u32,
    /// Numbers in a frame.
    pub channels: usize,
    /// Frame by frame, the channels of a frame side by side; from -1 to 1 where the file has whole numbers.
    pub samples: Vec<f32>,
}

impl Audio {
    /// How many frames there are.
    pub fn frames(&self) -> usize {
        self.samples.len() / self.channels.max(1)
    }
}

/// Reads a WAV file: whole numbers of 8 to 32 bits, or floats of 32.
///
/// # Errors
/// What is no such file, is cut short, or has a sample that is not finite.
pub fn read_audio(path: &Path) -> Result<Audio, FileError> {
    check_kind(path, Wanted::Audio)?;
    let (file, length) = open_regular(path)?;
    let reader = WavReader::new(BufReader::new(file)).map_err(|error| failed(path, error))?;
    let WavSpec { channels, sample_rate, bits_per_sample, sample_format } = reader.spec();
    let wrong = |problem: String| FileError::contents(path, problem);
    if channels == 0 || bits_per_sample == 0 {
        return Err(wrong(format!("a sound of {channels} channels and samples of {bits_per_sample} bits")));
    }
    // What the header says may be more than there is.
    let count = reader.len() as usize;
    if count as u64 * u64::from(bits_per_sample.div_ceil(8)) > length {
        return Err(wrong(format!("cut short: the header speaks of {count} samples")));
    }
    if !count.is_multiple_of(usize::from(channels)) {
        return Err(wrong(format!("{count} samples, which {channels} channels cannot have")));
    }
    let mut samples = reserve(count, "a sound").map_err(|error| wrong(error.to_string()))?;
    match sample_format {
        SampleFormat::Float => append::<_, f32>(reader, path, &mut samples, |sample| sample)?,
        SampleFormat::Int => {
            let scale = -f32::from(i16::MIN) * 2f32.powi(i32::from(bits_per_sample) - 16);
            append::<_, i32>(reader, path, &mut samples, |sample| sample as f32 / scale)?;
        }
    }
    let channels = usize::from(channels);
    if let Some(place) = samples.iter().position(|sample| !sample.is_finite()) {
        let (frame, channel, sample) = (place / channels, place % channels, samples[place]);
        return Err(wrong(format!("the sample of frame {frame}, channel {channel}, is {sample}")));
    }
    Ok(Audio { rate: sample_rate, channels, samples })
}

fn append<R: Read, S: hound::Sample>(
    reader: WavReader<R>,
    path: &Path,
    samples: &mut Vec<f32>,
    number: impl Fn(S) -> f32,
) -> Result<(), FileError> {
    for sample in reader.into_samples::<S>() {
        samples.push(number(sample.map_err(|error| failed(path, error))?));
    }
    Ok(())
}

fn failed(path: &Path, error: hound::Error) -> FileError {
    match error {
        hound::Error::IoError(error) => FileError::read(path, error),
        hound::Error::Unsupported => FileError::contents(
            path,
            "a kind of WAV that is not read: whole numbers and floats of 32 bits are",
        ),
        other => FileError::contents(path, format!("not a WAV file that can be read: {other}")),
    }
}

/// Writes a WAV file, whole or not at all, of floats of 32 bits.
///
/// # Errors
/// What cannot be written; more than the format holds: 65,535 channels, 4 GiB.
pub fn write_audio(path: &Path, audio: &Audio) -> Result<(), FileError> {
    let spec = spec(audio).map_err(|error| FileError::write(path, error))?;
    write_whole(path, |out| {
        let mut out = BufWriter::new(out);
        write(&mut out, spec, &audio.samples)?;
        out.flush()
    })
}

/// The bytes of such a file.
///
/// # Errors
/// More than the format holds.
pub fn audio_bytes(audio: &Audio) -> io::Result<Vec<u8>> {
    let mut out = Cursor::new(Vec::new());
    write(&mut out, spec(audio)?, &audio.samples)?;
    Ok(out.into_inner())
}

/// How a sound is written, if the format holds it.
fn spec(audio: &Audio) -> io::Result<WavSpec> {
    let channels = u16::try_from(audio.channels).ok().filter(|&channels| channels > 0);
    let bytes = audio.samples.len() as u64 * 4;
    match channels {
        Some(channels) if bytes < u64::from(u32::MAX) - 1024 => Ok(WavSpec {
            channels,
            sample_rate: audio.rate,
            bits_per_sample: 32,
            sample_format: SampleFormat::Float,
        }),
        _ => {
            let problem =
                format!("a WAV file cannot hold {} channels of {} frames", audio.channels, audio.frames());
            Err(io::Error::new(io::ErrorKind::InvalidInput, problem))
        }
    }
}

fn write(out: &mut (impl Write + Seek), spec: WavSpec, samples: &[f32]) -> io::Result<()> {
    let written = WavWriter::new(out, spec).and_then(|mut writer| {
        samples.iter().try_for_each(|&sample| writer.write_sample(sample))?;
        writer.finalize()
    });
    written.map_err(|error| match error {
        hound::Error::IoError(error) => error,
        other => io::Error::other(other.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn sound(channels: usize, frames: usize) -> Audio {
        let samples = (0..channels * frames).map(|i| ((i * 37 % 101) as f32 - 50.0) / 64.0).collect();
        Audio { rate: 44_100, channels, samples }
    }

    #[test]
    fn a_sound_is_read_as_it_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.wav");
        for audio in [sound(1, 1000), sound(2, 7), sound(5, 1), sound(1, 0)] {
            write_audio(&path, &audio).unwrap();
            assert_eq!(read_audio(&path).unwrap(), audio);
        }
    }

    #[test]
    fn whole_numbers_are_shares_of_the_largest() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.wav");
        for bits in [8, 16, 24, 32] {
            let spec = WavSpec {
                channels: 1,
                sample_rate: 8000,
                bits_per_sample: bits,
                sample_format: SampleFormat::Int,
            };
            let mut writer = WavWriter::create(&path, spec).unwrap();
            let least = -(1i64 << (bits - 1)) as i32;
            for sample in [0, least, least / 2, -(least / 4)] {
                writer.write_sample(sample).unwrap();
            }
            writer.finalize().unwrap();
            assert_eq!(read_audio(&path).unwrap().samples, [0.0, -1.0, -0.5, 0.25], "{bits} bits");
        }
    }

    #[test]
    fn a_file_that_is_cut_short_or_has_nan_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.wav");
        write_audio(&path, &sound(2, 100)).unwrap();
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(read_audio(&path).is_err(), "{length} of {}", whole.len());
        }
        let mut broken = sound(2, 100);
        broken.samples[7] = f32::NAN;
        write_audio(&path, &broken).unwrap();
        let error = read_audio(&path).unwrap_err().to_string();
        assert!(error.contains("frame 3, channel 1, is NaN"), "{error}");
        fs::write(&path, "no sound at all\n").unwrap();
        let error = read_audio(&path).unwrap_err().to_string();
        assert!(error.contains("this is a text, not a sound (.wav)"), "{error}");
    }

    #[test]
    fn what_a_wav_file_cannot_hold_is_refused_before_it_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.wav");
        for channels in [0, 70_000] {
            let audio = Audio { rate: 1, channels, samples: vec![0.0; channels] };
            assert!(write_audio(&path, &audio).unwrap_err().to_string().contains("cannot hold"));
        }
        assert!(!path.exists());
    }
}
