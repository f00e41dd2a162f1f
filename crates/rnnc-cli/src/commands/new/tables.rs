//! Tables to begin with: gestures of three kinds, and a year of an electricity grid's load with gaps.

use std::f64::consts::TAU;
use std::fmt::Write;

/// Numbers from -1 to 1 that follow no rule that is seen at once, and are the same on every machine.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        // Knuth's MMIX generator, of which the high bits are good enough.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f64 / f64::from(1 << 23) - 1.0
    }
}

/// 150 gestures of 15 to 40 points, sorted by their class, as tables of such often are.
pub fn gestures() -> String {
    let mut noise = Noise(1951);
    let mut text = String::from("number,gesture,x,y\n");
    let mut number = 0;
    for gesture in ["circle", "line", "zigzag"] {
        for _ in 0..50 {
            number += 1;
            let points = 15 + (12.5 * (noise.next() + 1.0)) as usize;
            let (turn, size) = (noise.next() * 0.5, 1.0 + 0.3 * noise.next());
            for point in 0..points {
                let way = point as f64 / points as f64;
                let (x, y) = match gesture {
                    "circle" => (f64::cos(TAU * way), f64::sin(TAU * way)),
                    "line" => (2.0 * way - 1.0, 0.0),
                    _ => (2.0 * way - 1.0, 0.6 * f64::abs((way * 6.0) % 2.0 - 1.0)),
                };
                let (sin, cos) = turn.sin_cos();
                let mut at = |z: f64| size * z + 0.12 * noise.next();
                let (x, y) = (at(x * cos - y * sin), at(x * sin + y * cos));
                // A text always can be added to.
                let _ = writeln!(text, "{number},{gesture},{x:.3},{y:.3}");
            }
        }
    }
    text
}

/// The load of each hour of a year, in megawatts. Some values are missing.
pub fn load() -> String {
    let mut noise = Noise(1890);
    let mut text = String::from("hour,load,temperature,day_sin,day_cos\n");
    let mut drift = 0.0;
    for hour in 0..8760u32 {
        let time = f64::from(hour);
        let (day, week, year) = (TAU * time / 24.0, time / 24.0 % 7.0, TAU * time / 8760.0);
        drift = 0.9 * drift + noise.next();
        let temperature = 10.0 - 9.0 * year.cos() - 4.0 * (day - 0.8).cos() + drift;
        let weekday = if week < 5.0 { 1.0 } else { 0.0 };
        let load = 900.0 + 140.0 * weekday - 160.0 * day.cos()
            + 60.0 * (2.0 * day).sin()
            + 9.0 * (18.0 - temperature).max(0.0)
            + 12.0 * noise.next();
        let load = if hour % 397 == 60 { String::new() } else { format!("{load:.1}") };
        let temperature = if hour % 611 < 3 { "NA".into() } else { format!("{temperature:.1}") };
        let _ = writeln!(text, "{hour},{load},{temperature},{:.3},{:.3}", day.sin(), day.cos());
    }
    text
}
