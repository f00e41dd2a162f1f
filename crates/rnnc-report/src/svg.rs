//! A picture of the network as SVG.

use crate::layered::MOST_VERTICES;
use crate::layout::{Line, Rect, SMALL_LETTER, Scene, arrange};
use crate::picture::{GroupKind, Picture, Role};
use rnnc_plan::Plan;
use std::fmt::Write;
use thiserror::Error;

/// The most layers that are drawn: more, and nobody can read it.
const MOST_LAYERS: usize = 400;
/// Room around everything.
const MARGIN: f64 = 20.0;
const TITLE: f64 = 34.0;
const LEGEND: f64 = 92.0;

const FRAMES: Look = Look { fill: "#dbe7f5", line: "#3f6ea8" };
const SCAN: Look = Look { fill: "#cdebd2", line: "#2f8540" };
const LOOP: Look = Look { fill: "#fadcc3", line: "#c8701e" };

/// Colours.
struct Look {
    fill: &'static str,
    line: &'static str,
}

/// A network that is not drawn.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum PictureError {
    /// Too many layers.
    #[error(
        "the network has {layers} layers to draw; pictures have at most {limit} (`--format dot` has no limit)"
    )]
    Layers {
        /// How many there are, biases aside.
        layers: usize,
        /// The limit.
        limit: usize,
    },
    /// Too many long lines.
    #[error(
        "the network's connections pass too many layers to be drawn: {points} points, and pictures have at most {limit} \
         (`--format dot` has no limit)"
    )]
    Connections {
        /// Layers, and points where connections pass others.
        points: usize,
        /// The limit.
        limit: usize,
    },
}

/// The forward network as a picture, complete in itself: layers as nodes, cycles boxed and coloured by kind, delays on
/// the reads of other frames, with a legend. Biases are not drawn.
pub fn svg(plan: &Plan) -> Result<String, PictureError> {
    let picture = Picture::of(plan);
    if picture.nodes.len() > MOST_LAYERS {
        return Err(PictureError::Layers { layers: picture.nodes.len(), limit: MOST_LAYERS });
    }
    let scene =
        arrange(&picture).map_err(|points| PictureError::Connections { points, limit: MOST_VERTICES })?;
    Ok(draw(&picture, &scene))
}

fn draw(picture: &Picture, scene: &Scene) -> String {
    let title_width = picture.title.chars().count() as f64 * 10.0;
    let inner = scene.width.max(title_width).max(600.0);
    let (width, height) = (inner + 2.0 * MARGIN, scene.height + TITLE + LEGEND + 2.0 * MARGIN);
    let mut out = Svg::default();
    out.line(&format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"monospace\">"
    ));
    out.line(&format!("<title>{}</title>", escaped(&picture.title)));
    out.line("<rect width=\"100%\" height=\"100%\" fill=\"white\"/>");
    out.text(MARGIN, MARGIN + 16.0, 16.0, "#222", "start", &picture.title);
    let left = MARGIN + (inner - scene.width) / 2.0;
    out.line(&format!("<g transform=\"translate({left:.1} {:.1})\">", MARGIN + TITLE));
    for (group, rect) in picture.groups.iter().zip(&scene.boxes) {
        let look = group_look(group.kind);
        out.line(&format!("<g><title>{}</title>", escaped(&group.title)));
        out.rect(*rect, 10.0, look.fill, look.line, 1.4, 0.35);
        out.line("</g>");
    }
    for line in &scene.lines {
        out.path(line);
    }
    for (group, rect) in picture.groups.iter().zip(&scene.titles) {
        out.text(rect.x, rect.y + 13.0, 12.0, group_look(group.kind).line, "start", &group.label);
    }
    for mark in &scene.marks {
        if mark.text.is_empty() {
            out.line(&format!("<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"#555\"/>", mark.x, mark.y));
            continue;
        }
        let width = mark.text.chars().count() as f64 * SMALL_LETTER + 12.0;
        let rect = Rect { x: mark.x - width / 2.0, y: mark.y - 9.0, width, height: 18.0 };
        out.rect(rect, 9.0, "white", "#777", 1.0, 1.0);
        out.text(mark.x, mark.y + 3.5, 10.5, "#333", "middle", &mark.text);
    }
    for (i, (node, rect)) in picture.nodes.iter().zip(&scene.nodes).enumerate() {
        let look = node.group.map_or(FRAMES, |g| group_look(picture.groups[g].kind));
        let fill = if matches!(node.role, Role::Input | Role::Parameter) { "white" } else { look.fill };
        let weight = if node.role == Role::Output { 3.0 } else { 1.2 };
        let round = if node.role == Role::Input { 19.0 } else { 5.0 };
        out.line(&format!("<g id=\"layer{i}\"><title>{}</title>", escaped(&node.title)));
        out.rect(*rect, round, fill, look.line, weight, 1.0);
        let middle = rect.x + rect.width / 2.0;
        out.text(middle, rect.y + 16.5, 12.0, "#111", "middle", &node.label);
        out.text(middle, rect.y + 30.5, 10.0, "#555", "middle", &node.detail);
        out.line("</g>");
    }
    out.line("</g>");
    legend(&mut out, MARGIN, height - MARGIN - LEGEND + 24.0);
    out.line("</svg>");
    out.text
}

fn group_look(kind: GroupKind) -> Look {
    match kind {
        GroupKind::Loop => LOOP,
        GroupKind::Scan => SCAN,
    }
}

fn legend(out: &mut Svg, x: f64, y: f64) {
    let rows = [
        (FRAMES, "frames: all frames at once"),
        (SCAN, "scan: over time, in parallel"),
        (LOOP, "loop: frame after frame"),
    ];
    for (i, (look, text)) in rows.into_iter().enumerate() {
        let y = y + 20.0 * i as f64;
        out.rect(Rect { x, y, width: 22.0, height: 13.0 }, 3.0, look.fill, look.line, 1.2, 1.0);
        out.text(x + 30.0, y + 10.5, 11.0, "#333", "start", text);
    }
    let line = |full, dashed, y: f64| Line {
        points: vec![(x + 270.0, y + 6.0), (x + 298.0, y + 6.0)],
        full,
        dashed,
        arrow: false,
        arch: false,
    };
    let rows = [
        (line(true, false, y), "through a weight matrix"),
        (line(false, false, y + 20.0), "unit by unit, or a vector function"),
        (line(false, true, y + 40.0), "to another frame: t-1 is one frame ago"),
    ];
    for (i, (line, text)) in rows.into_iter().enumerate() {
        out.path(&line);
        out.text(x + 308.0, y + 20.0 * i as f64 + 10.5, 11.0, "#333", "start", text);
    }
    let note = "Thick borders: outputs. Round: inputs. Numbers: units. Biases are not drawn.";
    out.text(x, y + 72.0, 11.0, "#333", "start", note);
}

/// Markup under construction.
#[derive(Default)]
struct Svg {
    text: String,
}

impl Svg {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn text(&mut self, x: f64, y: f64, size: f64, fill: &str, anchor: &str, text: &str) {
        self.line(&format!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" fill=\"{fill}\" text-anchor=\"{anchor}\">{}</text>",
            escaped(text)
        ));
    }

    fn rect(&mut self, rect: Rect, round: f64, fill: &str, line: &str, weight: f64, opacity: f64) {
        let Rect { x, y, width, height } = rect;
        self.line(&format!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"{round}\" fill=\"{fill}\" \
             fill-opacity=\"{opacity}\" stroke=\"{line}\" stroke-width=\"{weight}\"/>"
        ));
    }

    /// A line, with its arrow.
    fn path(&mut self, line: &Line) {
        let Some(&(to_x, to_y)) = line.points.last() else { return };
        let mut d = String::new();
        for piece in line.pieces() {
            let ((from_x, from_y), (x, y)) = (piece.from, piece.to);
            if d.is_empty() {
                d = format!("M{from_x:.1} {from_y:.1}");
            }
            // Writing to a string cannot fail.
            let _ = match piece.controls {
                None => write!(d, " L{x:.1} {y:.1}"),
                Some(((x1, y1), (x2, y2))) => write!(d, " C{x1:.1} {y1:.1} {x2:.1} {y2:.1} {x:.1} {y:.1}"),
            };
        }
        let weight = if line.full { 2.2 } else { 1.1 };
        let (dash, colour) =
            if line.dashed { (" stroke-dasharray=\"5 3\"", "#8a3fa0") } else { ("", "#555") };
        self.line(&format!(
            "<path d=\"{d}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{weight}\"{dash}/>"
        ));
        if line.arrow {
            self.line(&format!("<path d=\"M{to_x:.1} {to_y:.1} l-4 -8 l8 0 z\" fill=\"{colour}\"/>"));
        }
    }
}

/// Text as it may stand in markup. Letters that no markup may hold become a replacement.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
