"""An example sensor in Python: sends frames over ZeroMQ, as irst_stream/io/zeromq/PROTOCOL.md describes them.

    pip install numpy pyzmq msgspec
    python sensor_client.py --frames 1000 --rate 50 --width 640 --height 512 tcp://127.0.0.1:5555

Frame k, from 0, shows the moving spot that sensor_client.c draws. Nothing of the package irst_stream is used.
"""

import argparse
import sys
import time
import zlib

import msgspec
import numpy as np
import zmq


def parse():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("endpoint", help="for example tcp://127.0.0.1:5555")
    parser.add_argument("--bind", action="store_true", help="wait at the endpoint for others, rather than go to them")
    parser.add_argument("--socket", choices=("pub", "push"), default="pub", help="pub for policy live, push for lossless")
    parser.add_argument("--sensor", default="cam1")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--height", type=int, default=64)
    parser.add_argument("--frames", type=int, default=100, help="0: without end")
    parser.add_argument("--rate", type=float, default=50.0, help="frames a second")
    return parser.parse_args()


def draw(index, width, height):
    """The pixels (height, width) uint16 DN of a frame, and where its spot is: x, y px."""
    x, y = (width / 4 + 0.3 * index) % width, (height / 2 + 0.1 * index) % height
    row, column = np.ogrid[:height, :width]
    return np.rint(1000 + 2000 * np.exp(-((column - x) ** 2 + (row - y) ** 2) / 2)).astype("<u2"), (x, y)


def message(sensor, epoch, index, time_ns, pixels, spot):
    """The three parts of a frame's message: topic, header, pixels."""
    header = {
        "protocol": 1,
        "kind": "frame",
        "sensor": sensor,
        "epoch": epoch,  # a new one at each start: a receiver takes a lower index within an epoch for a late frame
        "index": index,
        "time_ns": time_ns,
        "clock": "unix",
        "dtype": "uint16",
        "shape": pixels.shape,
        "crc32": zlib.crc32(pixels),
        "full_scale": 16383,
        "metadata": {"spot": spot},
    }
    return f"frame/{sensor}/".encode(), msgspec.msgpack.encode(header), pixels


def main():
    """Send frames at their times."""
    args = parse()
    with zmq.Context() as context, context.socket(zmq.PUB if args.socket == "pub" else zmq.PUSH) as socket:
        socket.sndhwm = 64  # set before connecting; the default of 1000 frames may be gigabytes
        try:
            (socket.bind if args.bind else socket.connect)(args.endpoint)
        except zmq.ZMQError as error:
            print(f"sensor_client: {args.endpoint}: {error.strerror}", file=sys.stderr)
            return 2
        epoch, began, index = time.time_ns(), time.monotonic(), 0
        while not args.frames or index < args.frames:
            time.sleep(max(began + index / args.rate - time.monotonic(), 0))
            pixels, spot = draw(index, args.width, args.height)
            parts = message(args.sensor, epoch, index, time.time_ns(), pixels, spot)
            socket.send_multipart(parts, copy=False)
            index += 1
        return 0  # closing waits until all is sent


if __name__ == "__main__":
    sys.exit(main())
