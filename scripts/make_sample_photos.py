"""Draws sample photos of five kinds of flower, one folder each, for a first run without a camera or a network.

The kinds are those of the codelab's flower_photos. Colours, petals, leaves, backgrounds, light, position, size,
tilt and blur vary from picture to picture, and the kinds share colours, so that a classifier has something to do.
"""

import argparse
import colorsys
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from retrain.errors import plural
from retrain.terminal import Terminal

Colour = tuple[int, int, int]
Point = tuple[float, float]


def main() -> None:
    """Write the photos that the arguments ask for."""
    parser = argparse.ArgumentParser(description="Draws sample photos of five kinds of flower.")
    parser.add_argument("--image_dir", type=Path, default=Path("tf_files/sample_photos"), help="default: %(default)s")
    parser.add_argument("--per_class", type=int, default=80, help="photos of each kind (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed draws the same photos")
    args = parser.parse_args()
    advance = Terminal().progress("Drawing", "photo")
    for kind_number, kind in enumerate(KINDS):
        folder = args.image_dir / kind
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(args.per_class):
            path = folder / f"{kind}_{number:03d}.jpg"
            draw_photo(kind, f"{args.seed}/{number}").save(path, quality=88)
            advance(kind_number * args.per_class + number + 1, len(KINDS) * args.per_class)
    print(f"Drew {plural(args.per_class, 'photo')} each of {', '.join(KINDS)} in {args.image_dir}.")


def draw_photo(kind: str, seed: str) -> Image.Image:
    """Return one photo of a kind of flower, RGB, 320 to 640 pixels a side; the same seed gives the same photo."""
    dice = random.Random(f"{kind}/{seed}")
    size = (dice.randrange(320, 641), dice.randrange(320, 641))
    photo = _background(dice, size)
    for number in reversed(range(dice.choice((1, 1, 1, 2, 3)))):
        layer = Image.new("RGBA", size)
        _plant(layer, dice, kind, small=number > 0)
        if number:  # those behind are out of focus
            layer = layer.filter(ImageFilter.GaussianBlur(dice.uniform(1.5, 4)))
        photo.paste(layer, (0, 0), layer)
    return _lit(photo.filter(ImageFilter.GaussianBlur(dice.choice((0, 0.6, 0.9, 1.4, 2.2)))), dice)


def _plant(layer: Image.Image, dice: random.Random, kind: str, *, small: bool) -> None:
    """Draw stem, leaves and flower head of one plant."""
    width, height = layer.size
    radius = min(size for size in layer.size) * (dice.uniform(0.08, 0.14) if small else dice.uniform(0.17, 0.36))
    centre = (width * dice.uniform(0.25, 0.75), height * dice.uniform(0.22, 0.62))
    foot = (centre[0] + width * dice.uniform(-0.3, 0.3), height * 1.05)
    draw = ImageDraw.Draw(layer)
    green = _hsv(dice, (0.22, 0.38), (0.35, 0.8), (0.25, 0.6))
    bend = (centre[0] + (foot[0] - centre[0]) * dice.random(), (centre[1] + foot[1]) / 2)
    stem = [_bezier(centre, bend, foot, step / 24) for step in range(25)]
    draw.line(stem, fill=green, width=max(3, int(radius * dice.uniform(0.06, 0.13))), joint="curve")
    for _ in range(dice.randrange(0, 4)):
        at = stem[dice.randrange(10, 25)]
        _petal(draw, at, dice.uniform(-2.8, -0.3), radius * dice.uniform(0.7, 1.6), dice.uniform(0.14, 0.3), green)
    head = Image.new("RGBA", (int(radius * 4),) * 2)
    KINDS[kind](ImageDraw.Draw(head), dice, (radius * 2, radius * 2), radius)
    if kind != "tulips":  # seen from the side already
        head = head.resize((head.width, int(head.height * dice.uniform(0.55, 1.0))), Image.Resampling.BICUBIC)
    head = head.rotate(dice.uniform(-40, 40), Image.Resampling.BICUBIC, expand=True)
    layer.paste(head, (int(centre[0] - head.width / 2), int(centre[1] - head.height / 2)), head)


def _daisy(draw: ImageDraw.ImageDraw, dice: random.Random, centre: Point, radius: float) -> None:
    colour = dice.choice([_hsv(dice, (0, 1), (0, 0.08), (0.88, 1)), _hsv(dice, (0.85, 0.98), (0.1, 0.4), (0.9, 1))])
    _ring(draw, dice, centre, radius, _Petals(dice.randrange(12, 26), dice.uniform(0.07, 0.12), colour))
    _disc(draw, dice, centre, radius * dice.uniform(0.2, 0.32), _hsv(dice, (0.11, 0.16), (0.7, 1), (0.75, 1)))


def _sunflower(draw: ImageDraw.ImageDraw, dice: random.Random, centre: Point, radius: float) -> None:
    colour = _hsv(dice, (0.09, 0.15), (0.75, 1), (0.8, 1))
    for reach in (1.0, 0.9):
        _ring(draw, dice, centre, radius * reach, _Petals(dice.randrange(18, 32), dice.uniform(0.08, 0.13), colour))
    _disc(draw, dice, centre, radius * dice.uniform(0.36, 0.55), _hsv(dice, (0.04, 0.11), (0.4, 0.9), (0.15, 0.45)))


def _dandelion(draw: ImageDraw.ImageDraw, dice: random.Random, centre: Point, radius: float) -> None:
    radius *= 0.85
    if dice.random() < 0.4:  # gone to seed
        for _ in range(dice.randrange(90, 160)):
            end = _polar(centre, radius * dice.uniform(0.5, 1), dice.uniform(0, math.tau))
            draw.line([centre, end], fill=(*_hsv(dice, (0, 1), (0, 0.06), (0.7, 1)), 130), width=1)
            tuft = radius * dice.uniform(0.03, 0.07)
            draw.ellipse([end[0] - tuft, end[1] - tuft, end[0] + tuft, end[1] + tuft], fill=(250, 250, 250, 150))
        _disc(draw, dice, centre, radius * 0.12, _hsv(dice, (0.07, 0.12), (0.3, 0.6), (0.3, 0.6)))
        return
    for reach in np.linspace(1, 0.25, 6):
        colour = _hsv(dice, (0.12, 0.16), (0.8, 1), (0.7 + 0.25 * (1 - reach), 1))
        _ring(draw, dice, centre, radius * reach, _Petals(dice.randrange(26, 44), 0.035, colour))


def _rose(draw: ImageDraw.ImageDraw, dice: random.Random, centre: Point, radius: float) -> None:
    hue = dice.choice(((0.94, 1.02), (0.9, 0.96), (0.1, 0.15), (0.02, 0.08), (0, 1)))
    saturation = (0, 0.12) if hue == (0, 1) else (0.45, 0.95)
    base = _hsv(dice, hue, saturation, (0.6, 0.98))
    turn = dice.uniform(0, math.tau)
    layers = dice.randrange(6, 9)
    for layer in range(layers):
        reach = radius * (1 - layer / layers) ** 0.8
        for petal in range(max(2, 6 - layer // 2)):
            angle = turn + layer * 2.4 + petal * math.tau / max(2, 6 - layer // 2) + dice.uniform(-0.2, 0.2)
            middle = _polar(centre, reach * 0.42, angle)
            shade = 0.7 + 0.3 * (layer % 2) + dice.uniform(-0.08, 0.08) - 0.25 * layer / layers
            _blob(draw, middle, reach * 0.62, angle, _scaled(base, shade), _scaled(base, shade * 0.72))


def _tulip(draw: ImageDraw.ImageDraw, dice: random.Random, centre: Point, radius: float) -> None:
    base = _hsv(
        dice, dice.choice(((0.93, 1.03), (0.1, 0.16), (0.75, 0.9), (0.02, 0.08), (0, 1))), (0.1, 0.95), (0.6, 1)
    )
    bottom = (centre[0], centre[1] + radius * 0.8)
    opening = dice.uniform(0.12, 0.42)
    for lean in (-1, 1, -0.5, 0.5, 0):
        colour = _scaled(base, (1.05 if lean == 0 else 0.75 + 0.2 * abs(lean)) + dice.uniform(-0.06, 0.06))
        _petal(draw, bottom, -math.pi / 2 + lean * opening, radius * dice.uniform(1.5, 1.75), 0.27, colour)


KINDS: dict[str, Callable[[ImageDraw.ImageDraw, random.Random, Point, float], None]] = {
    "daisy": _daisy,
    "dandelion": _dandelion,
    "roses": _rose,
    "sunflowers": _sunflower,
    "tulips": _tulip,
}


@dataclass(frozen=True)
class _Petals:
    """How many petals a ring has, their half width over their length, and their colour before the light."""

    count: int
    slim: float
    colour: Colour


def _ring(draw: ImageDraw.ImageDraw, dice: random.Random, centre: Point, radius: float, petals: _Petals) -> None:
    turn = dice.uniform(0, math.tau)
    for petal in range(petals.count):
        angle = turn + petal * math.tau / petals.count + dice.gauss(0, 0.06)
        shade = _scaled(petals.colour, dice.uniform(0.82, 1.06))
        _petal(draw, centre, angle, radius * dice.uniform(0.86, 1.04), petals.slim * dice.uniform(0.85, 1.2), shade)


def _petal(draw: ImageDraw.ImageDraw, root: Point, angle: float, length: float, slim: float, colour: Colour) -> None:
    """Draw a pointed oval from its root outwards; `slim` is its half width over its length."""
    outline = []
    for step in range(-12, 13):
        along = 1 - abs(step) / 12
        across = slim * math.sin(math.pi * along**0.8) * (1 if step < 0 else -1)
        x, y = length * along, length * across
        outline.append(
            (root[0] + x * math.cos(angle) - y * math.sin(angle), root[1] + x * math.sin(angle) + y * math.cos(angle))
        )
    draw.polygon(outline, fill=colour, outline=_scaled(colour, 0.8))


def _blob(draw: ImageDraw.ImageDraw, middle: Point, radius: float, angle: float, colour: Colour, edge: Colour) -> None:
    outline = []
    for step in range(20):
        turn = step * math.tau / 20
        outline.append(_polar(middle, radius * (1 + 0.12 * math.cos(2 * (turn - angle))), turn))
    draw.polygon(outline, fill=colour, outline=edge)


def _disc(draw: ImageDraw.ImageDraw, dice: random.Random, centre: Point, radius: float, colour: Colour) -> None:
    x, y = centre
    draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=_scaled(colour, 0.85))
    for seed in range(
        120
    ):  # florets lie on Fermat's spiral: Vogel, "A better way to construct the sunflower head", 1979
        px, py = _polar(centre, radius * 0.96 * math.sqrt(seed / 120), seed * 2.39996)
        dot = max(1.0, radius * 0.05)
        draw.ellipse([px - dot, py - dot, px + dot, py + dot], fill=_scaled(colour, dice.uniform(0.7, 1.25)))


def _background(dice: random.Random, size: tuple[int, int]) -> Image.Image:
    """Return a meadow, a sky, a wall or soil, out of focus."""
    hue, saturation, value = dice.choice(
        (
            ((0.2, 0.4), (0.3, 0.8), (0.15, 0.7)),
            ((0.52, 0.62), (0.15, 0.6), (0.6, 1.0)),
            ((0.05, 0.12), (0.2, 0.6), (0.15, 0.55)),
            ((0.0, 1.0), (0.0, 0.15), (0.1, 0.95)),
        )
    )
    top, bottom = (np.array(_hsv(dice, hue, saturation, value), np.float32) for _ in range(2))
    share = np.linspace(0, 1, size[1], dtype=np.float32)[:, None, None]
    pixels = np.broadcast_to(top + (bottom - top) * share, (size[1], size[0], 3))
    image = Image.fromarray(pixels.astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(dice.randrange(6, 40)):
        x, y, r = dice.uniform(0, size[0]), dice.uniform(0, size[1]), dice.uniform(4, 60)
        draw.ellipse(
            [x - r, y - r, x + r, y + r], fill=_hsv(dice, (0, 1) if dice.random() < 0.2 else hue, saturation, value)
        )
    for _ in range(dice.choice((0, 15, 60))):  # grass
        x, y = dice.uniform(0, size[0]), dice.uniform(size[1] * 0.4, size[1])
        end = (x + dice.uniform(-30, 30), y - dice.uniform(30, 140))
        draw.line([(x, y), end], fill=_hsv(dice, (0.2, 0.36), (0.3, 0.8), (0.2, 0.7)), width=dice.randrange(1, 5))
    return image.filter(ImageFilter.GaussianBlur(dice.uniform(2, 9)))


def _lit(photo: Image.Image, dice: random.Random) -> Image.Image:
    """Return the photo under a light from one side, with a cast of colour and the grain of a sensor."""
    pixels = np.asarray(photo, np.float32)
    height, width, _ = pixels.shape
    angle, strength = dice.uniform(0, math.tau), dice.uniform(0, 0.45)
    across = (
        np.cos(angle) * np.linspace(-1, 1, width)[None, :, None]
        + np.sin(angle) * np.linspace(-1, 1, height)[:, None, None]
    )
    cast = np.array([dice.uniform(0.88, 1.1), 1.0, dice.uniform(0.85, 1.12)], np.float32)
    grain = np.random.default_rng(dice.randrange(2**32)).normal(0, dice.uniform(1, 7), (height, width, 1))
    lit = pixels * (dice.uniform(0.65, 1.2) + strength * across) * cast + grain
    return Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8))


def _hsv(dice: random.Random, hue: Sequence[float], saturation: Sequence[float], value: Sequence[float]) -> Colour:
    r, g, b = colorsys.hsv_to_rgb(dice.uniform(*hue) % 1, dice.uniform(*saturation), dice.uniform(*value))
    return int(r * 255), int(g * 255), int(b * 255)


def _scaled(colour: Colour, factor: float) -> Colour:
    r, g, b = (max(0, min(255, int(channel * factor))) for channel in colour)
    return r, g, b


def _polar(centre: Point, radius: float, angle: float) -> Point:
    return centre[0] + radius * math.cos(angle), centre[1] + radius * math.sin(angle)


def _bezier(start: Point, bend: Point, end: Point, share: float) -> Point:
    x, y = (
        (1 - share) ** 2 * a + 2 * (1 - share) * share * b + share**2 * c
        for a, b, c in zip(start, bend, end, strict=True)
    )
    return x, y


if __name__ == "__main__":
    main()
