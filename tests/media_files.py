"""Writers of every file format that open_source reads, for given frames (T, H, W)."""

import cv2
import h5py
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
