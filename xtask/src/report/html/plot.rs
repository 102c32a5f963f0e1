//! Backend of the plotting library for a page: draws into a text, with colors that the style sheet replaces by its own
//! for light and dark.

use std::fmt::Display;

use plotters::style::RGBColor;

/// The colours of lines, in the order of the containers. The style sheet knows them by these values.
pub const LINES: [RGBColor; 6] = [
    RGBColor(0x1f, 0x6f, 0xeb),
    RGBColor(0xbc, 0x4c, 0x00),
    RGBColor(0x1a, 0x7f, 0x64),
    RGBColor(0x82, 0x50, 0xdf),
    RGBColor(0xbf, 0x39, 0x89),
    RGBColor(0x7a, 0x6a, 0x00),
];

/// Color of earlier samples.
pub const BEFORE: RGBColor = RGBColor(0x6e, 0x77, 0x81);
/// Color of new samples.
pub const NOW: RGBColor = LINES[0];
/// Axes and their labels.
pub const AXIS: RGBColor = RGBColor(0x57, 0x60, 0x6a);
/// Lines behind everything.
pub const GRID: RGBColor = RGBColor(0xd8, 0xde, 0xe4);

/// The plotting library's error as one of ours.
pub fn failed(error: impl Display) -> anyhow::Error {
    anyhow::anyhow!("drawing a plot: {error}")
}

/// A drawing with other words in its first tag, such as a class.
pub fn with_words(svg: &str, words: &str) -> String {
    svg.replacen("<svg ", &format!("<svg {words} "), 1)
}
