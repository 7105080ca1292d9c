"""`rtsep export`: from a checkpoint of the training to a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from rtsep.cli.train import training_libraries


def export(
    checkpoint: Annotated[Path, Parameter(name="CHECKPOINT")],
    /,
    *further: Annotated[Path, Parameter(name="FURTHER")],
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    check: Annotated[bool, Parameter(negative="--no-check")] = True,
    storage: Literal["float32", "float16", "int8"] = "float32",
    part: str | None = None,
    detector: Path | None = None,
    overwrite: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
    vad_bias: float = 0.0,
    mask_scale: float = 1.0,
    mask_shift: float = 0.0,
) -> int:
    """Make a model folder of a training's checkpoint.

    It holds a streaming ONNX file, its manifest with the checksum, and a card.

    For example:
      rtsep export runs/koretzky/last.pt -o models/koretzky --overwrite
      rtsep --model models/koretzky --input song.flac --output speakers
      rtsep export runs/a/last.pt runs/b/last.pt -o models/mine
      rtsep export runs/family/last.pt --part monitor -o models/monitor --overwrite
      rtsep export models/koretzky --detector models/live -o models/mine

    Parameters
    ----------
    checkpoint
        A file of `rtsep train`; to give koretzky another detector, its model folder is enough.
    further
        More of them, of trainings that began with the same weights: the mean of all is exported.
    output
        The model folder.
    check
        Compare the exported net with torch, frame by frame, and the whole stream with torch offline.
    storage
        float16 halves the file at the same speed (not koretzky's). int8 is smaller still, of drnn, wvpnn, cvpnn and
        dnn only.
    part
        Of a training of `family`, which holds several nets: live, monitor, karaoke, live-small, monitor-small or
        detector.
    detector
        A net of the live family, folder or checkpoint, that is koretzky's voice detector from now on.
    overwrite
        Replace a model that is already there.
    vad_bias
        Added to the logit of koretzky's voice detector: above 0 it says "voice" more often.
    mask_scale
        Of live, monitor and karaoke: the masks' logits times this; under 1 the net is less sure of itself.
    mask_shift
        And plus this: above 0 more goes to the vocals.
    """
    with training_libraries():
        from rtsep.training.export import export as write

        folder = write(
            checkpoint,
            output,
            check=check,
            overwrite=overwrite,
            storage=storage,
            say=print,
            vad_bias=vad_bias,
            mask_scale=mask_scale,
            mask_shift=mask_shift,
            further=further,
            part=part,
            detector=detector,
        )
    print(f"{folder}: write the data, licence, scores and cost into CARD.md before you pass it on")
    return 0
