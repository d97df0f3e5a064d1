"""The process that makes thumbnails; started by `workers`, imported by nobody.

Images come from strangers and are read by libraries written in C. Whatever one of them
does to this process, the server lives on: it waits for a while, ends the process and
starts another. Pillow is loaded here only, so the server stays small.

Reads jobs from standard input, one JSON object a line, and writes to standard output,
for each, a line of JSON and then as many bytes as that says.
"""

import contextlib
import io
import json
import math
import os
import resource
import sys
import warnings
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any, BinaryIO, Final

from PIL import Image, ImageCms, ImageOps, ImageSequence, UnidentifiedImageError

# What reads HEIC, if the extra "heic" is installed.
HEIC: Final = "pillow_heif"
FORMATS: Final = (
    *("PNG", "JPEG", "GIF", "WEBP", "AVIF", "BMP"),
    *(("HEIF",) if find_spec(HEIC) else ()),
)
# Formats that a thumbnail may have by the specification, so that a small original can
# be one.
TYPES: Final = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "GIF": "image/gif",
    "WEBP": "image/webp",
}
# What an image may say about itself and still be shown as it is; all else, such as
# where it was taken, is left out of thumbnails.
HARMLESS: Final = frozenset(
    {
        *("jfif", "jfif_version", "jfif_unit", "jfif_density", "dpi", "adobe"),
        *("adobe_transform", "progressive", "progression", "gamma", "srgb"),
        *("chromaticity", "transparency", "interlace", "background", "loop"),
        *("duration", "version", "extension", "timestamp", "aspect", "icc_profile"),
        *("default_image", "blend", "disposal", "bbox"),
    }
)
# Frames of an animation are kept until it is written: so many pixels in all.
MAX_KEPT_PIXELS: Final = 24_000_000
MAX_FRAMES: Final = 1_000
MEMORY_BESIDES: Final = 768 * 2**20
BYTES_PER_PIXEL: Final = 12

Size = tuple[int, int]


class TooLarge(Exception):  # noqa: N818 - reads as a sentence at the raise
    """More pixels than we take."""


def confine(max_pixels: int) -> None:
    """Give up what a process that reads images does not need."""
    memory = MEMORY_BESIDES + max_pixels * BYTES_PER_PIXEL
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
    with contextlib.suppress(OSError):
        os.nice(5)


def make(job: dict[str, Any], max_pixels: int) -> tuple[dict[str, Any], bytes]:
    """The answer to one job, and the bytes of the thumbnail. Raises: TooLarge."""
    wanted = (job["width"], job["height"])
    with Image.open(job["path"], formats=FORMATS) as image:
        if math.prod(image.size) > max_pixels:
            raise TooLarge
        orientation = image.getexif().get(0x0112, 1)
        shown = image.size if orientation < 5 else (image.height, image.width)
        moves = _moves(image)
        if job["animated"] and moves:
            frames = image.n_frames  # type: ignore[attr-defined]
            moves = math.prod(image.size) * min(frames, MAX_FRAMES) <= 16 * max_pixels
        is_small = shown[0] <= wanted[0] and shown[1] <= wanted[1]
        if is_small and _may_be_shown(image, moves=moves, animated=job["animated"]):
            kind = TYPES[str(image.format)]
            return {"original": True, "type": kind, "size": 0}, b""
        size = _target(shown, wanted, job["method"])
        if job["animated"] and moves:
            return _answer("image/webp", _animation(image, size))
        still = _still(image, size, job["method"])
    if still.mode in ("RGBA", "LA"):
        return _answer("image/png", _saved(still, "PNG", optimize=True))
    data = _saved(still, "JPEG", quality=82, optimize=True, progressive=True)
    return _answer("image/jpeg", data)


def _answer(kind: str, data: bytes) -> tuple[dict[str, Any], bytes]:
    return {"type": kind, "size": len(data)}, data


def _moves(image: Image.Image) -> bool:
    # Several images in one HEIC are an album, or one image in several forms.
    return image.format != "HEIF" and bool(getattr(image, "is_animated", False))


def _may_be_shown(image: Image.Image, *, moves: bool, animated: bool) -> bool:
    """Whether the original can be its own thumbnail."""
    if image.format not in TYPES or (_moves(image) and not (moves and animated)):
        return False
    image.load()  # what cannot be read is no thumbnail; and some of `info` comes last
    return not dict(image.getexif()) and HARMLESS.issuperset(
        str(key) for key in image.info
    )


def _target(shown: Size, wanted: Size, method: str) -> Size:
    """The size of the thumbnail: never larger than the image."""
    width, height = shown
    if method == "crop":
        # In the shape that is asked for, without making anything larger.
        factor = min(1.0, width / wanted[0], height / wanted[1])
        return _at_least_one(wanted, factor)
    return _at_least_one(shown, min(1.0, wanted[0] / width, wanted[1] / height))


def _at_least_one(size: Size, factor: float) -> Size:
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _still(image: Image.Image, size: Size, method: str) -> Image.Image:
    # A JPEG is read at a fraction of its size at once.
    image.draft(None, (max(size) * 2, max(size) * 2))
    turned = ImageOps.exif_transpose(image)
    return _resized(_in_srgb(turned), size, method)


def _resized(image: Image.Image, size: Size, method: str) -> Image.Image:
    if method == "crop":
        return ImageOps.fit(image, size, Image.Resampling.LANCZOS)
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _in_srgb(image: Image.Image) -> Image.Image:
    """The image in a mode that can be written, with the colours that it means."""
    has_alpha = image.has_transparency_data
    profile = image.info.get("icc_profile")
    if profile and image.mode in ("RGB", "CMYK", "RGBA"):
        with contextlib.suppress(ImageCms.PyCMSError, OSError, ValueError):
            mode = "RGBA" if image.mode == "RGBA" else "RGB"
            converted = ImageCms.profileToProfile(
                image,
                ImageCms.ImageCmsProfile(io.BytesIO(profile)),
                ImageCms.createProfile("sRGB"),
                outputMode=mode,
            )
            if converted is not None:
                image = converted
    if image.mode.startswith("I;16"):
        # 16 bits of grey: `convert` would cut them off instead of scaling.
        image = image.convert("I").point(lambda grey: grey / 256)
    return image.convert("RGBA" if has_alpha else "RGB")


def _animation(image: Image.Image, size: Size) -> bytes:
    """All frames, or every so manieth when they are too many to be kept."""
    count = min(image.n_frames, MAX_FRAMES)  # type: ignore[attr-defined]
    step = max(1, math.ceil(count * math.prod(size) / MAX_KEPT_PIXELS))
    frames: list[Image.Image] = []
    durations: list[int] = []
    for number, frame in enumerate(ImageSequence.Iterator(image)):
        if number >= MAX_FRAMES:
            break
        duration = int(frame.info.get("duration", 100) or 100)
        if number % step:
            durations[-1] += duration
            continue
        frames.append(_resized(frame.convert("RGBA"), size, "crop"))
        durations.append(duration)
    return _saved(
        frames[0],
        "WEBP",
        save_all=True,
        append_images=frames[1:],
        duration=durations,
        loop=int(image.info.get("loop", 0) or 0),
        quality=70,
        method=2,
    )


def _saved(image: Image.Image, form: str, **options: Any) -> bytes:  # noqa: ANN401 - Pillow's own
    out = io.BytesIO()
    # What an image knows about itself is written unless it is taken away.
    for key in ("exif", "xmp", "icc_profile", "comment"):
        image.info.pop(key, None)
    image.save(out, form, **options)
    return out.getvalue()


def answers(jobs: BinaryIO, max_pixels: int) -> Iterator[tuple[dict[str, Any], bytes]]:
    """An answer to each job; an image that cannot be read is an answer too."""
    for line in jobs:
        try:
            yield make(json.loads(line), max_pixels)
        except (TooLarge, MemoryError, Image.DecompressionBombError):
            yield {"error": "too large"}, b""
        except UnidentifiedImageError:
            yield {"error": "not an image"}, b""
        except Exception as error:  # noqa: BLE001 - there is no end to broken images
            yield {"error": f"{type(error).__name__}: {error}"[:300]}, b""


def main() -> None:
    """Answer until standard input ends."""
    max_pixels = int(sys.argv[1])
    # The limit is ours; Pillow's own warns at another one.
    Image.MAX_IMAGE_PIXELS = max_pixels
    warnings.simplefilter("ignore")
    if "HEIF" in FORMATS:
        heic = import_module(HEIC)
        heic.options.DECODE_THREADS = 1
        heic.register_heif_opener()
    out = sys.stdout.buffer
    confine(max_pixels)
    for answer, data in answers(sys.stdin.buffer, max_pixels):
        out.write(json.dumps(answer).encode() + b"\n")
        out.write(data)
        out.flush()


if __name__ == "__main__":
    main()
