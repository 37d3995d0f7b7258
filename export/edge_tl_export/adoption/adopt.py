"""A classifier exported elsewhere becomes an edge-tl file: pixels in, logits out, contract and self-test inside."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from edge_tl_export.adoption import assembly, scores
from edge_tl_export.adoption.answers import adopted_runner, precision_of
from edge_tl_export.adoption.graph import graphs, prune
from edge_tl_export.adoption.loading import LoadedFile, load, load_bytes, opset
from edge_tl_export.adoption.notes import Notes
from edge_tl_export.adoption.picture import (
    WHOLE,
    drop_stored_inputs,
    find_picture,
    fix_inputs,
    has_free_size,
    probe_pictures,
    size_hint,
)
from edge_tl_export.adoption.preprocessing import DEFAULT, DEFAULT_GREY, PRESETS, check_channels, inside
from edge_tl_export.adoption.reading import SAYS, follows, read
from edge_tl_export.adoption.reference import Reference, ask_twice, settle
from edge_tl_export.adoption.tail import ScoreOutput
from edge_tl_export.errors import ExportError
from edge_tl_export.onnx_graph.verify import make_self_test
from edge_tl_runtime.core.errors import BadModelError, EdgeTLError, UsageError
from edge_tl_runtime.core.files import atomic_path
from edge_tl_runtime.core.text import one_line
from edge_tl_runtime.inference.classifier import Classifier
from edge_tl_runtime.modelfile.onnx import with_checksum
from edge_tl_runtime.modelfile.spec import ModelSpec, Normalization

TOLERANCE = {"fp32": 1e-3, "fp16": 2e-2, "int8": 1e-1}
"""What scores may differ by from the original's, over the largest of them; integers that round the other way move by steps."""
PROBABILITY = {"fp32": 1e-4, "fp16": 5e-3, "int8": 5e-2}
"""The same of probabilities."""
TRIED = 3
"""Pictures at once in the comparison with the original: more than one, so that a batch that is fixed shows."""
ASKED = 8
"""Pictures that the original is asked about to understand its answers."""
QUANTIZED = ("QuantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul")


@dataclass(frozen=True)
class Choices:
    """What a person says about the original where it does not say it itself.

    output: the one that holds the scores. size: height and width. fix: values of other inputs. scores: one of READINGS.
    """

    output: str = ""
    size: tuple[int, int] | None = None
    fix: Mapping[str, float] = field(default_factory=dict)
    scores: str = "auto"


@dataclass(frozen=True)
class Adopted:
    """model: the file. notes: what was recognised, changed and measured, and what is not known."""

    model: bytes
    spec: ModelSpec
    notes: Notes


class Original:
    """A foreign classifier whose two ends are understood.

    picture: what it takes. classes: labels it needs. reading: what its scores mean. inside: normalisation that it does itself.
    notes: for the person. Raises BadModelError for what is no classifier of one picture, UsageError where a choice is needed.
    """

    def __init__(self, loaded: LoadedFile, choices: Choices = Choices(), labels: int | None = None) -> None:
        """labels: how many there will be, where that is known: it tells the scores from other outputs."""
        self.name, self.sha256, self.notes = loaded.name, loaded.sha256, loaded.notes
        self.opset, self._proto = loaded.opset, loaded.proto
        self.producer = one_line(f"{loaded.proto.producer_name} {loaded.proto.producer_version}".strip(), 60)
        proto, name = loaded.proto, loaded.name
        if drop_stored_inputs(proto):
            self.notes.changed.append("stored weights that were listed as inputs are inputs no more")
        fix_inputs(proto.graph, choices.fix, name)
        self.notes.changed += settle(proto)
        self._keep(proto, choices.output)
        found = scores.candidates(proto.graph)
        size = choices.size
        if size is None and (hint := size_hint(loaded.metadata)) and has_free_size(proto.graph):
            size = hint
            self.notes.recognised.append(f"the size, {size[1]}x{size[0]} px, is from the file's metadata (imgsz)")
        self.picture = find_picture(proto.graph, name, size)
        self.notes.recognised.append(self.picture.describe())
        if self.picture.channels == 1:
            self.notes.changed.append(
                "colours become grey inside: 0.299 red + 0.587 green + 0.114 blue, as by Pillow and OpenCV, not rounded"
            )
        self.precision = precision_of(proto)
        self.inside = None if self.picture.whole else inside(proto.graph, self.picture.name)
        self._reference = Reference(proto, self.picture, [item for c in found for item in c.watched], name)
        self._understand(found, choices, labels)

    def _keep(self, proto: onnx.ModelProto, output: str) -> None:
        """Only the output that a person names, if one is named, and only what outputs need."""
        if output:
            named = [value for value in proto.graph.output if value.name == output]
            if not named:
                known = ", ".join(one_line(value.name, 40) for value in proto.graph.output)
                raise UsageError(f"{self.name} has no output {one_line(output, 40)!r}; it has: {known}")
            others = [value.name for value in proto.graph.output if value.name != output]
            if others:
                self.notes.changed.append(f"other outputs were left out: {one_line(', '.join(others), 80)}")
            kept = onnx.ValueInfoProto.FromString(named[0].SerializeToString())
            del proto.graph.output[:]
            proto.graph.output.append(kept)
        if not proto.graph.output:
            raise BadModelError(f"{self.name} has no output; export it again")
        before = {value.name for value in proto.graph.input}
        prune(proto.graph)
        gone = sorted(before - {value.name for value in proto.graph.input})
        if gone:
            self.notes.changed.append(f"inputs that no output needs were dropped: {one_line(', '.join(gone), 80)}")

    def _understand(self, found: Sequence[ScoreOutput], choices: Choices, labels: int | None) -> None:
        """Choose the scores among the outputs and find out what they mean, by asking."""
        values = self.picture.values(probe_pictures(self.picture, ASKED), "RGB", self.assumed)
        first = self._reference.one(values[:1])
        widths = [self._reference.width(first[c.tensor]) if c.tensor in first else 0 for c in found]
        listed = list(zip(found, widths, strict=True))
        index = scores.choose(listed, choices.output, labels, self._same(first, listed), self.name)
        chosen = found[index]
        ask_twice(self._reference, values[:1], chosen.tensor, self._proto, self.name)
        answers = self._reference.scores(values, chosen.tensor)
        before = None
        if chosen.before:
            before = self._reference.scores(values, chosen.before)
            before = before if before.shape == answers.shape else None
        given = first[chosen.tensor].dtype
        exact = max(PROBABILITY[self.precision], PROBABILITY["fp16"] if given == np.float16 else 0)
        self._candidate = chosen
        self.reading = read(
            chosen, answers, before, choices.scores, self.name, exact=exact, whole_numbers=given.kind in "iu"
        )
        self._kind = onnx.helper.np_dtype_to_tensor_dtype(first[chosen.before].dtype if self.reading.cut else given)
        self.classes = 2 if self.reading.two_of_one else widths[index]
        self._note_scores(listed, first[chosen.tensor], answers)

    def _same(
        self, first: Mapping[str, NDArray[np.generic]], listed: Sequence[tuple[ScoreOutput, int]]
    ) -> list[tuple[int, int]]:
        """Pairs of outputs of which the second is the first, or its softmax."""
        rows = {
            place: self._reference.flat(first[candidate.tensor])[None]
            for place, (candidate, width) in enumerate(listed)
            if width
        }
        return [
            (a, b)
            for a, one in rows.items()
            for b, other in rows.items()
            if a != b and one.shape == other.shape and follows(one, other, a < b)
        ]

    def _note_scores(
        self, listed: Sequence[tuple[ScoreOutput, int]], answer: NDArray[np.generic], answers: NDArray[np.float64]
    ) -> None:
        chosen, reading, notes = self._candidate, self.reading, self.notes
        shape = " x ".join(["N", *map(str, answer.shape[1:])]) if answer.ndim > 1 else f"{answer.shape[0]} alone"
        notes.recognised.append(
            f"scores in output {one_line(chosen.output, 40)!r}, {shape}, {answer.dtype}: {SAYS[reading.meaning]}"
        )
        if len(listed) > 1:
            others = scores.listed([item for item in listed if item[0] is not chosen])
            notes.changed.append(f"other outputs were left out: {others}")
        if chosen.dropped:
            notes.changed.append(f"{chosen.dropped} at the end was cut off: it only ranks the scores")
        if reading.cut:
            notes.changed.append(f"the {chosen.activation} at its end was cut off: attacks and calibration need logits")
        elif reading.meaning in ("probabilities", "chance", "independent"):
            notes.changed.append(
                "no activation was found that can be cut off, so a logarithm was put behind the probabilities"
            )
        if reading.meaning == "independent":
            notes.changed.append(
                "each class had a sigmoid of its own; here the classes share one softmax, so the order of the classes is the "
                "original's and the probabilities are not"
            )
        sums = answers.sum(1)
        if reading.meaning == "probabilities" and np.ptp(sums) > 1e-3 * sums.max() and not reading.cut:
            notes.changed.append(
                f"probabilities that sum to {sums.min():.3g} .. {sums.max():.3g} were divided by their sum"
            )
        elif abs(reading.total - 1) > 1e-3:
            notes.changed.append(f"probabilities that sum to {reading.total:g} were divided by it")
        if chosen.tail.parts > 1 and reading.meaning == "logits":
            notes.unknown.append(
                f"its scores are put together of {chosen.tail.parts} parts (Concat): here they share one softmax, as if just one "
                "of all classes were right"
            )
        if reading.meaning in ("logits", "odds") and answers.min() >= 0 and answers.max() <= 1:
            notes.unknown.append(
                "all scores seen lie in 0..1: if they are probabilities already, say --scores "
                + ("probabilities" if reading.two_of_one or np.allclose(sums, 1, atol=1e-3) else "sigmoid")
            )
        if np.ptp(answers, axis=0).max() == 0:
            notes.unknown.append("every test picture got the same scores: check that the file holds trained weights")
        domains = sorted({n.domain for g in graphs(self._proto.graph) for n in g.node} - {"", "ai.onnx"})
        if domains:
            notes.recognised.append(
                f"operators of {', '.join(domains)}, which onnxruntime has and other runtimes may not"
            )

    @property
    def assumed(self) -> Normalization:
        """What is taken where nobody says or measures anything: what the graph itself speaks for, else the usual."""
        if self.picture.whole:
            return WHOLE
        usual = DEFAULT_GREY if self.picture.channels == 1 else DEFAULT
        return PRESETS[(self.inside.preset() if self.inside else None) or usual].normalization

    def logits(self, values: NDArray[np.generic]) -> NDArray[np.float64]:
        """Logits of the original for its own input: values (N, ...) to (N, C)."""
        return self.reading.logits(self._reference.many(values, self._candidate.tensor))

    def adopt(self, spec: ModelSpec, pixels: NDArray[np.uint8] | None = None) -> Adopted:
        """The edge-tl file. spec: labels, crop, normalisation and colour order; size and self-test are filled in here.

        pixels: uint8 (N, H, W, 3) in the contract's colour order, of real photos to compare on as well.
        Raises UsageError when the labels do not fit, ExportError when no way keeps the original's answers.
        """
        self.check_labels(spec.labels)
        picture = self.picture
        if not picture.whole:
            check_channels(spec.normalization, picture.channels, self.name)
        spec = replace(
            spec,
            resize=replace(spec.resize, height=picture.height, width=picture.width),
            normalization=WHOLE if picture.whole else spec.normalization,
            precision=self.precision,
            parent_sha256=self.sha256,
        )
        tried = probe_pictures(picture, TRIED)
        if pixels is not None and len(pixels):
            tried = np.concatenate([tried, pixels[:ASKED]])
        values = picture.values(tried, spec.resize.color_order, spec.normalization)
        expected = self._reference.scores(values, self._candidate.tensor)
        model, difference = self._made(spec, tried, expected)
        logits = adopted_runner(model, self.name)
        spec = replace(spec, self_test=make_self_test(logits, spec, list(tried), spec.precision))
        notes = self.notes
        notes.measured.append(
            f"the original and the new file, on {len(tried)} pictures{'' if pixels is None else ', photos among them'}: "
            f"largest difference {difference}"
        )
        return Adopted(with_checksum(model, spec), spec, notes)

    def check_labels(self, labels: Sequence[str]) -> None:
        """Raises UsageError where there are more or fewer labels than classes, with what may be the reason."""
        if len(labels) == self.classes:
            return
        text = (
            f"{self.name} gives scores of shape ({self.classes},) and there are {len(labels)} labels; give those it has"
        )
        if len(labels) + 1 == self.classes:
            text += ", or say --background-first if its class 0 is the background"
        elif len(labels) - 1 == self.classes and labels[0].lower().strip("_ ") in ("background", "unknown", "none"):
            text += f": without {labels[0]!r}, which it does not have"
        raise UsageError(text)

    def _made(self, spec: ModelSpec, pixels: NDArray[np.uint8], expected: NDArray[np.float64]) -> tuple[bytes, str]:
        """The first way of putting it together that answers as the original does."""
        plain = onnx.ModelProto()
        plain.CopyFrom(self._proto)
        tensor = self._candidate.tensor
        if self.reading.cut:
            tensor = scores.cut(plain.graph, self._candidate)
        del plain.graph.output[:]
        plain.graph.output.append(onnx.helper.make_tensor_value_info(tensor, self._kind, None))
        prune(plain.graph)
        # Its answers would depend on what else is in the batch.
        mixing = any(node.op_type == "DynamicQuantizeLinear" for node in plain.graph.node)
        newer = assembly.converted(plain)
        failure: EdgeTLError | None = None
        for proto in [] if mixing else [plain] if newer is None else [newer, plain]:
            for line in assembly.batch_variants(proto, self.picture.batch):
                try:
                    made = assembly.assembled(proto, self.picture, tensor, self.reading, spec)
                    return self._checked(made, spec, pixels, expected, proto, line)
                except EdgeTLError as error:
                    failure = failure or error
        why = f"the batch is fixed at {max(1, self.picture.batch)} inside"
        if mixing:
            why = "DynamicQuantizeLinear takes one range for the whole batch, so answers depend on the other pictures"
        line = f"{why}; so pictures go through one by one: several at once take longer, and attacks have no gradients"
        try:
            last = plain if newer is None else newer
            made = assembly.one_by_one(last, self.picture, tensor, self.reading, spec)
            return self._checked(made, spec, pixels, expected, last, line)
        except EdgeTLError as error:
            raise failure or error from None

    def _checked(
        self,
        made: onnx.ModelProto,
        spec: ModelSpec,
        pixels: NDArray[np.uint8],
        expected: NDArray[np.float64],
        proto: onnx.ModelProto,
        line: str,
    ) -> tuple[bytes, str]:
        model = made.SerializeToString(deterministic=True)
        logits = adopted_runner(model, self.name)
        together = logits(pixels)
        alone = np.concatenate([logits(pixels[i : i + 1]) for i in range(len(pixels))])
        for answer in (together, alone):
            if answer.shape != (len(pixels), self.classes):
                raise BadModelError(
                    f"{self.name} answers {len(pixels)} pictures at once with scores of shape {answer.shape}; "
                    "export it with a free batch"
                )
        difference = max(self._difference(answer, expected, spec.precision) for answer in (together, alone))
        version = opset(proto)
        if version != self.opset:
            self.notes.changed.append(f"opset {self.opset} was converted to {version}")
        if line:
            self.notes.changed.append(line)
        unit = "" if self.reading.meaning in ("logits", "odds") else " of probabilities"
        return model, f"{difference:.2g}{unit}"

    def _difference(self, answer: NDArray[np.float32], expected: NDArray[np.float64], precision: str) -> float:
        """The largest one between what the new file means and what the original said. Raises ExportError for too large a one."""
        reading = self.reading
        meant = reading.as_original(answer.astype(np.float64))
        if reading.meaning == "negative-log-probabilities":
            meant, expected = -meant, -expected
        if reading.meaning in ("logits", "odds", "log-probabilities", "negative-log-probabilities"):
            finite = np.where(np.isneginf(expected), -80.0, expected)
            meant = np.where(np.isneginf(expected) & (meant < -80.0), -80.0, meant)
            allowed = TOLERANCE[precision] * max(1.0, float(np.abs(finite).max()))
        else:
            finite, allowed = expected, PROBABILITY[precision] * reading.total
            if (
                reading.meaning == "probabilities" and not reading.cut
            ):  # whole numbers and half precision do not sum to it exactly
                finite = expected * (reading.total / expected.sum(1, keepdims=True))
        worst = float(np.abs(meant - finite).max())
        if not worst <= allowed:
            behind = [operator for operator in self._candidate.tail.behind if operator in scores.HARMLESS]
            why = f": {', '.join(behind)} behind its {self._candidate.activation} changes some" if behind else ""
            way = "; say --scores probabilities to keep them" if behind and reading.cut else ""
            raise ExportError(
                f"{self.name} answers otherwise with pixels in front: scores differ by {worst:.3g}, allowed {allowed:.3g}{why}; "
                f"nothing was written{way}"
            )
        return worst


def read_original(path: str | os.PathLike[str], choices: Choices = Choices(), labels: int | None = None) -> Original:
    """An ONNX classifier from elsewhere, with the weights beside it. Raises as `Original` and `load`."""
    return Original(load(path), choices, labels)


def adopt(data: bytes, spec: ModelSpec, name: str = "the file", choices: Choices = Choices()) -> Adopted:
    """An ONNX classifier of one picture, with pixels in front, logits at its end and the contract inside.

    data: the original, weights inside. spec: labels, crop, normalisation and colour order that it was trained with; size and
    self-test are filled in here. Raises BadModelError for what is no such graph, UsageError when the labels do not fit or a
    choice is missing, ExportError when the result differs from the original.
    """
    return Original(load_bytes(data, name), choices, len(spec.labels)).adopt(spec)


def write_adopted(adopted: Adopted, target: Path) -> None:
    """Write the file, opened once as every other command opens it before it takes its name. Raises BadModelError, OutputError."""
    with atomic_path(target) as temporary:
        temporary.write_bytes(adopted.model)
        try:
            Classifier(temporary)
        except EdgeTLError as error:
            reason = str(error).replace(str(temporary), "it")
            raise ExportError(f"the file made for {target} would not open ({reason}); nothing was written") from None
