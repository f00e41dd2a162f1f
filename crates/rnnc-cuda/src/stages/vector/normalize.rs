//! Layer norm and RMS norm, and the errors that go back through them.

use super::{Code, Lanes, Scope};
use crate::places::float;
use std::fmt::Write;

impl Code<'_> {
    /// A normalization of the last operand x; or its gradient, of the first operand e: with n units, h the normalized ones and
    /// r = 1 / deviation, r (e - mean(e) - h mean(e h)), the first mean only if centered (Ba, Kiros & Hinton 2016,
    /// supplement).
    ///
    /// In single precision, and where a square may have been too large, or too small to count, again in double.
    pub(super) fn normalize(&mut self, center: bool, epsilon: f64, gradient: bool) {
        let numbers: Vec<(&str, String)> = match gradient {
            true => vec![("e", self.operand(0)), ("x", self.operand(1))],
            false => vec![("x", self.operand(0))],
        };
        let normal = Normal { center, epsilon, numbers };
        let whole = matches!(self.scope, Scope::Whole);
        let unit = if whole { self.unit.replace("g_at", "0u") } else { "own_first".into() };
        for (operand, (name, _)) in normal.means().enumerate() {
            let first = self.site.load(operand, &unit);
            let first = if whole { first } else { format!("own_first < own_end ? {first} : 0.f") };
            self.line(&format!("const float g_first_{name} = {first};"));
        }
        if matches!(self.scope, Scope::Own(_)) {
            let means = normal.means().map(|(name, _)| format!("g_own_mean_{name}"));
            let along = gradient.then(|| "g_own_along".to_string());
            self.sums = means.chain(["g_own_deviation".to_string()]).chain(along).collect();
            self.line(&format!("float {};", self.sums.join(" = 0.f, ") + " = 0.f"));
        }
        self.moments("float", &normal);
        let there = if whole { "" } else { "own_first >= own_end || " };
        let along = if gradient { " && fabsf(g_along) <= 1e19f" } else { "" };
        self.line(&format!(
            "const bool g_safe = {there}(g_variance >= 1e-19f && g_variance <= 3.4028235e38f{along});"
        ));
        self.line("if (g_safe) {");
        self.normalized("float", &normal);
        // The lanes of a warp stay together, also where they have two rows.
        let some = if self.lanes == Lanes::Half { "ballot(!g_safe) != 0" } else { "!g_safe" };
        self.line(&format!("}}\nif ({some}) {{"));
        self.moments("double", &normal);
        self.line("if (!g_safe) {");
        self.normalized("double", &normal);
        self.line("} }");
    }

    /// The sums of a normalization, in a precision: means, as what is nearest to them and the rest, the variance, and the
    /// mean of errors times the normalized numbers, `g_along`.
    fn moments(&mut self, real: &str, normal: &Normal<'_>) {
        let lanes = self.lanes.name();
        let own = matches!(self.scope, Scope::Own(_));
        let count = if own { "g_count".into() } else { float(self.size as f64) };
        self.line(&format!("const {real} g_share = 1 / ({real}){count};"));
        // Of differences from one of the numbers: they are 0 where numbers are equal, and exact where they are close.
        let [mut units, mut parts] = [String::new(), String::new()];
        for (name, value) in normal.means() {
            self.line(&format!("{real} g_sum_{name} = 0;"));
            let _ = write!(units, "g_sum_{name} += ({real}){value} - g_first_{name}; ");
            let mean = format!("({real})part_g_own_mean_{name}[g_k]");
            let _ = write!(parts, "g_sum_{name} += g_count * ({mean} - g_first_{name}); ");
        }
        if normal.center {
            self.each_of_scope(&units, &parts);
        }
        for (name, _) in normal.means() {
            self.line(&format!("const {real} g_from_{name} = {lanes}_sum(g_sum_{name}) * g_share;"));
            self.line(&format!("const {real} g_mean_{name} = g_first_{name} + g_from_{name};"));
            self.line(&format!(
                "const {real} g_rest_{name} = g_from_{name} - (g_mean_{name} - g_first_{name});"
            ));
        }
        // Parts are put together about the mean of all: T. F. Chan, G. H. Golub & R. J. LeVeque, "Updating formulae and a
        // pairwise algorithm for computing sample variances" (1979). Errors are about their mean too, so that no large
        // ones cancel.
        let gradient = normal.value("e").is_some();
        let about = |name: &str| normal.about(real, name);
        let part_about = |name: &str| match normal.center {
            true => format!("({real})part_g_own_mean_{name}[g_k] - g_mean_{name}"),
            false => "0".into(),
        };
        let mut units = format!("const {real} g_c = {}; g_squares_ += g_c * g_c;", about("x"));
        let mut parts = format!("const {real} g_c = {}, g_d = part_g_own_deviation[g_k];", part_about("x"));
        parts.push_str(" g_squares_ += g_count * (g_d * g_d + g_c * g_c);");
        self.line(&format!("{real} g_squares_ = 0;"));
        if gradient {
            self.line(&format!("{real} g_dot_ = 0;"));
            let _ = write!(units, " g_dot_ += g_c * ({});", about("e"));
            let part = part_about("e");
            let _ = write!(parts, " g_dot_ += g_count * (g_d * part_g_own_along[g_k] + g_c * ({part}));");
        }
        self.each_of_scope(&units, &parts);
        // A part's rests are not handed on: its sums stay those about what is nearest to its means.
        let rest = |a: &str, b: &str| match normal.center && !own {
            true => format!(" - g_rest_{a} * g_rest_{b}"),
            false => String::new(),
        };
        let [squares, dot] = [rest("x", "x"), rest("x", "e")];
        self.line(&format!("const {real} g_squares = {lanes}_sum(g_squares_) * g_share{squares};"));
        self.line(&format!("const {real} g_variance = g_squares + ({real}){:e};", normal.epsilon));
        let inverse = if real == "float" { "rsqrtf(g_variance)" } else { "1 / sqrt(g_variance)" };
        self.line(&format!("const {real} g_inverse = {inverse};"));
        if gradient {
            self.line(&format!("const {real} g_dot = {lanes}_sum(g_dot_) * g_share{dot};"));
            self.line(&format!("const {real} g_along = g_dot * g_inverse;"));
        }
    }

    /// What is made of a normalization's sums: results, or what a part hands on.
    fn normalized(&mut self, real: &str, normal: &Normal<'_>) {
        let x = normal.about(real, "x");
        let gradient = normal.value("e").is_some();
        if matches!(self.scope, Scope::Own(_)) {
            let root = if real == "float" { "sqrtf" } else { "sqrt" };
            self.line(&format!("const {real} g_deviation = {root}(g_squares);"));
            self.line("g_own_deviation = (float)g_deviation;");
            for (name, _) in normal.means() {
                self.line(&format!("g_own_mean_{name} = (float)g_mean_{name};"));
            }
            if gradient {
                // By the deviation, so that it is no larger than errors are. Without one, it is 0 or NaN.
                self.line("g_own_along = (float)(g_dot / (g_deviation == 0 ? 1 : g_deviation));");
            }
        } else if gradient {
            let e = normal.about(real, "e");
            self.line(&format!("const {real} g_slope = g_along * g_inverse;"));
            let rest = if normal.center { " - (g_rest_e - g_rest_x * g_slope)" } else { "" };
            self.store_each(&format!("(float)(g_inverse * (({e}) - ({x}) * g_slope{rest}))"));
        } else {
            let rest = if normal.center { " - g_rest_x * g_inverse" } else { "" };
            self.store_each(&format!("(float)(({x}) * g_inverse{rest})"));
        }
    }
}

/// A normalization, or its gradient.
struct Normal<'a> {
    center: bool,
    epsilon: f64,
    /// The operands' names and expressions, in order: `e` if it is the gradient, and `x`.
    numbers: Vec<(&'a str, String)>,
}

impl Normal<'_> {
    /// The operands of which there are means.
    fn means(&self) -> impl Iterator<Item = (&str, &str)> {
        self.numbers.iter().filter(|_| self.center).map(|(name, value)| (*name, value.as_str()))
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.numbers.iter().find(|(own, _)| *own == name).map(|(_, value)| value.as_str())
    }

    /// An operand about what is nearest to its mean, as an expression.
    fn about(&self, real: &str, name: &str) -> String {
        let value = self.value(name).unwrap_or_default();
        let mean = if self.center { format!(" - g_mean_{name}") } else { String::new() };
        format!("({real}){value}{mean}")
    }
}
