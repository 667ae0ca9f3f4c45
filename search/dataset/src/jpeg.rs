//! JPEG, damage refused.
//!
//! Decoders show as much as they can of a damaged JPEG, as browsers do. Here the file's structure is walked over first:
//! it must have its end marker, and a sequential scan (ITU-T T.81, F.2) must hold valid codes for exactly the frame's
//! blocks, which is where changed bytes mostly show: they shift all codes behind them. What can't be told, since a JPEG
//! has no checksum: changes that leave the lengths of codes as they are, and in progressive files a scan that is valid
//! by itself.

use image::{DynamicImage, GrayImage, RgbImage};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

/// Largest extent that a JPEG can state.
const MAX_EXTENT: usize = 65_535;
/// Length of the longest code.
const CODE_BITS: usize = 16;
/// Codes up to this length, which are nearly all that occur, are found by one look into a table that stays in the fastest
/// cache.
const SHORT_BITS: usize = 10;

/// Decodes a file; `check_extents` says whether a picture of a width and height is to be decoded at all.
pub(super) fn decode(
    bytes: &[u8],
    check_extents: impl Fn(usize, usize) -> Result<(), String>,
) -> Result<DynamicImage, String> {
    let options = DecoderOptions::default().set_strict_mode(true);
    let options = options.set_max_width(MAX_EXTENT).set_max_height(MAX_EXTENT);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|error| damaged(&error))?;
    let (width, height) = decoder.dimensions().unwrap_or_default();
    check_extents(width, height)?;
    check(bytes)?;
    let grey = decoder.input_colorspace() == Some(ColorSpace::Luma);
    let wanted = if grey { ColorSpace::Luma } else { ColorSpace::RGB };
    decoder.set_options(options.jpeg_set_out_colorspace(wanted));
    let pixels = decoder.decode().map_err(|error| damaged(&error))?;
    let (width, height) = (width as u32, height as u32);
    let picture = if grey {
        GrayImage::from_raw(width, height, pixels).map(DynamicImage::ImageLuma8)
    } else {
        RgbImage::from_raw(width, height, pixels).map(DynamicImage::ImageRgb8)
    };
    picture.ok_or_else(|| "the JPEG's pixels don't fill its extents".to_owned())
}

/// The decoder's own words, on one line.
fn damaged(error: &impl std::fmt::Display) -> String {
    format!("the JPEG is damaged: {}", error.to_string().replace('\n', " ").trim())
}

/// What a scan is read by.
#[derive(Default)]
struct Tables {
    /// `[DC or AC][number]`
    codes: [[Option<Codes>; 4]; 2],
    frame: Frame,
    /// MCUs between restart markers; 0: there are none.
    restart: usize,
}

#[derive(Default)]
struct Frame {
    /// Whether every scan has whole blocks: not so in a progressive file.
    sequential: bool,
    height: usize,
    width: usize,
    components: Vec<Component>,
}

#[derive(Clone, Copy)]
struct Component {
    id: u8,
    horizontal: usize,
    vertical: usize,
}

/// A Huffman table. Codes of a length follow those that are shorter: as 16 bits, with zeros behind them, they are in order.
struct Codes {
    /// Length (0: no code, or a longer one) and symbol by the next bits.
    short: Vec<(u8, u8)>,
    /// Of each length from 1 on: the first 16 bits behind its codes, and the number of its first symbol.
    lengths: [(u32, usize); CODE_BITS],
    symbols: Vec<u8>,
}

/// A component's blocks in a scan.
struct Blocks<'a> {
    per_mcu: usize,
    dc: &'a Codes,
    ac: &'a Codes,
}

/// Walks over a file's segments and scans to its end marker. What follows isn't looked at: some cameras add bytes.
fn check(bytes: &[u8]) -> Result<(), String> {
    let mut tables = Tables::default();
    let mut at = 0;
    while let Some((marker, behind)) = next_marker(bytes, at) {
        at = behind;
        match marker {
            0xd9 => return Ok(()),
            // Stuffing behind an 0xff in a scan, and markers that stand alone.
            0x00 | 0x01 | 0xd0..=0xd8 => continue,
            _ => {}
        }
        let Some(body) = segment(bytes, at) else { break };
        at += 2 + body.len();
        let broken = || format!("the JPEG is damaged: segment {marker:#04x} before byte {at} makes no sense");
        match marker {
            0xc4 => tables.read_codes(body).ok_or_else(broken)?,
            0xc0..=0xc2 => tables.frame = Frame::read(body, marker != 0xc2).ok_or_else(broken)?,
            0xdd => {
                tables.restart = body.first_chunk().map(|&n| usize::from(u16::from_be_bytes(n))).ok_or_else(broken)?
            }
            0xda if tables.frame.sequential => {
                let (mcus, blocks) = tables.scan(body).ok_or_else(broken)?;
                at = skip_scan(bytes, at, mcus, tables.restart, &blocks)
                    .map_err(|(at, what)| format!("the JPEG is damaged: its scan {what} at byte {at}"))?;
            }
            _ => {}
        }
    }
    Err(format!("the JPEG is cut short: {} bytes end before its end marker", bytes.len()))
}

/// The next marker, and where what belongs to it starts.
fn next_marker(bytes: &[u8], at: usize) -> Option<(u8, usize)> {
    let first = at + bytes.get(at..)?.iter().position(|&byte| byte == 0xff)?;
    // Any number of fill bytes may stand in front of a marker.
    let marker = first + bytes[first..].iter().position(|&byte| byte != 0xff)?;
    Some((bytes[marker], marker + 1))
}

fn segment(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let length = usize::from(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
    bytes.get(at + 2..at + length)
}

impl Tables {
    fn read_codes(&mut self, mut body: &[u8]) -> Option<()> {
        while let Some((&[kind, ref counts @ ..], rest)) = body.split_first_chunk::<17>() {
            let symbols = rest.get(..counts.iter().map(|&count| usize::from(count)).sum())?;
            let table = self.codes.get_mut(usize::from(kind >> 4))?.get_mut(usize::from(kind & 15))?;
            *table = Some(Codes::new(counts, symbols)?);
            body = &rest[symbols.len()..];
        }
        body.is_empty().then_some(())
    }

    /// MCUs of a scan, and what each of them has.
    fn scan(&self, body: &[u8]) -> Option<(usize, Vec<Blocks<'_>>)> {
        let (&count, rest) = body.split_first()?;
        let named = rest.get(..2 * usize::from(count))?;
        let components = &self.frame.components;
        let (h_max, v_max) = (
            components.iter().map(|component| component.horizontal).max()?,
            components.iter().map(|component| component.vertical).max()?,
        );
        let (mut blocks, mut mcus) = (Vec::new(), 0);
        for pair in named.chunks_exact(2) {
            let component = components.iter().find(|component| component.id == pair[0])?;
            let code = |kind: usize, number: u8| self.codes[kind].get(usize::from(number))?.as_ref();
            let (dc, ac) = (code(0, pair[1] >> 4)?, code(1, pair[1] & 15)?);
            let Component { horizontal, vertical, .. } = *component;
            // A component that is alone in its scan has one block an MCU, and none outside of the image.
            let (per_mcu, h, v) = if count == 1 { (1, horizontal, vertical) } else { (horizontal * vertical, 1, 1) };
            mcus = (self.frame.width * h).div_ceil(8 * h_max) * (self.frame.height * v).div_ceil(8 * v_max);
            blocks.push(Blocks { per_mcu, dc, ac });
        }
        (mcus > 0).then_some((mcus, blocks))
    }
}

impl Frame {
    fn read(body: &[u8], sequential: bool) -> Option<Self> {
        let &[_, h1, h0, w1, w0, count, ref rest @ ..] = body else { return None };
        let component = |of: &[u8]| {
            let (horizontal, vertical) = (usize::from(of[1] >> 4), usize::from(of[1] & 15));
            let valid = (1..=4).contains(&horizontal) && (1..=4).contains(&vertical);
            valid.then_some(Component { id: of[0], horizontal, vertical })
        };
        let components = rest.chunks_exact(3).map(component).collect::<Option<Vec<_>>>()?;
        let extent = |high, low| usize::from(u16::from_be_bytes([high, low]));
        let (height, width) = (extent(h1, h0), extent(w1, w0));
        (components.len() == usize::from(count)).then_some(Self { sequential, height, width, components })
    }
}

impl Codes {
    /// From the number of codes of each length 1 to 16, and their symbols in order.
    fn new(counts: &[u8; CODE_BITS], symbols: &[u8]) -> Option<Self> {
        let (mut end, mut number) = (0, 0);
        let mut codes =
            Self { short: Vec::with_capacity(1 << SHORT_BITS), lengths: Default::default(), symbols: symbols.to_vec() };
        for ((length, &count), entry) in (1..).zip(counts).zip(&mut codes.lengths) {
            end += u32::from(count) << (CODE_BITS - length);
            *entry = (end, number);
            for &symbol in symbols.get(number..)?.iter().take(count.into()).filter(|_| length <= SHORT_BITS) {
                codes.short.extend(std::iter::repeat_n((length as u8, symbol), 1 << (SHORT_BITS - length)));
            }
            number += usize::from(count);
        }
        let fits = end <= 1 << CODE_BITS;
        codes.short.resize(1 << SHORT_BITS, (0, 0));
        fits.then_some(codes)
    }

    /// The code that the next 16 bits begin with: its length and its symbol.
    fn find(&self, next: u32) -> Option<(u8, u8)> {
        let short = self.short[(next >> (CODE_BITS - SHORT_BITS)) as usize];
        if short.0 > 0 {
            return Some(short);
        }
        let length = self.lengths.iter().position(|&(end, _)| next < end)?;
        let start = length.checked_sub(1).map_or(0, |shorter| self.lengths[shorter].0);
        let among = (next - start) as usize >> (CODE_BITS - 1 - length);
        Some((length as u8 + 1, *self.symbols.get(self.lengths[length].1 + among)?))
    }
}

/// A scan's bits.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    buffer: u64,
    filled: u32,
}

/// Where a scan is damaged, and how.
type Damage = (usize, &'static str);

impl Bits<'_> {
    /// Takes bytes up to the next marker into the buffer, which then has 32 bits where so many are left.
    fn fill(&mut self) {
        if self.filled >= 32 {
            return;
        }
        // Four at a time, where none of them is 0xff: where their complement has no zero byte.
        if let Some(word) =
            self.bytes.get(self.at..).and_then(|rest| rest.first_chunk()).map(|&four| u32::from_be_bytes(four))
            && (!word).wrapping_sub(0x0101_0101) & word & 0x8080_8080 == 0
        {
            self.buffer = self.buffer << 32 | u64::from(word);
            (self.at, self.filled) = (self.at + 4, self.filled + 32);
            return;
        }
        while self.filled < 32 {
            let step = match self.bytes.get(self.at..) {
                Some([0xff, 0x00, ..]) => 2,
                Some([0xff, ..] | []) | None => return,
                Some(_) => 1,
            };
            self.buffer = self.buffer << 8 | u64::from(self.bytes[self.at]);
            (self.at, self.filled) = (self.at + step, self.filled + 8);
        }
    }

    /// Passes over a code and the bits that its symbol's lower half says follow: the symbol.
    fn symbol(&mut self, codes: &Codes, longest: u8) -> Result<u8, Damage> {
        self.fill();
        // Behind the end there are zeros, which no code may need.
        let next = if self.filled < 16 { self.buffer << (16 - self.filled) } else { self.buffer >> (self.filled - 16) };
        let (length, symbol) = codes.find(next as u32 & 0xffff).ok_or((self.at, "has a code without a meaning"))?;
        let bits = symbol & longest;
        self.filled = self.filled.checked_sub((length + bits).into()).ok_or((self.at, "ends before its last block"))?;
        Ok(symbol)
    }

    fn block(&mut self, blocks: &Blocks<'_>) -> Result<(), Damage> {
        if self.symbol(blocks.dc, 0x1f)? > 16 {
            return Err((self.at, "has a code without a meaning"));
        }
        let mut coefficient = 1;
        while coefficient < 64 {
            match self.symbol(blocks.ac, 0x0f)? {
                0x00 => break,
                0xf0 => coefficient += 16,
                symbol if symbol & 0x0f == 0 => return Err((self.at, "has a code without a meaning")),
                symbol => coefficient += usize::from(symbol >> 4) + 1,
            }
        }
        if coefficient > 64 { Err((self.at, "has more than 64 coefficients in a block")) } else { Ok(()) }
    }

    /// The end of a scan or of a restart interval: less than a byte is left before the next marker.
    fn end(&mut self) -> Result<(), Damage> {
        self.fill();
        if self.filled >= 8 {
            return Err((self.at, "goes on behind its last block"));
        }
        (self.buffer, self.filled) = (0, 0);
        Ok(())
    }
}

/// Walks over a scan's codes; where what follows it starts.
fn skip_scan(bytes: &[u8], at: usize, mcus: usize, restart: usize, components: &[Blocks<'_>]) -> Result<usize, Damage> {
    let mut bits = Bits { bytes, at, buffer: 0, filled: 0 };
    for mcu in 0..mcus {
        if restart > 0 && mcu > 0 && mcu % restart == 0 {
            bits.end()?;
            match next_marker(bytes, bits.at) {
                Some((marker, behind)) if marker == 0xd0 + (mcu / restart - 1) as u8 % 8 => bits.at = behind,
                _ => return Err((bits.at, "misses a restart marker")),
            }
        }
        for blocks in components {
            (0..blocks.per_mcu).try_for_each(|_| bits.block(blocks))?;
        }
    }
    bits.end()?;
    Ok(bits.at)
}
