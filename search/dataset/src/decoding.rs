//! One PNG or JPEG file, decoded strictly.
//!
//! What is damaged is refused, as far as it can be told: a PNG has a checksum in every chunk; for a JPEG see `jpeg.rs`.

use std::borrow::Cow;
use std::io::Cursor;
use std::path::Path;

use flate2::Crc;
use image::{DynamicImage, ImageFormat, ImageReader};

use super::picture::Picture;
use super::{DatasetError, jpeg};

/// Pixels of the largest picture that is decoded; a header that claims more is taken for damaged.
const MAX_PIXELS: usize = 1 << 27;

/// A file's picture in 1 channel, or in 3, where a grey one may stay grey. An alpha channel is dropped, as PIL's
/// `convert("RGB")` drops it; EXIF's orientation is left aside. PNG and JPEG are told apart by content.
pub(super) fn read(file: &Path, channels: usize) -> Result<Picture<'static>, DatasetError> {
    let bytes = std::fs::read(file).map_err(|source| DatasetError::Io { file: file.to_path_buf(), source })?;
    let picture = decode(&bytes).map_err(|what| DatasetError::Corrupt { file: file.to_path_buf(), what })?;
    let (height, width) = (picture.height() as usize, picture.width() as usize);
    let grey = channels == 1 || !picture.color().has_color();
    let bytes = if grey { picture.into_luma8().into_raw() } else { picture.into_rgb8().into_raw() };
    Ok(Picture { bytes: Cow::Owned(bytes), channels: if grey { 1 } else { 3 }, height, width, planar: false })
}
fn decode(bytes: &[u8]) -> Result<DynamicImage, String> {
    match image::guess_format(bytes) {
        Ok(ImageFormat::Png) => png(bytes),
        Ok(ImageFormat::Jpeg) => jpeg::decode(bytes, check_extents),
        _ => Err("is neither a PNG nor a JPEG".to_owned()),
    }
}

fn png(bytes: &[u8]) -> Result<DynamicImage, String> {
    check_chunks(bytes)?;
    let reader = || ImageReader::with_format(Cursor::new(bytes), ImageFormat::Png);
    let (width, height) = reader().into_dimensions().map_err(|error| error.to_string())?;
    check_extents(width as usize, height as usize)?;
    reader().decode().map_err(|error| error.to_string())
}

/// Walks over a PNG's chunks, each with length, type, data and checksum, to the last one.
fn check_chunks(bytes: &[u8]) -> Result<(), String> {
    let mut at = 8;
    let word = |at: usize| bytes.get(at..at + 4).and_then(|word| word.try_into().ok()).map(u32::from_be_bytes);
    while let Some(length) = word(at) {
        let end = at + 8 + length as usize;
        let (Some(chunk), Some(checksum)) = (bytes.get(at + 4..end), word(end)) else { break };
        let mut crc = Crc::new();
        crc.update(chunk);
        if crc.sum() != checksum {
            return Err(format!("the PNG is damaged: the chunk at byte {at} doesn't match its checksum"));
        }
        if chunk.starts_with(b"IEND") {
            return Ok(());
        }
        at = end + 4;
    }
    Err(format!("the PNG is cut short: {} bytes end before its last chunk", bytes.len()))
}

fn check_extents(width: usize, height: usize) -> Result<(), String> {
    if width == 0 || height == 0 || width.saturating_mul(height) > MAX_PIXELS {
        return Err(format!("{width} x {height} pixels: wanted 1 to {MAX_PIXELS} in all"));
    }
    Ok(())
}
