"""Frames of a video or a network stream by FFmpeg (PyAV), and only those that were decoded whole.

FFmpeg conceals what it cannot decode: a lost part becomes a smear of the picture before, a lost reference a grey area. Such
frames, those after them up to the next key frame, and those before the first one are not given but counted.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections import Counter, deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.logging
from av.container import InputContainer
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from edge_tl_runtime.core.errors import SourceError
from edge_tl_runtime.images.decode import MAX_MEGAPIXELS, Frame
from edge_tl_runtime.sources.address import parse_address, shown_address
from edge_tl_runtime.sources.decoding.pixels import Deinterlacer, NotWritten, Painter
from edge_tl_runtime.sources.decoding.reasons import unknown_codec, why_no_stream, why_no_video
from edge_tl_runtime.sources.decoding.wholeness import Times, cut_short, has_hashes

EARLY = "before the first key frame"
DAMAGED = "damaged"
AFTER_DAMAGE = "after damage, until the next key frame"
UNWRITTEN = "not written by the decoder"
TOO_LARGE = f"of more than {MAX_MEGAPIXELS} megapixels"

NO_KEYS = 300
"""Frames without a key frame after which frames are taken as the decoder gives them: with gradual refresh (intra refresh) there
are no key frames. Only decoders that withhold frames they cannot restore are trusted so (_WITHHOLD)."""
MAX_HELD = 64
"""Frames that a decoder may hold."""
_WITHHOLD = ("h264", "hevc")
_LOST_REFERENCE = "Could not find ref with POC"
"""FFmpeg's word for an H.265 frame that refers to one that never came: it is left out, and only the log tells."""
_LOST_PACKETS = re.compile(r"missed -?\d+ packets|jitter buffer full|max delay reached|packets? lost", re.IGNORECASE)
# For a network stream. TCP first, UDP where the server offers nothing else; a short look at the stream, of which every packet is
# kept: with nobuffer, FFmpeg throws the first key frame away while it looks.
_LIVE_OPTIONS = {"rtsp_flags": "prefer_tcp", "analyzeduration": "300000", "fpsprobesize": "2"}


class Decoder:
    """One video track. grab, then retrieve, until grab says False.

    name: a path or URL; what is secret in it is never shown. live: frames are wanted as they come: no buffer, no threads that
    work on several frames at once. open_s, read_s: patience with a network. file: read from this instead; format: FFmpeg's
    name for what is in it, where that cannot be found out.
    """

    def __init__(
        self,
        name: str,
        *,
        live: bool = False,
        open_s: float = 15.0,
        read_s: float = 10.0,
        file: Any = None,
        format: str | None = None,
    ) -> None:
        """Raises SourceError with the reason in words."""
        self.shown = shown_address(name)
        self.live = live
        self.rejections: Counter[str] = Counter()
        self.notes: list[str] = []
        self.ended = False
        self.error = ""
        self.key_frame = False
        self.seconds = 0.0
        """Position of the frame just grabbed, from the first one on."""
        self.captured = 0.0
        """`time.monotonic()` when its packet arrived."""
        self._name = name
        self._log: list[tuple[int, str, str]] = []
        self._capture: av.logging.Capture | None = None
        self._ready: deque[tuple[av.VideoFrame, bool]] = deque()
        self._frame: av.VideoFrame | None = None
        self._told = (0, 0)
        self._deinterlacer: Deinterlacer | None = None
        self._passed = self._given = self._fed = self._decoded = self._discarded = 0
        self._times = Times()
        self._first_time: float | None = None
        self._container = self._open(file, format, open_s, read_s)
        try:
            self._stream = self._chosen()
            self._prepare()
        except BaseException:
            self.close()
            raise

    # What it says of itself.

    @property
    def codec(self) -> str:
        return str(self._stream.codec_context.name)

    @property
    def intra_only(self) -> bool:
        """Whether every frame is coded by itself, as in MJPEG."""
        return bool(self._stream.codec_context.codec.intra_only) or self.codec == "mjpeg"

    @property
    def fps(self) -> float:
        """Frames a second as the stream says; 0 where it does not, or says what cannot be."""
        rate = self._stream.average_rate or self._stream.guessed_rate
        return float(rate) if rate and 0 < rate <= 1000 else 0.0

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as coded; 0, 0 until the first frame where the stream does not say."""
        return int(self._stream.codec_context.width), int(self._stream.codec_context.height)

    # Frames.

    def grab(self) -> bool:
        """Go on to the next frame that was decoded whole. False at the end; `error` says where that was no proper one."""
        while not self._ready:
            if self.ended:
                return False
            self._read()
        frame, self.key_frame = self._ready.popleft()
        self.captured = frame.opaque if isinstance(frame.opaque, float) else time.monotonic()
        self._note_position(frame)
        self._frame = frame
        return True

    def retrieve(self, out: Frame | None) -> Frame | None:
        """The frame as uint8 (H, W, 3), BGR, in `out` where that has the right shape. None, and counted, where that fails."""
        assert self._frame is not None
        shape = (self._frame.width, self._frame.height)
        if self._told != shape:
            self._told = shape
            self.notes += [f"{self.shown}: {line}" for line in self._painter.said(self._frame)]
        try:
            return self._painter.paint(self._frame, out)
        except (NotWritten, av.FFmpegError):
            self.rejections[UNWRITTEN] += 1
            return None

    def close(self) -> None:
        self._ready.clear()
        self._container.close()
        if self._capture is not None:
            self._capture.__exit__(None, None, None)
            self._capture = None

    # How it is opened.

    def _open(self, file: Any, format: str | None, open_s: float, read_s: float) -> InputContainer:
        address = parse_address(self._name)
        options = _LIVE_OPTIONS if self.live and (address or file is not None) else {}
        av.logging.set_level(av.logging.VERBOSE)
        began = time.monotonic()
        try:
            with av.logging.Capture() as log:
                return av.open(
                    file if file is not None else address.url if address else self._name,
                    "r",
                    format=format,
                    options=dict(options),
                    timeout=(open_s, read_s),
                    metadata_errors="replace",
                )
        except (av.FFmpegError, OSError, ValueError) as error:
            lines = [line for _, _, line in log]
            if time.monotonic() - began >= 0.95 * open_s:
                lines.append("timed out")  # FFmpeg itself says that the data are invalid
            if "://" in self._name or file is not None:
                raise SourceError(why_no_stream(self._name, error, lines)) from None
            raise SourceError(
                why_no_video(self._name, error, [line for level, _, line in log if level <= av.logging.ERROR])
            ) from None
        finally:
            self._opening_log = [line for _, _, line in log]
            # Worker threads that log would wait for the interpreter, which may wait for them.
            av.logging.set_level(None)

    def _chosen(self) -> VideoStream:
        """The track to read: no cover picture, and the one FFmpeg takes for the best."""
        tracks = [track for track in self._container.streams.video if not track.disposition & Disposition.attached_pic]
        if not tracks:
            sound = any(track.type == "audio" for track in self._container.streams)
            cover = " and a cover picture" if self._container.streams.video else ""
            if not sound and "://" not in self._name and (cut := cut_short(Path(self._name))):
                raise SourceError(f"{self.shown} is cut short: {cut}, and what is there names no video; copy it again")
            raise SourceError(
                f"{self.shown} holds {f'sound{cover}' if sound else 'no track'} and no video; check that it is the right one"
            )
        best = self._container.streams.best("video")
        chosen = next((track for track in tracks if track is best), tracks[0])
        if chosen.codec_context is None:
            raise SourceError(unknown_codec(self._name, self._opening_log))
        if len(tracks) > 1:
            width, height = chosen.codec_context.width, chosen.codec_context.height
            place = tracks.index(chosen) + 1
            self.notes.append(f"{self.shown} holds {len(tracks)} videos; number {place} is used ({width}x{height})")
        return chosen

    def _prepare(self) -> None:
        codec = self._stream.codec_context
        width, height = self.size
        if width * height > 1e6 * MAX_MEGAPIXELS:
            raise SourceError(
                f"{self.shown} is {width}x{height}, {TOO_LARGE.removeprefix('of ')}; convert it to a smaller size"
            )
        codec.options = {"max_pixels": str(int(1e6 * MAX_MEGAPIXELS))}
        codec.thread_type = "SLICE" if self.live else "AUTO"
        codec.copy_opaque = True
        if self.live:
            av.logging.set_level(av.logging.WARNING)
            self._capture = av.logging.Capture(local=False)
            self._log = self._capture.__enter__()
        for track in self._container.streams:
            track.discard = Discard.default if track is self._stream else Discard.all
        self._painter = Painter(self._stream.sample_aspect_ratio)
        self._packets = self._container.demux(self._stream)
        self._waiting = "" if self.intra_only else EARLY
        # Which frames it hit that packets were lost while FFmpeg looked at the stream, nobody knows: the first group is left out.
        self._spoiled = self._lost(self._opening_log) and not self.intra_only

    # How it reads.

    def _read(self) -> None:
        """One packet, and what comes of it."""
        began = time.monotonic()
        try:
            packet = next(self._packets, None)
        except (av.FFmpegError, OSError) as error:
            self._fail(error, time.monotonic() - began)
            return
        lost = self._lost([text for _, _, text in self._log])
        self._log.clear()
        if packet is None:
            self.ended = True
            return
        if packet.size == 0:
            self._take(None)
            self._release()
            return
        if not self.live:
            self._times.add(packet.pts if packet.pts is not None else packet.dts)
            self._discarded += packet.is_discard
        if lost or packet.is_corrupt:
            self._take(None)  # what the decoder holds came before
            self._stream.codec_context.flush_buffers()
            self._fed = self._decoded = 0
            self._damage()
        elif self._may_decode(packet):
            codec = self._stream.codec_context
            if not codec.is_open and codec.name == "hevc" and has_hashes(bytes(packet)):
                codec.options = {**codec.options, "err_detect": "crccheck+explode"}
            packet.opaque = time.monotonic()
            self._fed += 1
            self._take(packet)

    @staticmethod
    def _lost(log: list[str]) -> bool:
        """Whether the network lost packets, as FFmpeg's log tells."""
        return any(_LOST_PACKETS.search(line) for line in log)

    def _may_decode(self, packet: av.Packet[VideoStream]) -> bool:
        """Whether the references that a packet needs are there; counts it where not."""
        if self.codec == "mjpeg" and b"\xff\xd9" not in bytes(memoryview(packet)[-1024:]):
            self.rejections[DAMAGED] += 1  # FFmpeg fills what is missing of a JPEG, without a word
            return False
        if not self._waiting:
            return True
        if packet.is_keyframe and self._spoiled:
            self._spoiled, self._waiting = False, AFTER_DAMAGE
        elif packet.is_keyframe or (self._passed >= NO_KEYS and self.codec in _WITHHOLD):
            if self._waiting == AFTER_DAMAGE:
                self._begin_anew()
            self._waiting, self._passed = "", 0
            return True
        self._passed += 1
        self.rejections[self._waiting] += 1
        return False

    def _begin_anew(self) -> None:
        """Have the decoder forget what it holds and what it swallowed, which is counted: with threads, several frames."""
        codec = self._stream.codec_context
        with contextlib.suppress(av.FFmpegError):
            codec.decode(None)
        codec.flush_buffers()
        lost = self._fed - self._decoded
        if 0 < lost <= MAX_HELD:  # else it does not take one packet for each frame
            self.rejections[AFTER_DAMAGE] += lost
        self._fed = self._decoded = 0

    def _take(self, packet: av.Packet[VideoStream] | None) -> None:
        try:
            frames = self._stream.codec_context.decode(packet)
        except av.EOFError:
            return
        except av.FFmpegError:
            self._decoded += 1
            self._damage()
            return
        torn = any(_LOST_REFERENCE in text for _, _, text in self._log)
        self._decoded += len(frames) + torn
        for frame in frames:
            if frame.is_corrupt:
                self._damage()
            elif self._waiting:
                self.rejections[self._waiting] += 1
            elif frame.width * frame.height > 1e6 * MAX_MEGAPIXELS:
                self.rejections[TOO_LARGE] += 1
            else:
                self._ready.extend((whole, frame.key_frame) for whole in self._unwoven(frame))
        if torn:  # the frames just given came before
            self._damage()

    def _damage(self) -> None:
        self.rejections[DAMAGED] += 1
        if not self.intra_only:
            self._waiting = AFTER_DAMAGE
        self._release()

    def _release(self) -> None:
        """Give what the deinterlacer holds back: it must not be mixed with what comes after a gap."""
        self._ready.extend((frame, False) for frame in self._unwoven(None))

    def _unwoven(self, frame: av.VideoFrame | None) -> Iterator[av.VideoFrame]:
        """Frames without the combs of interlacing. None: what is held back."""
        weave = self._deinterlacer
        if weave is not None and (frame is None or not weave.fits(frame)):
            self._deinterlacer = None
            yield from weave.push(None)
        if frame is None:
            return
        if self._deinterlacer is None and frame.interlaced_frame:
            self._deinterlacer = Deinterlacer(frame, frame.time_base or Fraction(1, 90000))
            line = f"{self.shown}: it is interlaced; its half pictures are made whole (bwdif), each a frame later"
            if line not in self.notes:
                self.notes.append(line)
        if self._deinterlacer is None:
            yield frame
        else:
            yield from self._deinterlacer.push(frame)

    def _fail(self, error: Exception, waited: float) -> None:
        """The network, or the end of a file that is cut short, said no more."""
        self.ended = True
        if "://" in self._name and waited > 1.0:
            self.error = f"lost {self.shown}: it sent nothing for {waited:.0f} s"
        elif "://" in self._name:
            self.error = why_no_stream(self._name, error, [text for _, _, text in self._log]).replace(
                "cannot open", "lost", 1
            )
        else:
            self.notes.append(f"{self.shown}: reading ended early: {getattr(error, 'strerror', error)}")

    def _note_position(self, frame: av.VideoFrame) -> None:
        now = None if frame.pts is None else frame.time
        if self._given == 0:
            self._first_time = now
        elif now is not None and self._first_time is not None and now - self._first_time > self.seconds:
            self.seconds = now - self._first_time
        else:
            self.seconds += 1 / (self.fps or 25.0)
        self._given += 1

    def missing(self) -> str:
        """At the end of a file: what it says that it holds and did not give, in words; "" where that is all."""
        got = self._given + self.rejections.total()
        told = max(0, self._stream.frames - self._discarded)
        length = self._told_seconds()
        rejected = f", {self.rejections.total()} rejected" if self.rejections else ""
        cut = "" if "://" in self._name else cut_short(Path(self._name))
        why = f"it is cut short: {cut}" if cut else "it is cut short or damaged"
        if told > got:
            return f"{self.shown} says that it holds {told} frames, {self._given} could be read{rejected}: {why}"
        base = self._stream.time_base
        end = (
            round(length / base) + (self._stream.start_time or 0 if self._stream.duration else 0)
            if base and length
            else None
        )
        lost = 0 if told else self._times.missing(end)
        if lost:
            return f"{self.shown}: {self._given} frames could be read{rejected}, about {lost} are missing: {why}"
        return f"{self.shown} is cut short: {cut}; all that is there was read" if cut else ""

    def _told_seconds(self) -> float:
        stream = self._stream
        if stream.duration and stream.time_base:
            return float(stream.duration * stream.time_base)
        found = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
        return 3600 * int(found[1]) + 60 * int(found[2]) + float(found[3]) if found else 0.0
