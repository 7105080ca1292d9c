"""koretzky's part of the export: its graph, its checks, and another voice detector for a net that is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from rtsep.errors import UsageError
from rtsep.separators import manifest
from rtsep.training import family, weights
from rtsep.training.data.augment import HOP
from rtsep.training.family import DETECTOR
from rtsep.training.folded import unfold
from rtsep.training.graphs import proof
from rtsep.training.graphs.graph import Carried, states
from rtsep.training.graphs.koretzky import streaming_graph
from rtsep.training.graphs.proof import Stepper
from rtsep.training.graphs.stems import WANTED, rounded
from rtsep.training.made import Made
from rtsep.training.nets.koretzky import Koretzky, NetConfig
from rtsep.training.nets.live import GRID, LiveConfig
from rtsep.training.nets.spectrum import BINS, CONTEXT

#: Probability of voice from which koretzky's gate opens. The detector says "voice" from 0.5 on; a voice that is cut off
#: is worse than music that is let through, so the gate waits until it is sure (chosen on dev songs).
GATE_FROM = 0.2


def restore(checkpoint: dict[str, Any]) -> Koretzky:
    """The net of a checkpoint with the running mean of its weights, ready to infer."""
    model = Koretzky(NetConfig.from_dict(checkpoint["net"]))
    model.load_state_dict(checkpoint["mean"])
    return model.eval()


def deviation(model: Koretzky, onnx_bytes: bytes, carried: Carried, frames: int = 120, seed: int = 0) -> float:
    """Largest difference of mask, shares or voice probability: ONNX Runtime, frame by frame, and torch, in one pass.

    The test sound is noise at changing level with digital silence at the start and in the middle.
    """
    import onnxruntime

    rng = np.random.default_rng(seed)
    loud = 10 ** rng.uniform(-3, 2, (frames, 1))
    magnitude = (np.abs(rng.standard_normal((frames, BINS))) * loud).astype(np.float32)
    magnitude[:3] = 0
    magnitude[frames // 2 : frames // 2 + 10] = 0
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(onnx_bytes, options, providers=["CPUExecutionProvider"])
    step = Stepper(session, "magnitude", ("mask", "vad"), carried, {} if model.stems is None else {WANTED: [1.0]})
    mask, vad = (x.numpy() for x in model.infer(torch.from_numpy(magnitude)))
    mask = mask[:, None]
    if model.stems is not None:
        mask = np.concatenate([mask, model.infer_shares(torch.from_numpy(magnitude)).numpy()], axis=1)
    worst = 0.0
    for t in range(frames):
        got_mask, got_vad = step(magnitude[t : t + 1])
        worst = max(worst, float(np.abs(got_mask - mask[t]).max()), float(np.abs(got_vad[0] - vad[t]).max()))
    return worst


def with_detector(values: dict[str, Any], detector: Path) -> dict[str, Any]:
    """A checkpoint of koretzky whose voice detector is the net of the live family in `detector`.

    Raises
    ------
    UsageError
        No such net, one without a voice detector or of other sizes; a koretzky that looks ahead.
    """
    if values["name"] != "koretzky":
        raise UsageError(f"--detector {detector}: it is for koretzky, not for {values['name']}")
    if values["config"]["lookahead"]:
        raise UsageError(f"--detector {detector}: a detector hears nothing of what koretzky looks ahead by")
    whole, found = weights.first_weights(detector)
    if not whole.voice:
        raise UsageError(f"--detector {detector}: that net does not tell whether anybody sings")
    net, mean = weights.part(whole, found, family.member(whole, DETECTOR))
    if net != LiveConfig(hop=GRID, blocks=net.blocks):
        raise UsageError(f"--detector {detector}: that net has other sizes than `rtsep train detector` gives")
    own = {name: value for name, value in values["mean"].items() if not name.startswith(("vad_net.", "vad_bands."))}
    own |= {f"vad_bands.{name}": value for name, value in mean.items()}
    return values | {"net": values["net"] | {"vad_blocks": net.blocks}, "mean": own}


def of_folder(folder: Path) -> dict[str, Any]:
    """What the file of a koretzky holds, as a checkpoint."""
    model = unfold(folder)
    target = "magnitude" if model.config.output == "magnitude" else "soft"
    config = {"target": target, "lookahead": manifest.read(folder).tensors.lookahead}
    return {"name": "koretzky", "net": model.config.to_dict(), "mean": model.state_dict(), "config": config}


def koretzky(values: dict[str, Any], vad_bias: float = 0.0) -> Made:
    """What the folder of a koretzky needs; `vad_bias` is added to the detector's logit."""
    model = restore(values)
    with torch.no_grad():
        if model.vad_net is not None:
            model.vad_net.out.bias += vad_bias
        if model.vad_bands is not None:
            voice = model.vad_bands.bands.voice
            assert voice is not None
            voice.out.bias += vad_bias
            model.vad_bands = proof.rounded(model.vad_bands)
    if model.stems is not None:
        model.stems = rounded(model.stems)
    proto, carried = streaming_graph(model)
    data = proto.SerializeToString()
    what = {"binary": "draws a binary vocal mask", "magnitude": "estimates the magnitude of the voice"}
    what_for = what.get(values["config"]["target"], "draws the vocal mask")
    ahead = f" {values['config']['lookahead']} hops ago" if values["config"]["lookahead"] else ""
    stems = ", tells stems of the accompaniment apart" if model.stems is not None else ""
    detector = "a voice detector of the live family" if model.vad_bands is not None else "a voice detector"
    summary = f"CNN over 25 frames (0.3 s) that {what_for}{ahead}{stems}, {detector}"
    return Made(
        data,
        states(carried, CONTEXT),
        lambda: deviation(model, data, carried),
        summary,
        HOP,
        "mid_magnitude",
        BINS,
        "magnitude",
        'vad = "vad"\n' + (f'stems = ["drums", "bass"]\nstems_wanted = "{WANTED}"\n' if stems else ""),
        values["config"]["lookahead"],
        parameters={"binary": 0.0, "threshold": 0.5, "vad_threshold": GATE_FROM},
    )
