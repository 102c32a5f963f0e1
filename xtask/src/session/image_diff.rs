//! Comparison of two pictures, pixel by pixel, with a tolerance. Pure: bytes of PNGs in, bytes of a PNG out.

use anyhow::{Context as _, bail};
use e2e_contract::PictureSize;
use png::{BitDepth, ColorType, Decoder, Encoder, Limits, Transformations};

/// Maximum bytes of a decoded picture: 64 million pixels.
const UNPACKED_BYTES_MAX: usize = 256 << 20;

/// Red, green, blue and alpha channel.
type Pixel = [u8; 4];

/// Result of comparing two pictures.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Compared {
    /// The pictures have different sizes; no pixels were compared.
    OtherSize { taken: PictureSize, expected: PictureSize },
    /// Of `pixels` pixels, `pixels_off` are different; `difference` is a PNG that marks them, if there are any.
    SameSize { pixels_off: u64, pixels: u64, difference: Option<Vec<u8>> },
}

/// Decoded picture.
struct Unpacked {
    size: PictureSize,
    pixels: Vec<Pixel>,
}

/// Compares two PNGs. Two pixels count as equal if no channel differs by more than `channel_off_max`.
pub(super) fn compare(taken: &[u8], expected: &[u8], channel_off_max: u8) -> anyhow::Result<Compared> {
    let taken = unpack(taken).context("the new picture")?;
    let expected = unpack(expected).context("the expected picture")?;
    if taken.size != expected.size {
        return Ok(Compared::OtherSize { taken: taken.size, expected: expected.size });
    }
    let is_off = |(a, b): (&Pixel, &Pixel)| a.iter().zip(b).any(|(a, b)| a.abs_diff(*b) > channel_off_max);
    let off: Vec<bool> = taken.pixels.iter().zip(&expected.pixels).map(is_off).collect();
    let pixels_off = off.iter().filter(|off| **off).count() as u64;
    let difference = if pixels_off == 0 { None } else { Some(shown(&expected, &off)?) };
    Ok(Compared::SameSize { pixels_off, pixels: off.len() as u64, difference })
}

fn unpack(bytes: &[u8]) -> anyhow::Result<Unpacked> {
    let limits = Limits { bytes: UNPACKED_BYTES_MAX };
    let mut decoder = Decoder::new_with_limits(std::io::Cursor::new(bytes), limits);
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16 | Transformations::ALPHA);
    let mut reader = decoder.read_info().context("it is no PNG")?;
    let length = reader.output_buffer_size().filter(|length| *length <= UNPACKED_BYTES_MAX);
    let Some(length) = length else { bail!("it is larger than {UNPACKED_BYTES_MAX} bytes when it is unpacked") };
    let mut buffer = vec![0; length];
    let frame = reader.next_frame(&mut buffer).context("it is a damaged PNG")?;
    let bytes = &buffer[..frame.buffer_size()];
    let pixels: Vec<Pixel> = match frame.color_type {
        ColorType::Rgba => bytes.as_chunks::<4>().0.to_vec(),
        ColorType::GrayscaleAlpha => {
            bytes.as_chunks::<2>().0.iter().map(|[gray, a]| [*gray, *gray, *gray, *a]).collect()
        }
        other => bail!("the picture's pixel format {other:?} is not supported"),
    };
    Ok(Unpacked { size: PictureSize { width_pixels: frame.width, height_pixels: frame.height }, pixels })
}

/// Creates a PNG that marks the different pixels in red on a pale copy of the expected picture.
fn shown(expected: &Unpacked, off: &[bool]) -> anyhow::Result<Vec<u8>> {
    let pale = |[red, green, blue, _]: Pixel| {
        let gray = (u16::from(red) + u16::from(green) + u16::from(blue)) / 3;
        u8::try_from(192 + gray / 4).unwrap_or(u8::MAX)
    };
    let color = |(pixel, off): (&Pixel, &bool)| if *off { [255, 0, 0] } else { [pale(*pixel); 3] };
    let bytes: Vec<u8> = expected.pixels.iter().zip(off).flat_map(color).collect();
    pack(expected.size, ColorType::Rgb, &bytes)
}

fn pack(size: PictureSize, colors: ColorType, bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut packed = Vec::new();
    let mut encoder = Encoder::new(&mut packed, size.width_pixels, size.height_pixels);
    encoder.set_color(colors);
    encoder.set_depth(BitDepth::Eight);
    let mut writer = encoder.write_header().context("making a PNG")?;
    writer.write_image_data(bytes).context("making a PNG")?;
    writer.finish().context("making a PNG")?;
    Ok(packed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: PictureSize = PictureSize { width_pixels: 2, height_pixels: 2 };

    fn rgba(pixels: [Pixel; 4]) -> Vec<u8> {
        pack(SIZE, ColorType::Rgba, &pixels.concat()).unwrap()
    }

    #[test]
    fn pixels_that_are_further_off_than_allowed_are_counted_and_shown() {
        let white = [255; 4];
        let one = rgba([white, white, white, [0, 0, 0, 255]]);
        let other = rgba([white, [247, 255, 255, 255], [246, 255, 255, 255], [0, 0, 0, 255]]);
        let same = Compared::SameSize { pixels_off: 0, pixels: 4, difference: None };
        assert_eq!(compare(&one, &one, 0).unwrap(), same);
        assert_eq!(compare(&one, &other, 9).unwrap(), same);
        let Compared::SameSize { pixels_off: 1, pixels: 4, difference: Some(shown) } =
            compare(&other, &one, 8).unwrap()
        else {
            panic!("one pixel is off by 9")
        };
        let shown = unpack(&shown).unwrap();
        let expected = [[255, 255, 255, 255], [255, 255, 255, 255], [255, 0, 0, 255], [192, 192, 192, 255]];
        assert_eq!((shown.size, shown.pixels.as_slice()), (SIZE, &expected[..]));
    }

    #[test]
    fn kinds_of_pictures_are_compared_by_what_they_show() {
        let gray = pack(SIZE, ColorType::Grayscale, &[0, 255, 7, 9]).unwrap();
        let rgb = pack(SIZE, ColorType::Rgb, &[0, 0, 0, 255, 255, 255, 7, 7, 7, 9, 9, 9]).unwrap();
        let same = Compared::SameSize { pixels_off: 0, pixels: 4, difference: None };
        assert_eq!(compare(&gray, &rgb, 0).unwrap(), same);
    }

    #[test]
    fn another_size_and_what_is_no_picture_are_told() {
        let one = rgba([[0; 4]; 4]);
        let wide = PictureSize { width_pixels: 4, height_pixels: 1 };
        let other = pack(wide, ColorType::Rgba, &[0; 16]).unwrap();
        assert_eq!(compare(&one, &other, 255).unwrap(), Compared::OtherSize { taken: SIZE, expected: wide });
        let error = compare(&one, b"<html>", 0).unwrap_err();
        assert!(format!("{error:#}").starts_with("the expected picture: it is no PNG"), "{error:#}");
        let error = compare(&one[..one.len() - 20], &one, 0).unwrap_err();
        assert!(format!("{error:#}").starts_with("the new picture: it is a damaged PNG"), "{error:#}");
    }
}
