#!/usr/bin/env python3
"""A stand-in for the program rpicam-vid of a Raspberry Pi: same options, same words, same bytes. How it behaves, STAND_IN says.

Frames are raw YUV 4:2:0 with padded rows; the Y of each pixel is 16 times its row plus the frame's number, its padding is white.
"""

import os
import re
import sys
import time

# Of rpicam-vid's own; anything else is refused, as there.
KNOWN = {
    "camera",
    "width",
    "height",
    "framerate",
    "codec",
    "timeout",
    "nopreview",
    "flush",
    "verbose",
    "output",
    "list-cameras",
}
CAMERAS = """Available cameras
-----------------
0 : imx708 [4608x2592 10-bit RGGB] (/base/axi/pcie@1000120000/rp1/i2c@88000/imx708@1a)
    Modes: 'SRGGB10_CSI2P' : 1536x864 [120.13 fps - (768, 432)/3072x1728 crop]
                             2304x1296 [56.03 fps - (0, 0)/4608x2592 crop]

1 : ov5647 [2592x1944 10-bit GBRG] (/base/axi/pcie@1000120000/rp1/i2c@80000/ov5647@36)
    Modes: 'SGBRG10_CSI2P' : 640x480 [58.92 fps - (16, 0)/2560x1920 crop]
"""


def say(line):
    print(line, file=sys.stderr, flush=True)


def fail(text):
    say(f"ERROR: *** {text} ***")
    sys.exit(255)


def options(arguments):
    found = {}
    for argument in arguments:
        match = re.fullmatch(r"--([a-z-]+)(?:=(.*))?", argument)
        if match is None or match[1] not in KNOWN:
            fail(f"unrecognised option '{argument.partition('=')[0]}'")
        found[match[1]] = match[2]
    return found


def frame(number, width, height, row):
    lines = []
    for y in range(height):
        luma = (16 * (y % 8) + number) % 256
        lines.append(bytes([luma]) * width + b"\xff" * (row - width))
    chroma = (bytes([100]) * (width // 2) + b"\xff" * (row // 2 - width // 2)) * (height // 2)
    other = (bytes([150]) * (width // 2) + b"\xff" * (row // 2 - width // 2)) * (height // 2)
    return b"".join(lines) + chroma + other


def main():
    how = dict(part.partition("=")[::2] for part in os.environ.get("STAND_IN", "").split(",") if part)
    asked = options(sys.argv[1:])
    if "list-cameras" in asked:
        print("No cameras available!" if "none" in how else CAMERAS)
        return
    if "none" in how:
        fail("no cameras available")
    if int(asked["camera"]) > 1:
        fail("selected camera is not available")
    if "busy" in how:
        say("[0:00:01.0] [99] ERROR Camera camera.cpp:1035 Pipeline handler in use by another process")
        fail("failed to acquire camera /base/axi/pcie@1000120000/rp1/i2c@88000/imx708@1a")
    time.sleep(float(how.get("slow", 0)))
    width, height = int(asked["width"]) // 2 * 2, int(asked["height"]) // 2 * 2
    row = -(-width // int(how.get("row", 64))) * int(how.get("row", 64))
    for index in range(int(how.get("chatter", 3))):
        say(f"[0:00:01.{index}] [99]  INFO RPI pisp.cpp:720 libpisp version v1.2.1 {index}")
    say(
        f"[0:00:02.0] [99]  INFO Camera camera.cpp:1215 configuring streams: (0) {width}x{height}-YUV420/sYCC "
        "(1) 1536x864-BGGR_PISP_COMP1/RAW"
    )
    rate, limit = float(asked.get("framerate") or 30), int(how.get("frames", 10**9))
    extra = b"\0" * int(how.get("extra", 0))
    for number in range(limit):
        data = frame(number, width, height, row) + extra
        say(f"Viewfinder frame {number}")
        if "mute" not in how:
            say(f"FileOutput: output buffer 0x7f8e5c0000 size {len(data)}")
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        time.sleep(1 / rate)
    if "hang" in how:
        time.sleep(3600)
    if "cut" in how:
        sys.stdout.buffer.write(frame(limit, width, height, row)[: width * 3])
        sys.stdout.buffer.flush()
    if "die" in how:
        say("ERROR: Device timeout detected, attempting a restart!!!")
        sys.exit(255)


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        sys.exit(255)
