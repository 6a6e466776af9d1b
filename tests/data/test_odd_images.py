"""One table of odd images: both decoders must give Pillow's own answers, upright and on white."""

import io
import resource
import struct
import warnings
import zlib
from pathlib import Path

import builders
import numpy as np
import pillow_heif
import pytest
from builders import encoded, graph_decoder
from PIL import Image, ImageOps

from retrain.data.decoding import decode
from retrain.errors import ImageError
from retrain.preprocessing import ASPECT_MODES

pillow_heif.register_heif_opener()  # makes Pillow write HEIC, and read it for the right answers
SIZE = (20, 12)
RESET_PEAK = Path("/proc/self/clear_refs")  # of this process's memory, by Linux


def quarters(size=SIZE):
    return builders.quarters(size, last="yellow")  # what is transparent shows white


def in_mode(mode):
    """The quarters in a mode; the last one is transparent where the mode can say so, the first one by a half."""
    picture = quarters()
    if mode in ("LA", "RGBA", "PA"):
        alpha = Image.new("L", SIZE, 255)
        alpha.paste(100, (0, 0, SIZE[0] // 2, SIZE[1] // 2))
        alpha.paste(0, (SIZE[0] // 2, SIZE[1] // 2, *SIZE))
        picture = picture.convert("L" if mode == "LA" else "RGB")
        picture.putalpha(alpha)
    if mode in ("I;16", "I", "F"):
        grey = np.asarray(picture.convert("L"))
        return Image.fromarray(
            {"I;16": grey * np.uint16(257), "I": grey.astype(np.int32), "F": grey / np.float32(255)}[mode]
        )
    return picture.convert(mode)


def turned(kind, orientation, **options):
    """The quarters stored so that they stand upright once turned as the EXIF orientation asks for."""
    exif = Image.Exif()
    exif[0x010F] = "a maker of cameras"
    exif[0x0112] = orientation
    stored = builders.as_stored(quarters(), orientation)
    return encoded(stored, kind, exif=exif.tobytes() if kind == "HEIF" else exif, **options)


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(bits, colour_type, rows, *chunks):
    """A PNG made by hand: `rows` are bytes of packed samples."""
    channels = {0: 1, 2: 3}[colour_type]
    width = len(rows[0]) * 8 // bits // channels
    header = struct.pack(">IIBBBBB", width, len(rows), bits, colour_type, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = [chunk(b"IHDR", header), *chunks, chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def with_chunk(data, kind, body):
    """A PNG with one chunk more, before its pixels."""
    place = data.index(b"IDAT") - 4
    return data[:place] + chunk(kind, body) + data[place:]


def bmp32(*, masks=None, alpha=0, header=40, top_down=False):
    """A BMP of 32 bits, whose fourth byte is `alpha`."""
    pixels = np.asarray(quarters())[:: 1 if top_down else -1]
    rows = np.dstack([pixels[..., 2], pixels[..., 1], pixels[..., 0], np.full(pixels.shape[:2], alpha, np.uint8)])
    extra = struct.pack("<4I", *masks)[: 16 if header > 40 else 12] if masks else b""
    extra = extra.ljust(header - 40 if header > 40 else len(extra), b"\0")
    height = -SIZE[1] if top_down else SIZE[1]
    info = struct.pack("<IiiHHIIiiII", header, SIZE[0], height, 1, 32, 3 if masks else 0, rows.nbytes, 0, 0, 0, 0)
    start = 14 + len(info) + len(extra)
    return b"BM" + struct.pack("<IHHI", start + rows.nbytes, 0, 0, start) + info + extra + rows.tobytes()


def gif(*, transparency=None, place=(0, 0), picture_size=SIZE, local=False, comment=b""):
    """A GIF made by hand: a first frame at a place in a canvas, maybe with its own palette."""
    frame = quarters(picture_size).quantize(4)
    plain = encoded(frame, "GIF", **({} if transparency is None else {"transparency": transparency}))
    count = 3 * 2 ** (1 + plain[10] % 8)
    palette, rest = plain[13 : 13 + count], plain[13 + count :]
    at = rest.index(b"\x2c\0\0\0\0")
    packed = rest[at + 9] | (0x80 | plain[10] % 8 if local else 0)
    descriptor = b"\x2c" + struct.pack("<HH", *place) + rest[at + 5 : at + 9] + bytes([packed])
    screen = struct.pack("<HH", *SIZE) + bytes([0 if local else plain[10], 0, 0])
    said = b"\x21\xfe" + bytes([len(comment)]) + comment + b"\0" if comment else b""
    tables = (b"", palette) if local else (palette, b"")
    return b"GIF89a" + screen + tables[0] + said + rest[:at] + descriptor + tables[1] + rest[at + 10 :]


def animated(kind, **options):
    frames = [quarters(), Image.new("RGB", SIZE, "white"), Image.new("RGB", SIZE, "black")]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=100, **options)


GREY_ROWS = {2: [bytes([0b00011011])] * 3, 4: [bytes([0x05, 0xAF])] * 3, 8: [bytes([0, 85, 170, 255])] * 3}
DEEP_ROW = struct.pack(">4H", 0, 0x5555, 0xAAAA, 0xFFFF)
RGB16 = struct.pack(">9H", 0xFFFF, 0, 0, 0, 0xFFFF, 0, 0, 0, 0xFFFF)
LOSSLESS = {"lossless": True}
EXACT = {"HEIF": {"quality": -1, "chroma": 444}, "AVIF": {"quality": 100, "subsampling": "4:4:4"}}
RED_ON = (0xFF0000, 0xFF00, 0xFF)

READ = {
    **{f"JPEG {mode}": encoded(in_mode(mode), "JPEG", quality=95) for mode in ("L", "RGB", "CMYK")},
    "JPEG progressive": encoded(quarters(), "JPEG", quality=95, progressive=True),
    **{f"PNG {mode}": encoded(in_mode(mode), "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")},
    "PNG P of 2 bits": encoded(quarters().quantize(4), "PNG"),
    "PNG P of 2 bits, transparent": encoded(quarters().quantize(4), "PNG", transparency=2),
    "PNG P, one entry transparent": encoded(in_mode("P"), "PNG", transparency=3),
    "PNG P, half transparent": encoded(in_mode("P"), "PNG", transparency=bytes([0, 100, 200] + [255] * 253)),
    "PNG L, key": png(8, 0, GREY_ROWS[8], chunk(b"tRNS", struct.pack(">H", 85))),
    "PNG L of 2 bits": png(2, 0, GREY_ROWS[2]),
    "PNG L of 4 bits": png(4, 0, GREY_ROWS[4]),
    "PNG 1, white key": encoded(in_mode("1"), "PNG", transparency=1),
    "PNG 1, black key": encoded(in_mode("1"), "PNG", transparency=0),
    "PNG RGB, key": encoded(quarters(), "PNG", transparency=(255, 0, 0)),
    "PNG RGB of 16 bits": png(16, 2, [RGB16] * 3),
    "PNG animated": animated("PNG"),
    "PNG, large profile": with_chunk(encoded(quarters(), "PNG"), b"iCCP", b"x\0\0" + zlib.compress(bytes(5_000_000))),
    "PNG, large comment": with_chunk(encoded(quarters(), "PNG"), b"zTXt", b"x\0\0" + zlib.compress(bytes(5_000_000))),
    "GIF P": gif(),
    "GIF L": encoded(in_mode("L"), "GIF"),
    **{f"GIF, entry {entry} transparent": gif(transparency=entry) for entry in range(4)},
    "GIF, own palette, transparent": gif(transparency=2, local=True),
    "GIF, comment before": gif(transparency=1, comment=b"\x21\xf9\x04\x01 a comment"),
    "GIF, first frame small": gif(place=(4, 2), picture_size=(10, 8)),
    "GIF, first frame small, transparent": gif(place=(4, 2), picture_size=(10, 8), transparency=0),
    "GIF animated": animated("GIF"),
    **{f"BMP {mode}": encoded(in_mode(mode), "BMP") for mode in ("L", "P", "RGB", "RGBA")},
    "BMP of 32 bits, fourth byte unused": bmp32(),
    "BMP of 32 bits, fourth byte 255": bmp32(alpha=255),
    "BMP of 32 bits, top down": bmp32(top_down=True),
    "BMP of 32 bits, masks": bmp32(masks=(*RED_ON, 0)),
    "BMP of 32 bits, alpha": bmp32(masks=(*RED_ON, 0xFF000000), alpha=100, header=108),
    "BMP of 4 colours": encoded(quarters().quantize(4), "BMP"),
    **{f"WEBP {mode}": encoded(in_mode(mode), "WEBP", **LOSSLESS) for mode in ("RGB", "RGBA")},
    "WEBP lossy": encoded(quarters(), "WEBP", quality=100),
    **{f"JPEG, orientation {i}": turned("JPEG", i, quality=100, subsampling=0) for i in range(1, 9)},
    **{f"PNG, orientation {i}": turned("PNG", i) for i in range(1, 9)},
    **{f"WEBP, orientation {i}": turned("WEBP", i, **LOSSLESS) for i in range(1, 9)},
}  # fmt: skip
REFUSED_IN_GRAPH = {  # what it is called there
    "WEBP animated": (animated("WEBP", **LOSSLESS), "animated WebP"),
    "BMP 1": (encoded(in_mode("1"), "BMP"), "BMP of other than 8, 24 or 32 bits"),
    "BMP alpha by other masks": (bmp32(masks=(0xFF, 0xFF00, 0xFF0000, 0xFF000000), header=108), "unusual masks"),
    **{
        f"TIFF {mode}": (encoded(in_mode(mode), "TIFF"), "TIFF")
        for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "I;16", "F")
    },
    **{f"TIFF, orientation {i}": (turned("TIFF", i), "TIFF") for i in range(1, 9)},
    **{f"TIFF packed, orientation {i}": (turned("TIFF", i, compression="tiff_lzw"), "TIFF") for i in range(1, 9)},
    "TIFF of two pages": (animated("TIFF"), "TIFF"),
    **{
        f"{name} {mode}": (encoded(in_mode(mode), kind, **EXACT[kind]), "HEIC or AVIF")
        for name, kind in (("HEIC", "HEIF"), ("AVIF", "AVIF"))
        for mode in ("L", "LA", "RGB", "RGBA")
    },
    "HEIC I;16": (encoded(in_mode("I;16"), "HEIF"), "HEIC or AVIF"),
    "HEIC of three pictures": (animated("HEIF", **EXACT["HEIF"]), "HEIC or AVIF"),
    "AVIF animated": (animated("AVIF", **EXACT["AVIF"]), "HEIC or AVIF"),
    **{f"HEIC, orientation {i}": (turned("HEIF", i, **EXACT["HEIF"]), "HEIC or AVIF") for i in range(1, 9)},
    **{f"AVIF, orientation {i}": (turned("AVIF", i, **EXACT["AVIF"]), "HEIC or AVIF") for i in range(1, 9)},
}
# Where Pillow's conversion is not the right answer: deep pictures, which it clips, and keys that it does not scale.
BY_HAND = {
    "PNG L of 2 bits, key": (png(2, 0, GREY_ROWS[2], chunk(b"tRNS", struct.pack(">H", 1))), [0, 255, 170, 255]),
    "PNG L of 4 bits, key": (png(4, 0, GREY_ROWS[4], chunk(b"tRNS", struct.pack(">H", 10))), [0, 85, 255, 255]),
    "PNG I;16, key": (png(16, 0, [DEEP_ROW] * 3, chunk(b"tRNS", b"\x55\x55")), [0, 255, 170, 255]),
}


def answer(data):
    """Pillow's own: the first frame, upright, on white, uint8 [h, w, 3]."""
    if b"iCCP" in data or b"zTXt" in data:  # which it refuses
        data = READ["PNG RGB"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        picture = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if picture.mode in ("I;16", "I", "F"):
        scale = {"I;16": 257, "I": 1, "F": 1 / 255}[picture.mode]
        return np.repeat((np.asarray(picture) / scale).round().astype(np.uint8)[:, :, None], 3, 2)
    if picture.mode == "YCbCr" or picture.mode == "CMYK":
        return np.asarray(picture.convert("RGB"))
    rgba = picture.convert("RGBA")
    return np.asarray(Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB"))


def expected(name):
    if name in BY_HAND:
        return np.broadcast_to(np.array(BY_HAND[name][1], np.uint8)[None, :, None], (3, 4, 3))
    return answer(READ[name] if name in READ else REFUSED_IN_GRAPH[name][0])


def data_of(name):
    return READ[name] if name in READ else (BY_HAND | REFUSED_IN_GRAPH)[name][0]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", [*READ, *REFUSED_IN_GRAPH, *BY_HAND])
def test_pillows_answer_is_ours(name):
    right = expected(name)
    ours = decode(data_of(name), height=right.shape[0], width=right.shape[1])
    assert np.abs(ours.astype(int) - right).max() <= 1


@pytest.mark.parametrize("name", [*READ, *BY_HAND])
@pytest.mark.slow
def test_pillows_answer_is_the_graphs(name):
    right = expected(name)
    found = graph_decoder(*right.shape[:2])([data_of(name)]).numpy()[0]
    assert np.abs(found - right).max() <= 1


@pytest.mark.parametrize("mode", ASPECT_MODES)
@pytest.mark.slow
def test_both_keep_the_aspect_ratio_alike(mode):
    for name, data in READ.items():
        ours = decode(data, height=13, width=15, keep_aspect_ratio=mode)
        assert np.abs(graph_decoder(13, 15, mode)([data]).numpy()[0] - ours).max() <= 2, name


@pytest.mark.parametrize("name", REFUSED_IN_GRAPH)
@pytest.mark.slow
def test_what_tensorflow_does_not_decode_is_refused_by_name(name):
    import tensorflow as tf

    with pytest.raises(tf.errors.InvalidArgumentError, match=f"image refused: .*{REFUSED_IN_GRAPH[name][1]}"):
        graph_decoder(8, 8)([data_of(name)])


@pytest.mark.parametrize("data", [b"", b"rubbish", b"RIFF", b"BM", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"])
@pytest.mark.slow
def test_the_graph_refuses_what_is_cut_short(data):
    import tensorflow as tf

    with pytest.raises(tf.errors.InvalidArgumentError):
        graph_decoder(8, 8)([data])


def huge(name):
    """A few hundred bytes that announce 32,000 x 32,000 pixels (16,000 in a WebP, HEIC or AVIF)."""
    if name == "JPEG":
        data = bytearray(encoded(Image.new("RGB", (16, 16)), "JPEG", progressive=True))
        at = data.index(b"\xff\xc2")
        data[at + 5 : at + 9] = struct.pack(">HH", 32000, 32000)
    elif name == "JPEG in three scans":
        data = bytearray(encoded(Image.new("RGB", (16, 16)), "JPEG"))
        at = data.index(b"\xff\xc0")
        data[at + 5 : at + 9] = struct.pack(">HH", 32000, 32000)
        at = data.index(b"\xff\xda")
        data[at : at + 14] = b"\xff\xda\0\x08\1" + bytes(data[at + 5 : at + 7]) + bytes(data[at + 11 : at + 14])
    elif name == "PNG":
        data = bytearray(png(8, 0, [b"\0"]))
        data[16:24] = struct.pack(">II", 32000, 32000)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    elif name == "GIF":
        data = bytearray(gif())
        data[6:10] = struct.pack("<HH", 32000, 32000)
    elif name == "BMP":
        data = bytearray(bmp32())
        data[18:26] = struct.pack("<ii", 32000, -32000)
    elif name == "WEBP":
        data = bytearray(turned("WEBP", 1, **LOSSLESS))
        data[24:30] = struct.pack("<I", 15999)[:3] * 2
    elif name in ("HEIC", "HEIC in a long box", "AVIF"):
        data = encoded(quarters(), "AVIF" if name == "AVIF" else "HEIF")
        at = data.index(b"ispe")
        size = struct.pack(">II", 16000, 16000)
        long = struct.pack(">I4sQI", 1, b"ispe", 28, 0)  # grows; that nothing behind finds its place again is no matter
        data = data[: at - 4] + (long if "long" in name else data[at - 4 : at + 8]) + size + data[at + 16 :]
    else:
        tags = [(256, 4, 64), (257, 4, 64), (258, 3, 8), (259, 3, 8), (262, 3, 1), (277, 3, 1)]
        tags += [(322, 4, 32000), (323, 4, 32000), (324, 4, 200), (325, 4, 9)]
        body = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
        data = (b"II*\0" + struct.pack("<IH", 8, len(tags)) + body + bytes(4)).ljust(200, b"\0") + zlib.compress(b"")
    return bytes(data)


HUGE = [
    "JPEG",
    "JPEG in three scans",
    "PNG",
    "GIF",
    "BMP",
    "WEBP",
    "TIFF in tiles",
    "HEIC",
    "HEIC in a long box",
    "AVIF",
]
NOT_IN_GRAPH = HUGE[6:]


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", HUGE)
def test_the_pixel_limit_holds_before_a_decoder_allocates(name):
    if RESET_PEAK.exists():  # otherwise what earlier tests took would hide what this one takes
        RESET_PEAK.write_text("5")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ImageError, match="pixels; at most 89 million"):
        decode(huge(name), height=16, width=16)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KB


@pytest.mark.parametrize("name", [name for name in HUGE if name not in NOT_IN_GRAPH])
def test_the_pixel_limit_holds_in_the_graph(name):
    import tensorflow as tf

    with pytest.raises(tf.errors.InvalidArgumentError, match="image refused: more than 89 million pixels"):
        graph_decoder(8, 8)([huge(name)])


def test_a_large_jpeg_in_one_scan_is_decoded_small():
    whole = encoded(Image.new("L", (20_000, 5_000), 200), "JPEG")
    assert decode(whole, height=8, width=8).mean() == pytest.approx(200, abs=2)


@pytest.mark.parametrize("mode", ["F", "I"])
def test_what_a_number_means_does_not_follow_from_the_brightest_pixel(mode):
    means = []
    for value in (0.2, 0.9, 1.0, 1.1, 300.0) if mode == "F" else (50, 200, 255, 256, 70_000):
        pixels = np.full((8, 8), value, np.float32 if mode == "F" else np.int32)
        means.append(decode(encoded(Image.fromarray(pixels), "TIFF"), height=8, width=8).mean())
    assert means == sorted(means)
    assert means[-3:] == [255] * 3


def test_a_float_picture_without_a_number_is_read():
    pixels = np.full((8, 8), np.nan, np.float32)
    assert decode(encoded(Image.fromarray(pixels), "TIFF"), height=8, width=8).max() == 0
