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

/// Decodes a file; `check_extents` says whether a picture of a width and height is to be decoded at all.
pub(super) fn decode(
    bytes: &[u8],
    check_extents: impl Fn(usize, usize) -> Result<(), String>,
) -> Result<DynamicImage, String> {
    let options = DecoderOptions::default().set_strict_mode(true);
    let options = options.set_max_width(MAX_EXTENT).set_max_height(MAX_EXTENT);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|error| format!("the JPEG is damaged: {error}"))?;
    let (width, height) = decoder.dimensions().unwrap_or_default();
    check_extents(width, height)?;
    check(bytes)?;
    let grey = decoder.input_colorspace() == Some(ColorSpace::Luma);
    let wanted = if grey { ColorSpace::Luma } else { ColorSpace::RGB };
    decoder.set_options(options.jpeg_set_out_colorspace(wanted));
    let pixels = decoder.decode().map_err(|error| format!("the JPEG is damaged: {error}"))?;
    let (width, height) = (width as u32, height as u32);
    let picture = if grey {
        GrayImage::from_raw(width, height, pixels).map(DynamicImage::ImageLuma8)
    } else {
        RgbImage::from_raw(width, height, pixels).map(DynamicImage::ImageRgb8)
    };
    picture.ok_or_else(|| "the JPEG's pixels don't fill its extents".to_owned())
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

/// A Huffman table: length (0: no code) and symbol by the next 16 bits.
struct Codes(Vec<(u8, u8)>);

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
    fn new(counts: &[u8], symbols: &[u8]) -> Option<Self> {
        let lengths = (1u8..).zip(counts).flat_map(|(length, &count)| std::iter::repeat_n(length, count.into()));
        let mut codes = Vec::with_capacity(1 << CODE_BITS);
        for (length, &symbol) in lengths.zip(symbols) {
            codes.extend(std::iter::repeat_n((length, symbol), 1 << (CODE_BITS - usize::from(length))));
        }
        let fits = codes.len() <= 1 << CODE_BITS;
        codes.resize(1 << CODE_BITS, (0, 0));
        fits.then_some(Self(codes))
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

    fn skip(&mut self, bits: u8) -> Result<(), Damage> {
        self.filled = self.filled.checked_sub(bits.into()).ok_or((self.at, "ends before its last block"))?;
        Ok(())
    }

    fn symbol(&mut self, codes: &Codes) -> Result<u8, Damage> {
        self.fill();
        // Behind the end there are zeros, which no code may need.
        let next = if self.filled < 16 { self.buffer << (16 - self.filled) } else { self.buffer >> (self.filled - 16) };
        let (length, symbol) = codes.0[(next & 0xffff) as usize];
        if length == 0 {
            return Err((self.at, "has a code without a meaning"));
        }
        self.skip(length)?;
        Ok(symbol)
    }

    fn block(&mut self, blocks: &Blocks<'_>) -> Result<(), Damage> {
        let bits = self.symbol(blocks.dc)?;
        if bits > 16 {
            return Err((self.at, "has a code without a meaning"));
        }
        self.skip(bits)?;
        let mut coefficient = 1;
        while coefficient < 64 {
            let symbol = self.symbol(blocks.ac)?;
            match (symbol >> 4, symbol & 15) {
                (0, 0) => break,
                (15, 0) => coefficient += 16,
                (_, 0) => return Err((self.at, "has a code without a meaning")),
                (zeros, bits) => {
                    self.skip(bits)?;
                    coefficient += usize::from(zeros) + 1;
                }
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
