"""Writers of every file format that open_source reads, for given frames (T, H, W)."""

import gzip
import struct

import cv2
import h5py
import imagecodecs
import numpy as np
import scipy.io
import tifffile

from irst_stream.io.media.images import encode_png
from irst_stream.io.media.raw import write_raw
from irst_stream.io.media.sidecar import Sidecar, write_sidecar


def png_folder(path, frames):
    path.mkdir()
    for k, frame in enumerate(frames, 8):  # from 8, so that natural order matters: frame_10 after frame_9
        (path / f"frame_{k}.png").write_bytes(encode_png(frame))
    return path


def bmp_folder(path, frames):
    path.mkdir()
    for k, frame in enumerate(frames, 8):
        cv2.imwrite(str(path / f"frame_{k}.bmp"), frame)
    return path


def tiff_folder(path, frames):
    path.mkdir()
    for k, frame in enumerate(frames, 8):
        tifffile.imwrite(path / f"frame_{k}.tif", frame)
    return path


def jpeg_folder(path, frames):
    path.mkdir()
    for k, frame in enumerate(frames, 8):
        (path / f"frame_{k}.jpg").write_bytes(encode_jpeg(frame))
    return path


def encode_jpeg(frame):
    """A JPEG file, which is exact where squares of 8 x 8 px are uniform."""
    return cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()


def radiometric_folder(path, frames, segment_bytes=500):
    """JPEGs of 8 bits that hold FLIR frames of 16 bits, in several segments."""
    path.mkdir()
    for k, frame in enumerate(frames, 8):
        (path / f"frame_{k}.jpeg").write_bytes(with_flir_segments(encode_jpeg(frame >> 6), fff(frame), segment_bytes))
    return path


def with_flir_segments(jpeg, data, segment_bytes=500):
    """A JPEG file with a FLIR frame in its APP1 segments, after the start of the image."""
    pieces = [data[at : at + segment_bytes] for at in range(0, len(data), segment_bytes)]
    heads = [b"FLIR\0\1" + bytes((number, len(pieces) - 1)) for number in range(len(pieces))]
    segments = [
        b"\xff\xe1" + struct.pack(">H", 2 + len(head + piece)) + head + piece
        for head, piece in zip(heads, pieces, strict=True)
    ]
    return b"".join([jpeg[:2], *segments, jpeg[2:]])


def fff(frame, order="<", directory_order=">", packing="raw", rate_hz=25):
    """A frame of FLIR: header, directory, a record of raw pixels and one of the camera. order: of the records' words."""
    pixels = frame.astype(f"{order}u2")
    payload = {
        "raw": pixels.tobytes,
        "png": lambda: encode_png(pixels.view(">u2").astype(np.uint16)),  # the camera's bytes, taken for big-endian
        "jpegls": lambda: imagecodecs.jpegls_encode(frame),
    }[packing]()
    raw = struct.pack(f"{order}3H26x", 2, *frame.shape[::-1]) + payload
    camera = struct.pack(f"{order}H", 2).ljust(0x464, b"\0") + struct.pack(f"{order}H", rate_hz) + bytes(20)
    start = 64 + 3 * 32
    entries = [(1, 2, start, len(raw)), (0x20, 1, start + len(raw), len(camera)), (0, 0, 0, 0)]
    directory = [struct.pack(f"{directory_order}2H4I12x", k, s, 100, 1, at, size) for k, s, at, size in entries]
    header = b"FFF\0" + b"test".ljust(16, b"\0") + struct.pack(f"{directory_order}3I", 100, 64, 3)
    return b"".join([header.ljust(64, b"\0"), *directory, raw, camera])


def fff_folder(path, frames):
    path.mkdir()
    for k, frame in enumerate(frames, 8):
        (path / f"frame_{k}.fff").write_bytes(fff(frame))
    return path


def seq(path, frames):
    path.with_suffix(".seq").write_bytes(b"".join(fff(frame) + bytes(7) for frame in frames))
    return path.with_suffix(".seq")


def seq_big_endian(path, frames):
    path.with_suffix(".seq").write_bytes(b"".join(fff(frame, ">", "<") for frame in frames))
    return path.with_suffix(".seq")


def seq_png(path, frames):
    path.with_suffix(".seq").write_bytes(b"".join(fff(frame, packing="png") for frame in frames))
    return path.with_suffix(".seq")


def csq(path, frames):
    path.with_suffix(".csq").write_bytes(b"".join(fff(frame, packing="jpegls") for frame in frames))
    return path.with_suffix(".csq")


def fits(path, frames):
    path.with_suffix(".fits").write_bytes(fits_hdu(frames))
    return path.with_suffix(".fits")


def fits_gzipped(path, frames):
    path.with_suffix(".fits.gz").write_bytes(gzip.compress(fits_hdu(frames)))
    return path.with_suffix(".fits.gz")


def fits_folder(path, frames):
    path.mkdir()
    for k, frame in enumerate(frames, 8):
        (path / f"frame_{k}.fit").write_bytes(fits_hdu(frame))
    return path


def fits_hdu(stored, first="SIMPLE  =                    T", **cards):
    """A header and its data. stored: an array in FITS's own types, or uint16, or None; cards: further ones."""
    shape = () if stored is None else stored.shape
    if stored is not None and stored.dtype == np.uint16:
        stored, cards = (stored ^ 0x8000).view(np.int16), {"BZERO": 32768, "BSCALE": 1} | cards
    kind = np.dtype(np.uint8) if stored is None else stored.dtype
    bits = kind.itemsize * (-8 if kind.kind == "f" else 8)
    axes = {f"NAXIS{k}": side for k, side in enumerate(reversed(shape), 1)}
    lines = [
        first,
        *(
            f"{name:<8}= {value:>20} / note"
            for name, value in {"BITPIX": bits, "NAXIS": len(shape), **axes, **cards}.items()
        ),
    ]
    header = "".join(line.ljust(80) for line in [*lines, "END"]).encode()
    data = b"" if stored is None else stored.astype(kind.newbyteorder(">")).tobytes()
    return header.ljust(-(-len(header) // 2880) * 2880) + data.ljust(-(-len(data) // 2880) * 2880, b"\0")


def tiff_stack(path, frames):
    tifffile.imwrite(path.with_suffix(".tif"), frames, photometric="minisblack")
    return path.with_suffix(".tif")


def deflated_tiff_stack(path, frames):
    tifffile.imwrite(path.with_suffix(".tiff"), frames, photometric="minisblack", compression="zlib")
    return path.with_suffix(".tiff")


def npy(path, frames):
    np.save(path.with_suffix(".npy"), frames)
    return path.with_suffix(".npy")


def npy_by_columns(path, frames):
    np.save(path.with_suffix(".npy"), np.asfortranarray(frames))
    return path.with_suffix(".npy")


def npz(path, frames):
    np.savez(path.with_suffix(".npz"), frames=frames, notes=np.arange(3))
    return path.with_suffix(".npz")


def npz_compressed(path, frames):
    np.savez_compressed(path.with_suffix(".npz"), frames=frames)
    return path.with_suffix(".npz")


def mat5(path, frames):
    content = {"frames": frames.transpose(1, 2, 0), "gain": 2.0, "name": "x"}
    scipy.io.savemat(path.with_suffix(".mat"), content, do_compression=True)
    return path.with_suffix(".mat")


def mat73(path, frames):
    with h5py.File(path.with_suffix(".mat"), "w", userblock_size=512) as file:
        file["frames"] = frames.transpose(0, 2, 1)  # MATLAB's rows x columns x frames, as presented by HDF5
        file["gain"] = np.ones((1, 1))
    return path.with_suffix(".mat")


def video(path, frames):
    return _video(path.with_suffix(".mkv"), "FFV1", frames)


def avi(path, frames):
    return _video(path.with_suffix(".avi"), "FFV1", frames)


def raw(path, frames):
    write_raw(path.with_suffix(".raw"), frames, rate_hz=25.0)
    return path.with_suffix(".raw")


def raw_big_endian(path, frames):
    """Big-endian pixels with a file header and a header before each frame."""
    path = path.with_suffix(".bin")
    parts = [b"H" * 100, *(b"F" * 7 + f.astype(f.dtype.newbyteorder(">")).tobytes() for f in frames)]
    path.write_bytes(b"".join(parts))
    height, width = frames[0].shape
    layout = {"width": width, "height": height, "dtype": frames.dtype.name, "byte_order": "big"}
    write_sidecar(path, Sidecar(header_bytes=100, frame_header_bytes=7, **layout))
    return path


def _video(path, codec, frames):
    depth = cv2.CV_16U if frames.dtype == np.uint16 else cv2.CV_8U
    options = [cv2.VIDEOWRITER_PROP_IS_COLOR, 0, cv2.VIDEOWRITER_PROP_DEPTH, depth]
    height, width = frames[0].shape
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), 25.0, (width, height), options)
    for frame in frames:
        writer.write(frame)
    writer.release()
    return path


U8, U16, F32 = np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.float32)
MEDIA = {
    png_folder: (U8, U16),
    bmp_folder: (U8,),
    tiff_folder: (U8, U16, F32),
    jpeg_folder: (U8,),
    radiometric_folder: (U16,),
    fff_folder: (U16,),
    seq: (U16,),
    seq_big_endian: (U16,),
    seq_png: (U16,),
    csq: (U16,),
    fits: (U8, U16, F32),
    fits_gzipped: (U16, F32),
    fits_folder: (U16,),
    tiff_stack: (U8, U16, F32),
    deflated_tiff_stack: (U16,),
    npy: (U8, U16, F32),
    npy_by_columns: (U16,),
    npz: (U8, U16, F32),
    npz_compressed: (U16, F32),
    mat5: (U8, U16, F32),
    mat73: (U8, U16, F32),
    video: (U8, U16),
    avi: (U8,),
    raw: (U8, U16, F32),
    raw_big_endian: (U8, U16, F32),
}
"""Each writer with the pixel types that its format supports."""
EXACT_IN_SQUARES = {jpeg_folder}
"""Writers of lossy formats that keep frames exactly only where squares of 8 x 8 px are uniform."""


def make_frames(dtype, count=12, height=24, width=32, write=None):
    """Random frames; of uniform squares for a writer that keeps no others exactly."""
    rng = np.random.default_rng(0)
    square = 8 if write in EXACT_IN_SQUARES else 1
    frames = rng.integers(0, 255 if dtype == np.uint8 else 16383, (count, height // square, width // square))
    return frames.astype(dtype).repeat(square, 1).repeat(square, 2)
